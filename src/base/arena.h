/* Memory freed all at once: one arena a lifetime (model, session, request, step). */
#ifndef SHOAL_BASE_ARENA_H
#define SHOAL_BASE_ARENA_H

#include "base/bytes.h"
#include "base/error.h"

struct arena_block;

/* Caller's struct; zero bytes is an empty arena without a limit. Not safe across threads. */
struct arena {
    struct arena_block *head;
    size_t used;  /* bytes handed out, alignment included */
    size_t limit; /* most bytes it may hand out; 0: no limit */
};

/* An empty arena that hands out at most limit bytes; 0: no limit. */
void arena_init(struct arena *a, size_t limit);

/* Zeroed memory aligned to 64 bytes when size >= 64, else to 16. NULL when the limit or the
 * system's memory is reached. size 0 gives a valid pointer. */
void *arena_alloc(struct arena *a, size_t size);

/* A NUL-terminated copy; NULL as above. */
char *arena_text(struct arena *a, struct bytes text);

/* Keeps the largest block for reuse and forgets the rest; all pointers from it end. */
void arena_reset(struct arena *a);

/* Frees everything; the arena is empty and usable again. */
void arena_done(struct arena *a);

/* n zeroed elements of a type, typed; see arena_alloc_array(). */
#define arena_array(a, type, n) ((type *)arena_alloc_array(a, (size_t)(n), sizeof(type)))

/* n zeroed elements of size bytes, or NULL (also when n * size overflows). */
void *arena_alloc_array(struct arena *a, size_t n, size_t size);

#endif

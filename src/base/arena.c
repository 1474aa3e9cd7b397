/* Arenas: see arena.h. Blocks double in size up to a bound so that small arenas stay small. */
#include "base/arena.h"

#include <stdlib.h>

#define BLOCK_MIN ((size_t)4096)
#define BLOCK_MAX ((size_t)1 << 20)
#define ALIGN ((size_t)64)

struct arena_block {
    struct arena_block *next;
    size_t size; /* of data */
    size_t used;
    uint8_t *data; /* aligned to ALIGN, inside the same allocation */
};

void arena_init(struct arena *a, size_t limit)
{
    *a = (struct arena){ .limit = limit };
}

static struct arena_block *block_new(size_t size)
{
    struct arena_block *b = calloc(1, sizeof(*b) + size + ALIGN);
    if (!b)
        return NULL;
    b->size = size;
    uintptr_t start = (uintptr_t)(b + 1);
    b->data = (uint8_t *)size_round_up(start, ALIGN);
    return b;
}

void *arena_alloc(struct arena *a, size_t size)
{
    size_t align = size >= ALIGN ? ALIGN : 16;
    if (size > SIZE_MAX / 2)
        return NULL;
    size_t need = size_round_up(size ? size : 1, align);
    if (a->limit && need > a->limit - (a->used < a->limit ? a->used : a->limit))
        return NULL;
    struct arena_block *b = a->head;
    size_t at = b ? size_round_up(b->used, align) : 0;
    if (!b || at > b->size || need > b->size - at) {
        size_t grow = b ? b->size * 2 : BLOCK_MIN;
        if (grow > BLOCK_MAX)
            grow = BLOCK_MAX;
        struct arena_block *fresh = block_new(need > grow ? need : grow);
        if (!fresh)
            return NULL;
        fresh->next = b;
        a->head = b = fresh;
        at = 0;
    }
    b->used = at + need;
    a->used += need;
    return b->data + at;
}

void *arena_alloc_array(struct arena *a, size_t n, size_t size)
{
    uint64_t total;
    if (size_mul_overflow(n, size, &total) || total > SIZE_MAX)
        return NULL;
    return arena_alloc(a, (size_t)total);
}

char *arena_text(struct arena *a, struct bytes text)
{
    if (text.size == SIZE_MAX)
        return NULL;
    char *copy = arena_alloc(a, text.size + 1);
    if (copy && text.size)
        memcpy(copy, text.data, text.size);
    return copy;
}

void arena_reset(struct arena *a)
{
    struct arena_block *keep = NULL;
    for (struct arena_block *b = a->head, *next; b; b = next) {
        next = b->next;
        if (!keep || b->size > keep->size) {
            free(keep);
            keep = b;
        } else {
            free(b);
        }
    }
    if (keep) {
        memset(keep->data, 0, keep->used);
        keep->used = 0;
        keep->next = NULL;
    }
    a->head = keep;
    a->used = 0;
}

void arena_done(struct arena *a)
{
    for (struct arena_block *b = a->head, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    a->head = NULL;
    a->used = 0;
}

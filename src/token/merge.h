/* The best pair first: what BPE and SPM share. Symbols start as single characters of one text and
 * are merged pair by pair, the smallest key first and the leftmost among equals, by a heap: time
 * n log n for n characters, whatever the text. */
#ifndef SHOAL_TOKEN_MERGE_H
#define SHOAL_TOKEN_MERGE_H

#include "base/bytes.h"
#include "base/error.h"

struct symbol {
    int32_t id;           /* token or symbol, -1: none is spelt so */
    uint32_t start, size; /* bytes of the text; size 0: merged away */
    int32_t prev, next;   /* -1: none */
};

/* Whether a and b (neighbours) may merge: *key orders merges, *result is the merged symbol. */
typedef bool merge_pair_fn(const void *arg, const uint8_t *text, const struct symbol *a,
                           const struct symbol *b, uint32_t *key, int32_t *result);

struct merger {
    merge_pair_fn *pair;
    const void *arg;
    const uint8_t *text; /* borrowed during merger_run */
    struct symbol *symbols;
    size_t count, capacity;
    uint64_t *heap; /* key << 32 | index of the left symbol */
    size_t heap_count, heap_capacity;
};

/* An empty merger; pair and arg are borrowed. done frees its memory. */
void merger_init(struct merger *m, merge_pair_fn *pair, const void *arg);
void merger_done(struct merger *m);

/* Forgets the symbols; text is what the next ones are cut from. */
void merger_start(struct merger *m, const uint8_t *text);
/* Appends a symbol of `size` bytes after the last. FAIL_NOMEM. */
int merger_add(struct merger *m, int32_t id, size_t size, struct error *e);
/* Merges until no pair is left; the symbols that remain are linked from index 0. FAIL_NOMEM. */
int merger_run(struct merger *m, struct error *e);

#endif

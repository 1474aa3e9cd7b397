/* Merging by a heap: see merge.h. */
#include "token/merge.h"

#include <stdlib.h>

#include "base/array.h"

void merger_init(struct merger *m, merge_pair_fn *pair, const void *arg)
{
    *m = (struct merger){ .pair = pair, .arg = arg };
}

void merger_done(struct merger *m)
{
    free(m->symbols);
    free(m->heap);
    *m = (struct merger){ 0 };
}

void merger_start(struct merger *m, const uint8_t *text)
{
    m->text = text;
    m->count = 0;
    m->heap_count = 0;
}

int merger_add(struct merger *m, int32_t id, size_t size, struct error *e)
{
    struct symbol *grown =
        array_grow(m->symbols, &m->capacity, m->count + 1, sizeof(*grown), INT32_MAX);
    if (!grown)
        return fail(e, FAIL_NOMEM, "a word of %zu characters", m->count);
    m->symbols = grown;
    int32_t i = (int32_t)m->count++;
    uint32_t start = i ? m->symbols[i - 1].start + m->symbols[i - 1].size : 0;
    m->symbols[i] = (struct symbol){
        .id = id, .start = start, .size = (uint32_t)size, .prev = i - 1, .next = -1
    };
    if (i)
        m->symbols[i - 1].next = i;
    return 0;
}

static int heap_push(struct merger *m, uint64_t key, struct error *e)
{
    uint64_t *grown =
        array_grow(m->heap, &m->heap_capacity, m->heap_count + 1, sizeof(*grown), SIZE_MAX);
    if (!grown)
        return fail(e, FAIL_NOMEM, "%zu pairs to merge", m->heap_count);
    m->heap = grown;
    size_t i = m->heap_count++;
    while (i > 0 && m->heap[(i - 1) / 2] > key) {
        m->heap[i] = m->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    m->heap[i] = key;
    return 0;
}

static uint64_t heap_pop(struct merger *m)
{
    uint64_t top = m->heap[0];
    uint64_t last = m->heap[--m->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= m->heap_count)
            break;
        if (child + 1 < m->heap_count && m->heap[child + 1] < m->heap[child])
            child++;
        if (m->heap[child] >= last)
            break;
        m->heap[i] = m->heap[child];
        i = child;
    }
    m->heap[i] = last;
    return top;
}

/* Queues the pair that starts at symbol `left`, if it may merge. */
static int consider(struct merger *m, int32_t left, struct error *e)
{
    uint32_t key;
    int32_t result;
    if (left < 0 || m->symbols[left].next < 0)
        return 0;
    const struct symbol *a = &m->symbols[left];
    if (!m->pair(m->arg, m->text, a, &m->symbols[a->next], &key, &result))
        return 0;
    return heap_push(m, (uint64_t)key << 32 | (uint32_t)left, e);
}

int merger_run(struct merger *m, struct error *e)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i + 1 < m->count; i++)
        r = consider(m, (int32_t)i, e);
    while (r == 0 && m->heap_count) {
        uint64_t top = heap_pop(m);
        int32_t left = (int32_t)(top & UINT32_MAX);
        uint32_t key;
        int32_t result;
        struct symbol *a = &m->symbols[left];
        /* An entry is stale when one of its symbols changed meanwhile. Its key tells: another
         * pair at this place has another key, or the same key and the same right to merge. */
        if (a->size == 0 || a->next < 0)
            continue;
        struct symbol *b = &m->symbols[a->next];
        if (!m->pair(m->arg, m->text, a, b, &key, &result) || key != (uint32_t)(top >> 32))
            continue;
        a->id = result;
        a->size += b->size;
        b->size = 0;
        a->next = b->next;
        if (a->next >= 0)
            m->symbols[a->next].prev = left;
        r = consider(m, a->prev, e);
        if (r == 0)
            r = consider(m, left, e);
    }
    return r;
}

/* Headers of data messages, and the list of a plan's channels. Pure. */
#include "stage/wire.h"

#include "base/cursor.h"

#include <assert.h>

/* "SHD1" */
#define WIRE_MAGIC 0x31444853u

static void put_u32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

void wire_encode(const struct wire_header *h, uint8_t out[static WIRE_HEADER])
{
    put_u32(out, WIRE_MAGIC);
    put_u32(out + 4, (uint32_t)h->kind | (h->link ? 0x100u : 0));
    put_u32(out + 8, h->epoch);
    put_u32(out + 12, (uint32_t)h->step);
    put_u32(out + 16, (uint32_t)(h->step >> 32));
    put_u32(out + 20, h->first_row);
    put_u32(out + 24, h->n_rows);
    put_u32(out + 28, h->first_col);
    put_u32(out + 32, h->n_cols);
    put_u32(out + 36, (uint32_t)h->code);
}

static int wire_check(const struct wire_header *h, uint64_t payload, struct error *e)
{
    if (h->kind == 0 || h->kind >= WIRE_KIND_END) {
        return fail(e, FAIL_FORMAT, "data message of unknown kind %d", (int)h->kind);
    }
    if (h->n_rows > STEP_MAX_ROWS || h->first_row > STEP_MAX_ROWS) {
        return fail(e, FAIL_FORMAT, "data message with rows %u+%u, more than %d", h->first_row,
                    h->n_rows, STEP_MAX_ROWS);
    }
    if ((h->kind == WIRE_LOGITS || h->kind == WIRE_STATES) &&
        payload != (uint64_t)h->n_rows * h->n_cols * sizeof(float)) {
        return fail(e, FAIL_FORMAT, "logits message of %llu bytes for %u rows of %u",
                    (unsigned long long)payload, h->n_rows, h->n_cols);
    }
    if (h->kind == WIRE_ERROR && payload > WIRE_ERROR_TEXT) {
        return fail(e, FAIL_FORMAT, "error message of %llu bytes, more than %d",
                    (unsigned long long)payload, WIRE_ERROR_TEXT);
    }
    if (h->kind == WIRE_DONE && payload != 0) {
        return fail(e, FAIL_FORMAT, "%llu bytes after a done message", (unsigned long long)payload);
    }
    return 0;
}

int wire_decode(struct bytes message, struct wire_header *ret, struct error *e)
{
    struct cursor c;
    cursor_init(&c, message, e);
    uint32_t magic = cursor_u32(&c, "magic");
    uint32_t kind = cursor_u32(&c, "kind");
    struct wire_header h = { 0 };
    h.kind = (enum wire_kind)(kind & 0xff);
    h.link = (kind & 0x100) != 0;
    h.epoch = cursor_u32(&c, "epoch");
    h.step = cursor_u64(&c, "step");
    h.first_row = cursor_u32(&c, "first row");
    h.n_rows = cursor_u32(&c, "rows");
    h.first_col = cursor_u32(&c, "first column");
    h.n_cols = cursor_u32(&c, "columns");
    h.code = (int32_t)cursor_u32(&c, "code");
    if (c.failed) {
        return wrap(e, "data message");
    }
    if (magic != WIRE_MAGIC) {
        return fail(e, FAIL_FORMAT, "data message does not begin with its magic");
    }
    int code = wire_check(&h, cursor_left(&c), e);
    if (code == 0) {
        *ret = h;
    }
    return code;
}

int wire_source(const struct placement_plan *plan, int rank)
{
    int s = plan_stage_of(plan, rank);
    if (s == 0) {
        return WIRE_HEAD;
    }
    const struct plan_stage *before = &plan->stages[s - 1];
    return before->rank + (rank - plan->stages[s].rank) % before->n_ranks;
}

int wire_links(const struct placement_plan *plan, struct wire_link ret[static WIRE_MAX_LINKS])
{
    int n = 0;
    for (int r = 0; r < plan->n_ranks; r++) {
        ret[n++] = (struct wire_link){ LINK_STEPS, WIRE_HEAD, r };
    }
    for (int r = plan->stages[0].n_ranks; r < plan->n_ranks; r++) {
        ret[n++] = (struct wire_link){ LINK_HIDDEN, wire_source(plan, r), r };
    }
    for (int s = 0; s < plan->n_stages; s++) {
        const struct plan_stage *stage = &plan->stages[s];
        for (int i = 0; i < stage->n_ranks; i++) {
            for (int j = i + 1; j < stage->n_ranks; j++) {
                ret[n++] = (struct wire_link){ LINK_GROUP, stage->rank + i, stage->rank + j };
            }
        }
    }
    assert(n <= WIRE_MAX_LINKS);
    return n;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Elements of a row of all these values. */
static size_t widths(const struct program *p, const int *values, int n)
{
    size_t sum = 0;
    for (int i = 0; i < n; i++) {
        sum += (size_t)p->values[values[i]].width;
    }
    return sum;
}

/* Elements of a row in the widest exchange: the list of instructions is the same on every rank of a
 * stage. */
static size_t widest_exchange(const struct program *p)
{
    size_t widest = 0;
    for (int i = 0; i < p->n_instrs; i++) {
        if (p->instrs[i].op == OP_ALL_REDUCE) {
            widest = larger(widest, (size_t)p->values[p->instrs[i].out].width);
        }
    }
    return widest;
}

size_t wire_max_message(const struct wire_link *link, int end, const struct program *part,
                        int max_rows)
{
    size_t rows = (size_t)max_rows * sizeof(float);
    if (link->kind == LINK_GROUP) {
        return widest_exchange(part) * rows;
    }
    if (link->kind == LINK_HIDDEN) {
        return WIRE_HEADER + rows * (link->to == end
                                         ? widths(part, part->inputs, part->n_inputs)
                                         : widths(part, part->outputs, part->n_outputs));
    }
    size_t row = larger((size_t)part->vocab, (size_t)part->width) * sizeof(float);
    return larger(WIRE_STEP_BYTES, WIRE_HEADER + larger(WIRE_LOGITS_PIECE, row));
}

const char *link_kind_name(enum link_kind kind)
{
    static const char *const names[] = { "steps", "hidden", "group" };
    assert(kind < LINK_KIND_COUNT);
    return names[kind];
}

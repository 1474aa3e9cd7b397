/* The order to load a part of a model, as a message. Pure. */
#include "cluster/order.h"

#include <stdio.h>
#include <string.h>

#include "engine/step.h"
#include "graph/program.h"
#include "peer/message.h"
#include "plan/context.h"
#include "stage/wire.h"

#define MAX_LAYERS PROGRAM_MAX_LAYERS

const char *part_order_device(const struct part_order *o, int rank)
{
    return rank == WIRE_HEAD ? o->head : o->devices[rank];
}

json_t *part_order_json(const struct part_order *o)
{
    json_t *stages = json_array(), *ranks = json_array();
    for (int s = 0; s < o->plan.n_stages; s++) {
        const struct plan_stage *stage = &o->plan.stages[s];
        json_array_append_new(stages,
                              json_pack("[i,i]", stage->end - stage->first, stage->n_ranks));
    }
    for (int r = 0; r < o->plan.n_ranks; r++) {
        json_array_append_new(ranks,
                              json_pack("{s:i, s:s, s:s}", "share", o->plan.shares[r], "device",
                                        o->devices[r], "address", o->addresses[r]));
    }
    return json_pack(
        "{s:s, s:I, s:I, s:{s:s, s:I, s:s}, s:o, s:o, s:i, s:s, s:i, s:i, s:i, s:I, s:b}", "type",
        "load", "placement", (json_int_t)o->placement, "epoch", (json_int_t)o->epoch, "model", "id",
        o->model_id, "size", (json_int_t)o->model_size, "sha256", o->model_sha256, "stages", stages,
        "ranks", ranks, "rank", o->rank, "head", o->head, "max_rows", o->max_rows, "max_sessions",
        o->max_sessions, "context", o->context, "state_tokens", (json_int_t)o->state_tokens,
        "exact", (int)o->exact);
}

struct order_rank {
    int share;
    char device[PEER_ID_TEXT], address[ADDRESS_TEXT];
};

static const struct message_field order_rank_fields[] = {
    { MESSAGE_INT(struct order_rank, share, 1, PLAN_MAX_SHARE) },
    { MESSAGE_TEXT(struct order_rank, device) },
    { MESSAGE_TEXT(struct order_rank, address) },
};

static int parse_ranks(const json_t *ranks, struct part_order *o, struct error *e)
{
    int code = 0;
    o->plan.n_ranks = (int)json_array_size(ranks);
    for (int r = 0; r < o->plan.n_ranks && code == 0; r++) {
        struct order_rank one = { .share = 0 };
        code = message_read(json_array_get(ranks, (size_t)r), order_rank_fields,
                            ARRAY_LEN(order_rank_fields), &one, e);
        o->plan.shares[r] = one.share;
        memcpy(o->devices[r], one.device, sizeof one.device);
        memcpy(o->addresses[r], one.address, sizeof one.address);
        o->plan.device[r] = r;
    }
    return code;
}

/* [[layers, ranks], ...], which must use all ranks. */
static int parse_stages(const json_t *stages, struct part_order *o, struct error *e)
{
    int layer = 0, rank = 0;
    o->plan.n_stages = (int)json_array_size(stages);
    for (int s = 0; s < o->plan.n_stages; s++) {
        const json_t *item = json_array_get(stages, (size_t)s);
        json_int_t layers = json_integer_value(json_array_get(item, 0));
        json_int_t ranks = json_integer_value(json_array_get(item, 1));
        if (layers < 1 || layers > MAX_LAYERS - layer || ranks < 1 ||
            ranks > o->plan.n_ranks - rank) {
            return fail(e, FAIL_FORMAT, "stage %d has %lld layers on %lld ranks", s,
                        (long long)layers, (long long)ranks);
        }
        o->plan.stages[s] = (struct plan_stage){
            .first = layer, .end = layer + (int)layers, .rank = rank, .n_ranks = (int)ranks
        };
        layer += (int)layers;
        rank += (int)ranks;
    }
    o->plan.n_layers = layer;
    if (rank != o->plan.n_ranks || rank == 0) {
        return fail(e, FAIL_FORMAT, "stages use %d of %d ranks", rank, o->plan.n_ranks);
    }
    return 0;
}

struct order_message {
    int64_t placement, epoch, state_tokens;
    int rank, max_rows, max_sessions, context;
    bool exact;
    char head[PEER_ID_TEXT];
    const json_t *stages, *ranks, *model;
};

static const struct message_field order_fields[] = {
    { MESSAGE_ARRAY(struct order_message, ranks, PLAN_MAX_RANKS) },
    { MESSAGE_ARRAY(struct order_message, stages, PLAN_MAX_RANKS) },
    { MESSAGE_INTEGER(struct order_message, placement, 1, INT64_MAX) },
    { MESSAGE_INTEGER(struct order_message, epoch, 1, UINT32_MAX) },
    { MESSAGE_INT(struct order_message, rank, 0, PLAN_MAX_RANKS - 1) },
    { MESSAGE_INT(struct order_message, max_rows, 1, STEP_MAX_ROWS) },
    { MESSAGE_INT(struct order_message, max_sessions, 1, PART_MAX_SESSIONS) },
    { MESSAGE_INTEGER(struct order_message, state_tokens, 1,
                      (int64_t)PART_MAX_SESSIONS *CONTEXT_MAX) },
    { MESSAGE_INT(struct order_message, context, 1, CONTEXT_MAX), .optional = true },
    { MESSAGE_FLAG(struct order_message, exact) },
    { MESSAGE_TEXT(struct order_message, head) },
    { MESSAGE_OBJECT(struct order_message, model) },
};

struct order_model {
    char id[MODEL_ID_TEXT], sha256[MODEL_SHA_TEXT];
    int64_t size;
};

static const struct message_field order_model_fields[] = {
    { MESSAGE_TEXT(struct order_model, id) },
    { MESSAGE_TEXT(struct order_model, sha256) },
    { MESSAGE_INTEGER(struct order_model, size, 1, INT64_MAX) },
};

/* What one number says of another. */
static int check_numbers(const struct order_message *m, struct error *e)
{
    if (m->state_tokens < m->max_sessions ||
        m->state_tokens > (int64_t)m->max_sessions * CONTEXT_MAX) {
        return fail(e, FAIL_FORMAT, "field 'state_tokens' is %lld for %d sessions",
                    (long long)m->state_tokens, m->max_sessions);
    }
    if (m->context > m->state_tokens) {
        return fail(e, FAIL_FORMAT, "field 'context' is %d, the state has %lld positions",
                    m->context, (long long)m->state_tokens);
    }
    return 0;
}

int part_order_parse(const json_t *body, struct part_order *ret, struct error *e)
{
    struct part_order o = { .placement = 0 };
    struct order_message m = { .placement = 0 };
    struct order_model model = { .size = 0 };
    int code = message_read(body, order_fields, ARRAY_LEN(order_fields), &m, e);
    code =
        code ? code
             : message_read(m.model, order_model_fields, ARRAY_LEN(order_model_fields), &model, e);
    code = code ? code : check_numbers(&m, e);
    code = code ? code : parse_ranks(m.ranks, &o, e);
    code = code ? code : parse_stages(m.stages, &o, e);
    if (code == 0 && m.rank >= o.plan.n_ranks) {
        code = fail(e, FAIL_FORMAT, "rank %d of %d", m.rank, o.plan.n_ranks);
    }
    if (code != 0) {
        return code;
    }
    o.placement = m.placement;
    o.epoch = (uint32_t)m.epoch;
    o.rank = m.rank;
    o.max_rows = m.max_rows;
    o.max_sessions = m.max_sessions;
    o.state_tokens = (uint64_t)m.state_tokens;
    /* Heads that don't say give each session an equal share. */
    o.context = m.context > 0 ? m.context : (int)(m.state_tokens / m.max_sessions);
    o.exact = m.exact;
    o.model_size = (uint64_t)model.size;
    memcpy(o.model_id, model.id, sizeof o.model_id);
    memcpy(o.model_sha256, model.sha256, sizeof o.model_sha256);
    memcpy(o.head, m.head, sizeof o.head);
    *ret = o;
    return 0;
}

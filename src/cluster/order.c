/* The order to load a part of a model, as a message. Pure. */
#include "cluster/part.h"

#include <stdio.h>
#include <string.h>

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

static int parse_ranks(const json_t *ranks, struct part_order *o, struct error *e)
{
    int code = 0;
    o->plan.n_ranks = (int)json_array_size(ranks);
    for (int r = 0; r < o->plan.n_ranks && code == 0; r++) {
        const json_t *item = json_array_get(ranks, (size_t)r);
        const char *device = "", *address = "";
        code = message_int(item, "share", 1, PLAN_MAX_SHARE, &o->plan.shares[r], e);
        code = code ? code : message_text(item, "device", DEVICE_ID_TEXT - 1, &device, e);
        code = code ? code : message_text(item, "address", ADDRESS_TEXT - 1, &address, e);
        snprintf(o->devices[r], sizeof o->devices[r], "%s", device);
        snprintf(o->addresses[r], sizeof o->addresses[r], "%s", address);
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

static int parse_numbers(const json_t *m, struct part_order *o, struct error *e)
{
    int64_t epoch = 0, tokens = 0;
    int code = message_integer(m, "placement", 1, INT64_MAX, &o->placement, e);
    code = code ? code : message_integer(m, "epoch", 1, UINT32_MAX, &epoch, e);
    code = code ? code : message_int(m, "rank", 0, o->plan.n_ranks - 1, &o->rank, e);
    code = code ? code : message_int(m, "max_rows", 1, STEP_MAX_ROWS, &o->max_rows, e);
    code = code ? code : message_int(m, "max_sessions", 1, PART_MAX_SESSIONS, &o->max_sessions, e);
    code = code ? code
                : message_integer(m, "state_tokens", o->max_sessions,
                                  (int64_t)o->max_sessions * CLUSTER_MAX_CONTEXT, &tokens, e);
    /* Heads that don't say give each session an equal share. */
    o->context = code ? 0 : (int)(tokens / o->max_sessions);
    if (code == 0 && json_object_get(m, "context") != NULL) {
        int64_t most = tokens < CLUSTER_MAX_CONTEXT ? tokens : CLUSTER_MAX_CONTEXT;
        code = message_int(m, "context", 1, (int)most, &o->context, e);
    }
    o->epoch = (uint32_t)epoch;
    o->state_tokens = (uint64_t)tokens;
    o->exact = message_flag(m, "exact");
    return code;
}

int part_order_parse(const json_t *m, struct part_order *ret, struct error *e)
{
    struct part_order o = { 0 };
    const json_t *stages = NULL, *ranks = NULL;
    const json_t *model = json_object_get(m, "model");
    const char *id = "", *sha = "", *head = "";
    int64_t size = 0;
    int code = message_array(m, "ranks", PLAN_MAX_RANKS, &ranks, e);
    code = code ? code : message_array(m, "stages", PLAN_MAX_RANKS, &stages, e);
    code = code ? code : parse_ranks(ranks, &o, e);
    code = code ? code : parse_stages(stages, &o, e);
    code = code ? code : parse_numbers(m, &o, e);
    code = code ? code : message_text(model, "id", MODEL_ID_TEXT - 1, &id, e);
    code = code ? code : message_text(model, "sha256", MODEL_SHA_TEXT - 1, &sha, e);
    code = code ? code : message_integer(model, "size", 1, INT64_MAX, &size, e);
    code = code ? code : message_text(m, "head", DEVICE_ID_TEXT - 1, &head, e);
    if (code != 0) {
        return code;
    }
    o.model_size = (uint64_t)size;
    snprintf(o.model_id, sizeof o.model_id, "%s", id);
    snprintf(o.model_sha256, sizeof o.model_sha256, "%s", sha);
    snprintf(o.head, sizeof o.head, "%s", head);
    *ret = o;
    return 0;
}

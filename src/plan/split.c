/* Reading split specifications, and the memory-proportional default. Pure. */
#include "plan/split.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

/* A SPEC of PLAN_MAX_RANKS ranks with the largest numbers is shorter than this. */
#define SPEC_MAX_LENGTH 2048
/* Steps of the fraction of its memory that each device may fill. */
#define FILL_STEPS 65536

struct spec_reader {
    const char *text;
    size_t at;
    struct error *error;
};

static int spec_fail(const struct spec_reader *r, const char *what)
{
    if (r->text[r->at] == '\0') {
        return fail(r->error, FAIL_ARG, "split '%s': %s at the end", r->text, what);
    }
    return fail(r->error, FAIL_ARG, "split '%s': %s at character %zu ('%c')", r->text, what,
                r->at + 1, r->text[r->at]);
}

/* A positive number up to max. */
static int spec_number(struct spec_reader *r, int max, const char *what, int *ret)
{
    int n = 0;
    size_t start = r->at;
    while (r->text[r->at] >= '0' && r->text[r->at] <= '9') {
        n = n * 10 + (r->text[r->at] - '0');
        if (n > max) {
            return fail(r->error, FAIL_ARG, "split '%s': %s at character %zu is larger than %d",
                        r->text, what, start + 1, max);
        }
        r->at++;
    }
    if (r->at == start) {
        return spec_fail(r, "a number is expected");
    }
    if (n == 0) {
        r->at = start;
        return spec_fail(r, "0 is no share of the work: leave the device out");
    }
    *ret = n;
    return 0;
}

/* `[LAYERS@]SHARE[:SHARE]...`; *layers stays 0 where not given. */
static int spec_stage(struct spec_reader *r, struct placement_plan *plan, int *layers)
{
    struct plan_stage *stage = &plan->stages[plan->n_stages++];
    stage->rank = plan->n_ranks;
    int number = 0;
    int code = spec_number(r, PLAN_MAX_SHARE, "the number", &number);
    if (code == 0 && r->text[r->at] == '@') {
        r->at++;
        *layers = number;
        code = spec_number(r, PLAN_MAX_SHARE, "the share", &number);
    }
    while (code == 0) {
        if (plan->n_ranks == PLAN_MAX_RANKS) {
            return fail(r->error, FAIL_ARG, "split '%s': more than %d devices", r->text,
                        PLAN_MAX_RANKS);
        }
        plan->device[plan->n_ranks] = plan->n_ranks;
        plan->shares[plan->n_ranks++] = number;
        stage->n_ranks++;
        if (r->text[r->at] != ':') {
            return 0;
        }
        r->at++;
        code = spec_number(r, PLAN_MAX_SHARE, "the share", &number);
    }
    return code;
}

/* Deals the layers: given counts as they are, the rest evenly. */
static int spec_layers(struct placement_plan *plan, const int *given, const char *spec,
                       struct error *e)
{
    int64_t sum = 0;
    int open = 0;
    for (int s = 0; s < plan->n_stages; s++) {
        sum += given[s];
        open += given[s] == 0;
    }
    int64_t left = plan->n_layers - sum;
    if (open == 0 && left != 0) {
        return fail(e, FAIL_ARG, "split '%s' has %lld layers, the model has %d", spec,
                    (long long)sum, plan->n_layers);
    }
    if (left < open) {
        return fail(e, FAIL_ARG, "split '%s' needs at least %lld layers, the model has %d", spec,
                    (long long)sum + open, plan->n_layers);
    }
    int at = 0;
    for (int s = 0; s < plan->n_stages; s++) {
        int n = given[s];
        if (n == 0) {
            n = (int)((left + open - 1) / open);
            left -= n;
            open--;
        }
        plan->stages[s].first = at;
        plan->stages[s].end = at += n;
    }
    return 0;
}

int split_parse(const char *spec, int n_layers, struct placement_plan *ret, struct error *e)
{
    assert(n_layers > 0);
    if (strlen(spec) > SPEC_MAX_LENGTH) {
        return fail(e, FAIL_ARG, "split: longer than %d characters", SPEC_MAX_LENGTH);
    }
    struct placement_plan plan = { .n_layers = n_layers };
    int given[PLAN_MAX_RANKS] = { 0 };
    struct spec_reader r = { .text = spec, .error = e };
    for (;;) {
        if (plan.n_stages == PLAN_MAX_RANKS) {
            return fail(e, FAIL_ARG, "split '%s': more than %d stages", spec, PLAN_MAX_RANKS);
        }
        int code = spec_stage(&r, &plan, &given[plan.n_stages]);
        if (code != 0) {
            return code;
        }
        if (spec[r.at] == '\0') {
            break;
        }
        if (spec[r.at] != '/') {
            return spec_fail(&r, "'/', ':' or '@' is expected");
        }
        r.at++;
    }
    int code = spec_layers(&plan, given, spec, e);
    if (code == 0) {
        *ret = plan;
    }
    return code;
}

int split_format(const struct placement_plan *plan, struct buffer *out)
{
    int code = 0;
    for (int s = 0; s < plan->n_stages; s++) {
        const struct plan_stage *stage = &plan->stages[s];
        code = buffer_printf(out, "%s%d@", s ? "/" : "", stage->end - stage->first);
        for (int i = 0; i < stage->n_ranks; i++) {
            code = buffer_printf(out, "%s%d", i ? ":" : "", plan->shares[stage->rank + i]);
        }
    }
    return code;
}

int plan_stage_of(const struct placement_plan *plan, int rank)
{
    int s = 0;
    while (rank >= plan->stages[s].rank + plan->stages[s].n_ranks) {
        s++;
    }
    assert(s < plan->n_stages);
    return s;
}

void plan_single(int n_layers, int device, struct placement_plan *ret)
{
    *ret = (struct placement_plan){ .n_layers = n_layers, .n_stages = 1, .n_ranks = 1 };
    ret->stages[0] = (struct plan_stage){ .end = n_layers, .n_ranks = 1 };
    ret->shares[0] = 1;
    ret->device[0] = device;
}

/* Lays layers over the devices in order, each filled up to fill / FILL_STEPS of its memory.
 * True when every layer found a place. */
static bool lay_out(const struct split_need *need, const uint64_t *memory, int n_devices,
                    uint64_t fill, struct placement_plan *plan)
{
    *plan = (struct placement_plan){ .n_layers = need->n_layers };
    int layer = 0;
    for (int d = 0; d < n_devices && layer < need->n_layers && plan->n_ranks < PLAN_MAX_RANKS;
         d++) {
        double room = (double)memory[d] * (double)fill / FILL_STEPS;
        double used = layer == 0 ? (double)need->first_bytes : 0;
        int first = layer;
        while (layer < need->n_layers) {
            double more = (double)need->layer_bytes[layer];
            if (layer == need->n_layers - 1) {
                more += first == 0 ? (double)need->both_bytes - (double)need->first_bytes
                                   : (double)need->last_bytes;
            }
            if (used + more > room) {
                break;
            }
            used += more;
            layer++;
        }
        if (layer > first) {
            plan->stages[plan->n_stages++] = (struct plan_stage){
                .first = first, .end = layer, .rank = plan->n_ranks, .n_ranks = 1
            };
            plan->shares[plan->n_ranks] = 1;
            plan->device[plan->n_ranks++] = d;
        }
    }
    return layer == need->n_layers;
}

int split_by_memory(const struct split_need *need, const uint64_t *memory, int n_devices,
                    struct placement_plan *ret, struct error *e)
{
    assert(need->n_layers > 0 && n_devices > 0);
    uint64_t total = need->both_bytes;
    for (int i = 0; i < need->n_layers; i++) {
        total += need->layer_bytes[i];
    }
    int best = 0;
    uint64_t sum = 0;
    for (int d = 0; d < n_devices; d++) {
        best = memory[d] > memory[best] ? d : best;
        sum += memory[d];
    }
    if (total <= memory[0] || total <= memory[best]) {
        plan_single(need->n_layers, total <= memory[0] ? 0 : best, ret);
        return 0;
    }
    struct placement_plan plan;
    uint64_t low = 0, high = FILL_STEPS;
    if (!lay_out(need, memory, n_devices, high, &plan)) {
        return fail(e, FAIL_LIMIT,
                    "needs %llu MB of memory; %d device%s together have %llu MB usable in parts "
                    "that its %d layers don't fit into",
                    (unsigned long long)(total >> 20), n_devices, n_devices == 1 ? "" : "s",
                    (unsigned long long)(sum >> 20), need->n_layers);
    }
    while (high - low > 1) {
        uint64_t middle = (low + high) / 2;
        if (lay_out(need, memory, n_devices, middle, &plan)) {
            high = middle;
        } else {
            low = middle;
        }
    }
    lay_out(need, memory, n_devices, high, &plan);
    *ret = plan;
    return 0;
}

uint64_t plan_rank_bytes(const struct split_need *need, const struct placement_plan *plan, int rank)
{
    int s = plan_stage_of(plan, rank);
    const struct plan_stage *stage = &plan->stages[s];
    bool first = s == 0, last = s == plan->n_stages - 1;
    double bytes = (double)(first && last ? need->both_bytes
                            : first       ? need->first_bytes
                            : last        ? need->last_bytes
                                          : 0);
    double shares = 0;
    for (int i = stage->first; i < stage->end; i++) {
        bytes += (double)need->layer_bytes[i];
    }
    for (int r = stage->rank; r < stage->rank + stage->n_ranks; r++) {
        shares += plan->shares[r];
    }
    return (uint64_t)(bytes * plan->shares[rank] / shares);
}

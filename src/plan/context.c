/* How long a context a model gets where nobody says. Pure. */
#include "plan/context.h"

#include <limits.h>
#include <stdbool.h>

/* Not even a short question with its answer. */
#define CONTEXT_USELESS 256

/* The model at this context. */
static struct split_need need_at(const struct context_need *need, uint64_t tokens)
{
    struct split_need at = *need->weights;
    for (int i = 0; i < at.n_layers; i++) {
        need->layer_bytes[i] = need->weights->layer_bytes[i] + need->token_bytes[i] * tokens;
    }
    at.layer_bytes = need->layer_bytes;
    return at;
}

/* Whether each device can hold its share of what the plan gives it. */
static bool plan_fits(const struct split_need *need, const struct placement_plan *plan,
                      const uint64_t *memory)
{
    for (int r = 0; r < plan->n_ranks; r++) {
        if (plan_rank_bytes(need, plan, r) > memory[plan->device[r]]) {
            return false;
        }
    }
    return true;
}

/* Devices that the model needs at this context; INT_MAX: there are not enough. */
static int devices_at(const struct context_need *need, const uint64_t *memory, int n_devices,
                      int tokens, struct error *e)
{
    struct split_need at = need_at(need, (uint64_t)tokens);
    struct placement_plan plan;
    if (need->plan != NULL) {
        return plan_fits(&at, need->plan, memory) ? need->plan->n_ranks : INT_MAX;
    }
    return split_by_memory(&at, memory, n_devices, &plan, e) == 0 ? plan.n_ranks : INT_MAX;
}

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

int context_by_memory(const struct context_need *need, const uint64_t *memory, int n_devices,
                      int *ret, struct error *e)
{
    const int floors[] = { smaller(CONTEXT_LEAST, need->most),
                           smaller(CONTEXT_USELESS, need->most) };
    int low = floors[0], high = need->most;
    int devices = devices_at(need, memory, n_devices, low, NULL);
    if (devices == INT_MAX && need->plan != NULL) {
        *ret = low;
        return 0;
    }
    if (devices == INT_MAX) {
        high = low;
        low = floors[1];
        devices = devices_at(need, memory, n_devices, low, e);
    }
    if (devices == INT_MAX) {
        return FAIL_LIMIT;
    }
    if (devices_at(need, memory, n_devices, high, NULL) <= devices) {
        *ret = high;
        return 0;
    }
    while (high - low > CONTEXT_STEP) {
        int middle = low + (high - low) / 2 / CONTEXT_STEP * CONTEXT_STEP;
        middle = middle > low ? middle : low + CONTEXT_STEP;
        if (devices_at(need, memory, n_devices, middle, NULL) <= devices) {
            low = middle;
        } else {
            high = middle;
        }
    }
    *ret = low;
    return 0;
}

uint64_t context_pool(const struct context_need *need, const uint64_t *memory, int context,
                      uint64_t most)
{
    /* Positions beyond the first context count twice: one for us, one for others. */
    uint64_t low = 0, high = most > (uint64_t)context ? most - (uint64_t)context : 0;
    while (low < high) {
        uint64_t middle = low + (high - low + 1) / 2;
        struct split_need at = need_at(need, (uint64_t)context + 2 * middle);
        if (plan_fits(&at, need->plan, memory)) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    return (uint64_t)context + low;
}

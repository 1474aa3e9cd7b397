/* The registry of backends: every compute device of this machine. */
#include "backend/backend.h"

#include <inttypes.h>

static const struct backend *const backends[] = { &backend_cpu };

int compute_devices(struct compute_device *ret, int most)
{
    int n = 0;
    for (size_t i = 0; i < ARRAY_LEN(backends) && n < most; i++)
        n += backends[i]->devices(ret + n, most - n);
    return n;
}

static int check_matrix(const struct compute_device *d, const struct weight *w, struct error *e)
{
    if (d->types[w->type])
        return 0;
    return fail(e, FAIL_UNSUPPORTED,
                "%s can't compute with tensor %s of type %s (at byte %" PRIu64 ")", d->name,
                w->tensor, quant_format(w->type)->name, w->byte);
}

int compute_device_check(const struct compute_device *d, const struct program *p, struct error *e)
{
    int r = 0;
    for (int i = 0; i < p->n_instrs && !r; i++) {
        const struct instr *in = &p->instrs[i];
        if (!d->ops[in->op] && in->op != OP_ALL_REDUCE)
            return fail(e, FAIL_UNSUPPORTED, "%s has no operation %s (layer %d)", d->name,
                        op_name(in->op), in->layer);
        if (in->op == OP_MATMUL || in->op == OP_EXPERT_MATMUL || in->op == OP_EMBED)
            r = check_matrix(d, &p->weights[in->weight[0]], e);
    }
    return r;
}

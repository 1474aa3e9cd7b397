/* What each operation demands of its inputs, weights and arguments; for this folder only. Indices
 * have been checked before. */
#ifndef SHOAL_GRAPH_CHECK_H
#define SHOAL_GRAPH_CHECK_H

#include "graph/program.h"

struct check {
    const struct program *p;
    const struct instr *in;
    int index;
    const char *name; /* of the operation */
    struct error *error;
};

/* FAIL_FORMAT: "instruction 3 (layer 0, matmul): what". */
int check_failed(const struct check *c, const char *what);

/* Each returns 0 or check_failed(). */
int check_embed(const struct check *c);
int check_matmul(const struct check *c);
int check_norm(const struct check *c);
int check_rope(const struct check *c);
int check_attend(const struct check *c);
int check_elementwise(const struct check *c);
int check_route(const struct check *c);
int check_expert_matmul(const struct check *c);
int check_expert_sum(const struct check *c);
int check_conv(const struct check *c);
int check_slice(const struct check *c);
int check_pad(const struct check *c);

#endif

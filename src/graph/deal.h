/* How each operation's values are dealt to ranks; for this folder only. */
#ifndef SHOAL_GRAPH_DEAL_H
#define SHOAL_GRAPH_DEAL_H

#include "graph/program.h"

struct deal {
    const struct program *from;
    struct program *to;
    int *whole; /* value -> its exchanged form, or PROGRAM_NONE */
    struct error *error;
};

/* The elements of an axis that are this rank's: adds to *first, sets *count. */
void deal_slice(const struct program *p, struct axis axis, int *first, int *count);
/* Adds an instruction; FAIL_NOMEM. */
int deal_emit(struct deal *d, const struct instr *in);
/* Makes input slot i of `in` whole: nothing for a whole value, one exchange for each value. */
int deal_need_whole(struct deal *d, struct instr *in, int i);

/* The rules, for the table of operations. */
int deal_embed(struct deal *d, struct instr *in);
int deal_matmul(struct deal *d, struct instr *in);
int deal_expert_matmul(struct deal *d, struct instr *in);
int deal_expert_sum(struct deal *d, struct instr *in);
int deal_norm(struct deal *d, struct instr *in);
int deal_rope(struct deal *d, struct instr *in);
int deal_attend(struct deal *d, struct instr *in);
int deal_linear(struct deal *d, struct instr *in);
int deal_elementwise(struct deal *d, struct instr *in);
int deal_whole(struct deal *d, struct instr *in);

#endif

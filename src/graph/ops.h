/* What is known of each operation and of each kind of state: one row each, for this folder only.
 * A new one is a row here; nothing else in this folder lists them. */
#ifndef SHOAL_GRAPH_OPS_H
#define SHOAL_GRAPH_OPS_H

#include "graph/check.h"
#include "graph/deal.h"

/* What one row costs. */
struct op_cost {
    uint64_t weights;       /* multiply-adds with one matrix of weight 0 */
    int mats;               /* matrices that a row uses */
    uint64_t position_macs; /* multiply-adds for each position that a row sees */
};

struct op_info {
    const char *name;
    int inputs, most_inputs, weights; /* needed, at most, needed */
    /* Shapes and arguments, once links are sound. */
    int (*check)(const struct check *c);
    /* Layouts of a rank: asks for whole inputs where it must, sets the output's. */
    int (*shard)(struct deal *d, struct instr *in);
    /* Arguments as text; NULL: none. */
    void (*print)(const struct program *p, const struct instr *in, struct buffer *out);
    /* NULL: no products with weights or positions. */
    void (*cost)(const struct program *p, const struct instr *in, struct op_cost *ret);
};

/* The row of an operation below OP_COUNT. Static. */
const struct op_info *op_info(enum op op);

struct state_info {
    const char *name;
    /* The dimension that ranks deal. */
    int *(*sharded)(struct state *s);
    /* Numbers that a sequence keeps for each token, and whatever its length. */
    uint64_t (*token_numbers)(const struct state *s);
    uint64_t (*fixed_numbers)(const struct state *s);
};

/* The row of a kind below STATE_KIND_COUNT. Static. */
const struct state_info *state_info(enum state_kind kind);

#endif

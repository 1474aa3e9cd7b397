/* What a planner needs to know of a program, layer by layer, without running it. */
#ifndef SHOAL_GRAPH_FACTS_H
#define SHOAL_GRAPH_FACTS_H

#include "graph/program.h"

/* Of one layer; of what comes before the first one (the embedding) or after the last one (the
 * output). All bytes are those of the file unless named otherwise. */
struct layer_facts {
    uint64_t weight_bytes;
    uint64_t macs[QUANT_COUNT];        /* multiply-adds of a row, by the type of the weights */
    uint64_t wanted_macs[QUANT_COUNT]; /* what a row whose logits are wanted adds */
    uint64_t position_macs;            /* of a row for each position that it sees */
    uint64_t kv_numbers;               /* that a sequence keeps for each token... */
    int kv_window;                     /* ...of the last so many tokens; 0: of all */
    uint64_t state_numbers;            /* that a sequence keeps whatever its length (f32) */
    int exchanges;                     /* of a tensor split, however many ranks */
    uint64_t exchange_numbers;         /* a row, in all of them (f32) */
};

/* Between a layer and the one before it. */
struct cut_facts {
    bool legal;       /* no state is on both sides */
    uint64_t numbers; /* a row, of all values that travel (f32) */
};

struct program_facts {
    int n_layers;
    struct layer_facts before, after;
    struct layer_facts *layers; /* (n_layers), arena */
    struct cut_facts *cuts;     /* (n_layers): before layer i; none before layer 0 */
    /* Of a matrix that is both embedding and output: it counts in `before` and in `after`, and one
     * device that has both holds it once. */
    uint64_t tied_bytes;
    bool splits; /* over tensor ranks; else exchanges are 0 */
};

/* Facts of a whole model's program. FAIL_NOMEM; FAIL_STATE for a part. */
int program_facts(const struct program *p, struct arena *arena, struct program_facts *ret,
                  struct error *e);

#endif

/* A model as a program: instructions with shapes, as plain data that can be printed, validated,
 * cut between layers and sharded over ranks without knowing which family it came from.
 *
 * A value is a matrix (rows of the step, width) of f32. A weight is a rectangle of a GGUF tensor.
 * A range is what a dimension carries (heads, FFN columns, experts, vocabulary rows) and how many
 * units of it there are; a weight's dimension and a value's width name their range, so that the
 * sharding transformation can deal units to ranks and see where a value is sharded or partial. */
#ifndef SHOAL_GRAPH_PROGRAM_H
#define SHOAL_GRAPH_PROGRAM_H

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"
#include "quant/quants.h"

#include <stdbool.h>
#include <stdint.h>

/* Bounds that keep a hostile file from making a program that takes minutes to build. */
#define PROGRAM_MAX_LAYERS 1024
#define PROGRAM_MAX_INPUTS 4
#define PROGRAM_MAX_WEIGHTS 3

#define PROGRAM_NONE (-1)

/* What a dimension carries. */
struct range {
    const char *name; /* "heads", "kv", "ffn", "experts", "vocab", "channels" */
    int count;        /* units in the whole model */
    int granule;      /* units are dealt to ranks in multiples of this where possible */
    int parent;       /* PROGRAM_NONE, or the range this one follows: unit u here serves units
                       * [u * group, (u + 1) * group) of the parent (KV heads follow heads) */
    int group;
    int first, end; /* units of this rank; [0, count) before sharding */
};

/* A dimension's meaning: `unit` elements for each unit of the range. range PROGRAM_NONE: whole. */
struct axis {
    int range;
    int unit;
};

static inline struct axis axis_none(void)
{
    return (struct axis){ PROGRAM_NONE, 0 };
}

enum value_layout { VALUE_WHOLE, VALUE_SHARDED, VALUE_PARTIAL };
enum value_rows { ROWS_ALL, ROWS_WANTED }; /* all rows of the step, or those with logits wanted */

struct value {
    const char *name;
    int width;        /* elements a row, of this rank */
    struct axis axis; /* of the width */
    enum value_layout layout;
    enum value_rows rows;
};

/* A rectangle of one tensor. Vectors (norms, biases) have cols = their length, rows = 1. */
struct weight {
    const char *tensor; /* GGUF name */
    uint64_t byte;      /* of the file, where it is described: for refusals */
    enum quant_type type;
    int mats;                     /* matrices stacked in the tensor (experts); 1 otherwise */
    int tensor_rows, tensor_cols; /* of one matrix, as in the file */
    int mat_first, mat_count;
    int row_first, row_count;
    int col_first, col_count; /* may cut a quantization block: the loader widens it */
    struct axis mat_axis, row_axis, col_axis;
};

enum state_kind { STATE_KV, STATE_CONV, STATE_KIND_COUNT };

/* Sequence state that an instruction reads and extends. */
struct state {
    enum state_kind kind;
    int layer;
    int heads;        /* KV: KV heads of this rank. CONV: 1 */
    int key_dim;      /* KV: head_dim. CONV: channels of this rank */
    int value_dim;    /* KV: of v. CONV: rows kept (kernel - 1) */
    int window;       /* KV: 0, or a query at position p sees positions > p - window */
    struct axis axis; /* of heads or channels */
};

enum rope_scaling {
    ROPE_SCALING_NONE,
    ROPE_SCALING_LINEAR,
    ROPE_SCALING_YARN,
    ROPE_SCALING_LLAMA3
};

/* One table of rotation angles, shared by all instructions that name it. */
struct rope {
    int dims;         /* rotated elements of a head, even */
    bool interleaved; /* pairs (2i, 2i+1); else (i, i + dims/2) */
    float base;
    enum rope_scaling scaling;
    float factor; /* linear and YaRN: positions are divided by it */
    float original_context;
    float yarn_beta_fast, yarn_beta_slow;
    float magnitude; /* cos and sin are multiplied by it (YaRN's attention factor) */
    int factors;     /* weight with dims/2 divisors of the frequencies, or PROGRAM_NONE */
};

enum activation_kind { ACT_SILU, ACT_GELU, ACT_RELU2, ACT_SIGMOID, ACT_KIND_COUNT };

/* What each does, with its arguments; inputs and weights that may be absent stand in brackets. The
 * table of ops.c says the rest.
 * EMBED          row of weight 0 for each id, times `embed.scale`
 * MATMUL         in 0 by weight 0 [times scale weight 2, one number] [plus bias weight 1]
 * RMS_NORM       [weight 0]; over `norm.group` elements at a time (0: the width)
 * LAYER_NORM     [weight 0, bias weight 1]; the same
 * ROPE           rotates heads of `rope.head_dim` elements by table `rope.table`
 * ATTEND         in q [k, v; absent: those that an earlier layer stored], `state`; `attend`
 * ACT            `act` of in 0 [times in 1]
 * ADD, MUL       two values
 * SCALE          in 0 times `scale.factor`
 * SOFTCAP        `softcap.cap` * tanh(in 0 / `softcap.cap`)
 * ROWS           the rows whose logits are wanted
 * ROUTE          router logits to (expert id, weight) pairs: width 2 * `route.top_k`
 * EXPERT_MATMUL  in 0 (width K, or top_k * K), in 1 route: width top_k * N, slot by slot [times
 *                scale weight 2, a number an expert]; `experts`
 * EXPERT_SUM     in 0 (top_k * N), in 1 route: weighted sum in slot order; `experts`
 * CONV           gated short convolution over positions: in 0, weight 0 (channels, kernel), `state`
 * SLICE          elements [`slice.offset`, `slice.offset` + width) of in 0's rows
 * PAD            in 0 at `slice.offset` of a row of zeros (a shard on its way to being whole)
 * ALL_REDUCE     sum over the ranks in rank order: the exchange */
enum op {
    OP_EMBED,
    OP_MATMUL,
    OP_RMS_NORM,
    OP_LAYER_NORM,
    OP_ROPE,
    OP_ATTEND,
    OP_ACT,
    OP_ADD,
    OP_MUL,
    OP_SCALE,
    OP_SOFTCAP,
    OP_ROWS,
    OP_ROUTE,
    OP_EXPERT_MATMUL,
    OP_EXPERT_SUM,
    OP_CONV,
    OP_SLICE,
    OP_PAD,
    OP_ALL_REDUCE,
    OP_COUNT
};

struct norm_args {
    int group; /* elements that are normed together; 0: the width */
    float eps;
};

struct attend_args {
    int head_dim;
    int heads_per_kv;
    int head_first; /* first query head of this rank, in the model */
    int kv_first;   /* first KV head of this rank, in the model */
    float scale;    /* factor of q . k */
    float softcap;  /* 0: none */
};

struct route_args {
    int top_k;
    bool normalize; /* the chosen weights are scaled to sum 1 */
};

struct expert_args {
    int top_k;
    int first, count; /* whole experts of this rank */
};

struct instr {
    enum op op;
    int layer;                       /* -1: before the first layer; n_layers: after the last */
    int in[PROGRAM_MAX_INPUTS];      /* values, PROGRAM_NONE where unused */
    int out;                         /* value */
    int weight[PROGRAM_MAX_WEIGHTS]; /* weights, PROGRAM_NONE where unused */
    int state;                       /* state, or PROGRAM_NONE */
    union {                          /* by the op, see there */
        struct {
            float scale;
        } embed;
        struct norm_args norm;
        struct {
            int head_dim, table;
        } rope;
        struct attend_args attend;
        enum activation_kind act;
        struct {
            float factor;
        } scale;
        struct {
            float cap;
        } softcap;
        struct route_args route;
        struct expert_args experts;
        struct {
            int offset;
        } slice;
    };
};

/* Everything lives in the arena given at birth. Plain data: copy by program_clone. */
struct program {
    struct arena *arena;
    const char *family;         /* general.architecture */
    int n_layers;               /* of the whole model */
    int first_layer, end_layer; /* of this part */
    int width;                  /* of the residual stream */
    int vocab;                  /* rows of the output matrix in the whole model */
    int context;                /* positions the model was made for */
    int stage_first;            /* 1 when this part begins with the embedding */
    int n_ranks, rank;          /* tensor ranks of this part's stage; 1, 0 before sharding */

    struct range *ranges;
    struct value *values;
    struct weight *weights;
    struct state *states;
    struct rope *ropes;
    struct instr *instrs;
    int n_ranges, n_values, n_weights, n_states, n_ropes, n_instrs;
    int cap_ranges, cap_values, cap_weights, cap_states, cap_ropes, cap_instrs;

    int *inputs;  /* values that come from the stage before, ascending; none in a first stage */
    int *outputs; /* values that the next stage needs; in the last stage the logits alone */
    int n_inputs, n_outputs;
    int logits; /* value, or PROGRAM_NONE when this part has no output matrix. Sharded over the
                 * vocabulary when n_ranks > 1: each rank holds [first, end) of range "vocab" */
    int hidden; /* the value that the output matrix takes, which may be read as outputs are; whole
                 * on every rank, or PROGRAM_NONE where this part has none */
};

/* --- building (program.c) --- */

/* An empty program in arena memory; NULL when memory ends. */
struct program *program_new(struct arena *arena);
struct program *program_clone(const struct program *p, struct arena *arena);

/* Each returns the new index, or PROGRAM_NONE when memory ends. Texts are copied. */
int program_add_range(struct program *p, const struct range *r);
int program_add_value(struct program *p, const char *name, int width, struct axis axis);
int program_add_weight(struct program *p, const struct weight *w);
int program_add_state(struct program *p, const struct state *s);
int program_add_rope(struct program *p, const struct rope *r);
int program_add_instr(struct program *p, const struct instr *in);

/* An instruction with every index PROGRAM_NONE and arguments of zero. */
struct instr instr_init(enum op op, int layer);

/* As printed by program_print(); static. */
const char *op_name(enum op op);

/* --- checking and showing (validate.c, print.c) --- */

/* Checks shapes, definitions before uses, weight rectangles, states, layouts. FAIL_FORMAT names
 * the instruction. */
int program_validate(const struct program *p, struct error *e);

/* One line an instruction, for people. */
int program_print(const struct program *p, struct buffer *out);

/* --- transformations (cut.c, shard.c) --- */

/* Layers [first, end) with everything live across the two cuts as inputs and outputs; the parts
 * before layer 0 and after the last layer go with them. FAIL_UNSUPPORTED when a state would be
 * shared across the cut, FAIL_RANGE when the layers are not within the program. */
int program_cut(const struct program *p, int first, int end, struct arena *arena,
                struct program **ret, struct error *e);

/* One rank of a tensor split. */
struct rank_share {
    const int *shares; /* (n_ranks) in proportion, each >= 0, not all 0; borrowed for the call */
    int n_ranks;
    int rank;
};

/* The part of one rank. Exchanges are inserted where a sharded or partial value meets an
 * instruction that needs it whole; the instruction list is the same on every rank. FAIL_RANGE,
 * FAIL_STATE when p is a part already, FAIL_UNSUPPORTED. */
int program_shard(const struct program *p, const struct rank_share *share, struct arena *arena,
                  struct program **ret, struct error *e);

/* Deals `count` units in multiples of granule to n shares, in order: begin[i], begin[n] = count.
 * Every positive share gets at least one granule when there are enough. Pure. */
void shares_deal(int count, int granule, const int *shares, int n, int *begin);

/* --- facts (program.c, work.c) --- */

/* Bytes of the weights' rectangles in the file, of the states for one token. element_bytes: 2 for
 * f16 KV, 4 for f32. */
uint64_t program_weight_bytes(const struct program *p);
uint64_t program_state_bytes_per_token(const struct program *p, int element_bytes);
/* Numbers that a sequence keeps in one state: for each token, and whatever its length. */
uint64_t state_token_numbers(const struct state *s);
uint64_t state_fixed_numbers(const struct state *s);

/* Multiply-adds of one row in matrices, by the type of their weights. Of experts only those that a
 * row uses count; the embedding's look-up, vectors and attention don't. */
struct program_work {
    uint64_t macs[QUANT_COUNT];        /* of a row without logits */
    uint64_t wanted_macs[QUANT_COUNT]; /* what a row whose logits are wanted adds */
};
void program_work(const struct program *p, struct program_work *ret);

/* Bytes of these matrices in the file that a step of n_rows rows with logits reads: each once, of
 * experts as many as n_rows rows meet on average that choose evenly and on their own. */
double program_read_bytes(const struct program *p, int n_rows);

/* --- segments --- */

/* A maximal run of instructions without an exchange: [first, end), then exchange instruction
 * `exchange` (PROGRAM_NONE after the last). */
struct segment {
    int first, end;
    int exchange;
};

/* Fills *ret (arena) and returns the count, or FAIL_NOMEM. */
int program_segments(const struct program *p, struct arena *arena, struct segment **ret);

#endif

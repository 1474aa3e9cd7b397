/* graph: dealing shares, cutting, sharding, validating, printing, on a program made by hand. */
#include "tests/test.h"

#include "base/random.h"
#include "graph/facts.h"
#include "graph/program.h"
#include "graph/wants.h"

#define WIDTH 64
#define LAYERS 3

static const struct axis none = { PROGRAM_NONE, 0 };

static int matrix(struct program *p, const char *name, int rows, int cols, struct axis row_axis,
                  struct axis col_axis)
{
    return program_add_weight(p, &(struct weight){ .tensor = name,
                                                   .type = QUANT_F32,
                                                   .mats = 1,
                                                   .mat_count = 1,
                                                   .tensor_rows = rows,
                                                   .row_count = rows,
                                                   .tensor_cols = cols,
                                                   .col_count = cols,
                                                   .mat_axis = none,
                                                   .row_axis = row_axis,
                                                   .col_axis = col_axis });
}

static int emit(struct program *p, struct instr in, int width, struct axis axis)
{
    in.out = program_add_value(p, "v", width, axis);
    program_add_instr(p, &in);
    return in.out;
}

static int matmul(struct program *p, int layer, int x, int weight, int width, struct axis axis)
{
    struct instr in = instr_init(OP_MATMUL, layer);
    in.in[0] = x;
    in.weight[0] = weight;
    return emit(p, in, width, axis);
}

/* Embedding, LAYERS of a plain two-matrix FFN with a residual, an output matrix. A value made by
 * the embedding (`early`) is used again in the last layer, so that it is live across every cut. */
static struct program *toy(struct arena *a)
{
    struct program *p = program_new(a);
    p->family = "toy";
    p->n_layers = p->end_layer = LAYERS;
    p->width = WIDTH;
    p->vocab = 100;
    int ffn = program_add_range(
        p, &(struct range){ .name = "ffn", .count = 96, .granule = 32, .parent = PROGRAM_NONE });
    int vocab = program_add_range(
        p, &(struct range){ .name = "vocab", .count = 100, .granule = 16, .parent = PROGRAM_NONE });
    struct axis columns = { ffn, 1 }, rows = { vocab, 1 };
    struct instr embed = instr_init(OP_EMBED, -1);
    embed.weight[0] = matrix(p, "embedding", 100, WIDTH, rows, none);
    int x = emit(p, embed, WIDTH, none), early = x;
    for (int l = 0; l < LAYERS; l++) {
        int up = matmul(p, l, x, matrix(p, "up", 96, WIDTH, columns, none), 96, columns);
        struct instr act = instr_init(OP_ACT, l);
        act.in[0] = up;
        int mid = emit(p, act, 96, columns);
        int down = matmul(p, l, mid, matrix(p, "down", WIDTH, 96, none, columns), WIDTH, none);
        struct instr add = instr_init(OP_ADD, l);
        add.in[0] = l == LAYERS - 1 ? early : x;
        add.in[1] = down;
        x = emit(p, add, WIDTH, none);
    }
    p->outputs = arena_array(a, int, 1);
    p->inputs = arena_array(a, int, 1);
    p->logits = p->outputs[0] =
        matmul(p, LAYERS, x, matrix(p, "output", 100, WIDTH, rows, none), 100, rows);
    p->n_outputs = 1;
    return p;
}

static void shares_cover_everything_in_proportion(void **state)
{
    (void)state;
    struct random rng = { 20240607 };
    for (int round = 0; round < 5000; round++) {
        int shares[8], begin[9], n = 1 + (int)random_below(&rng, 8), total = 0, positive = 0;
        int granule = 1 + (int)random_below(&rng, 40), count = (int)random_below(&rng, 3000);
        for (int i = 0; i < n; i++) {
            shares[i] = (int)random_below(&rng, 10);
            total += shares[i];
            positive += shares[i] > 0;
        }
        if (!total)
            continue;
        shares_deal(count, granule, shares, n, begin);
        assert_int_equal(begin[0], 0);
        assert_int_equal(begin[n], count);
        int units = (count + granule - 1) / granule;
        if (units < positive)
            granule = 1, units = count;
        for (int i = 0; i < n; i++) {
            assert_true(begin[i] <= begin[i + 1]);
            if (begin[i + 1] < count)
                assert_int_equal(begin[i + 1] % granule, 0);
            if (shares[i] > 0 && units >= positive)
                assert_true(begin[i + 1] > begin[i]);
        }
    }
}

static void shares_follow_the_issue_examples(void **state)
{
    (void)state;
    int begin[4];
    shares_deal(8, 1, (const int[]){ 5, 3 }, 2, begin);
    assert_int_equal(begin[1], 5);
    shares_deal(8, 1, (const int[]){ 1, 7 }, 2, begin);
    assert_int_equal(begin[1], 1);
    shares_deal(8, 1, (const int[]){ 3, 3, 2 }, 3, begin);
    assert_int_equal(begin[1], 3);
    assert_int_equal(begin[2], 6);
    /* Four query heads on one KV head, 3:1: too few KV groups, so heads are dealt one by one. */
    shares_deal(4, 4, (const int[]){ 3, 1 }, 2, begin);
    assert_int_equal(begin[1], 3);
}

static void a_cut_carries_what_is_live(void **state)
{
    (void)state;
    struct arena a = { 0 };
    struct error e = { 0 };
    struct program *p = toy(&a), *first, *middle, *last;
    assert_int_equal(program_validate(p, &e), 0);
    assert_int_equal(program_cut(p, 0, 1, &a, &first, &e), 0);
    assert_int_equal(program_cut(p, 1, 2, &a, &middle, &e), 0);
    assert_int_equal(program_cut(p, 2, 3, &a, &last, &e), 0);
    assert_int_equal(program_validate(first, &e), 0);
    assert_int_equal(program_validate(middle, &e), 0);
    assert_int_equal(program_validate(last, &e), 0);
    assert_int_equal(first->n_inputs, 0);
    assert_int_equal(first->n_outputs, 2); /* the residual and the embedding */
    assert_int_equal(middle->n_inputs, 2);
    assert_int_equal(middle->n_outputs, 2); /* the embedding passes through */
    assert_int_equal(last->n_outputs, 1);
    assert_int_equal(first->logits, PROGRAM_NONE);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(first->outputs[i], middle->inputs[i]);
        assert_int_equal(middle->outputs[i], last->inputs[i]);
    }
    assert_int_equal(program_cut(p, 2, 2, &a, &last, &e), FAIL_RANGE);
    assert_int_equal(program_cut(p, 0, 9, &a, &last, &e), FAIL_RANGE);
    arena_done(&a);
}

static void a_cut_through_shared_state_is_refused(void **state)
{
    (void)state;
    struct arena a = { 0 };
    struct error e = { 0 };
    struct program *p = toy(&a), *part;
    program_add_state(p, &(struct state){ .kind = STATE_KV, .layer = 0, .axis = none });
    p->instrs[1].state = 0; /* layer 0 */
    p->instrs[5].state = 0; /* layer 1 */
    assert_int_equal(program_cut(p, 0, 1, &a, &part, &e), FAIL_UNSUPPORTED);
    assert_non_null(strstr(e.text, "shares the state"));
    assert_int_equal(program_cut(p, 0, 2, &a, &part, &e), 0);
    arena_done(&a);
}

static void sharding_puts_exchanges_where_partials_are_needed_whole(void **state)
{
    (void)state;
    struct arena a = { 0 };
    struct error e = { 0 };
    struct program *p = toy(&a), *ranks[2];
    const int shares[] = { 2, 1 };
    for (int k = 0; k < 2; k++) {
        assert_int_equal(program_shard(p, &(struct rank_share){ shares, 2, k }, &a, &ranks[k], &e),
                         0);
        assert_int_equal(program_validate(ranks[k], &e), 0);
    }
    int exchanges = 0;
    assert_int_equal(ranks[0]->n_instrs, ranks[1]->n_instrs);
    for (int i = 0; i < ranks[0]->n_instrs; i++) {
        assert_int_equal(ranks[0]->instrs[i].op, ranks[1]->instrs[i].op);
        exchanges += ranks[0]->instrs[i].op == OP_ALL_REDUCE;
    }
    assert_int_equal(exchanges, 1 + LAYERS); /* the embedding once, each down projection */
    for (int w = 0; w < p->n_weights; w++) {
        const struct weight *x = &ranks[0]->weights[w], *y = &ranks[1]->weights[w];
        if (x->row_axis.range != PROGRAM_NONE)
            assert_int_equal(x->row_first + x->row_count, y->row_first);
        if (x->col_axis.range != PROGRAM_NONE)
            assert_int_equal(x->col_count + y->col_count, 96);
    }
    assert_int_equal(program_shard(p, &(struct rank_share){ shares, 2, 2 }, &a, &ranks[0], &e),
                     FAIL_RANGE);
    assert_int_equal(
        program_shard(ranks[1], &(struct rank_share){ shares, 2, 0 }, &a, &ranks[0], &e),
        FAIL_STATE);
    arena_done(&a);
}

static void work_counts_what_one_row_costs(void **state)
{
    (void)state;
    struct arena a = { 0 };
    struct program_work w;
    struct program *p = toy(&a);
    p->values[p->logits].rows = ROWS_WANTED;
    program_work(p, &w);
    assert_int_equal(w.macs[QUANT_F32], LAYERS * 2 * 96 * WIDTH);
    assert_int_equal(w.wanted_macs[QUANT_F32], 100 * WIDTH); /* and no embedding */
    double before = 4 * (LAYERS * 2 * 96 * WIDTH + 100 * WIDTH);
    assert_true(program_read_bytes(p, 1) == before);
    assert_true(program_read_bytes(p, 16) == before);
    /* Eight experts, of which a row uses three. */
    struct weight experts = p->weights[p->instrs[1].weight[0]];
    experts.type = QUANT_Q4_0;
    experts.mats = experts.mat_count = 8;
    struct instr in = instr_init(OP_EXPERT_MATMUL, 0);
    in.weight[0] = program_add_weight(p, &experts);
    in.experts.top_k = 3;
    emit(p, in, 3 * 96, none);
    program_work(p, &w);
    assert_int_equal(w.macs[QUANT_Q4_0], 3 * 96 * WIDTH);
    double one = 96 * WIDTH / 32 * 18;
    assert_true(program_read_bytes(p, 1) - before == 3 * one);
    assert_true(program_read_bytes(p, 2) - before == 8 * (1 - 0.625 * 0.625) * one);
    assert_true(8 * one - (program_read_bytes(p, 100) - before) < 1);
    arena_done(&a);
}

/* A stack of 4 matrices of 6 rows of 128 Q8_0 columns (4 blocks of 34 bytes a row). */
static struct weight stack(void)
{
    return (struct weight){ .tensor = "stack",
                            .type = QUANT_Q8_0,
                            .mats = 4,
                            .mat_count = 4,
                            .tensor_rows = 6,
                            .row_count = 6,
                            .tensor_cols = 128,
                            .col_count = 128,
                            .mat_axis = none,
                            .row_axis = none,
                            .col_axis = none };
}

static void wants_are_the_bytes_of_a_rectangle(void **state)
{
    (void)state;
    struct weight w = stack();
    struct want want;
    want_of_weight(&w, &want); /* whole: one run */
    assert_int_equal(want_runs(&want), 1);
    assert_int_equal(want.offset, 0);
    assert_int_equal(want_bytes(&want), 4 * 6 * 136);
    w.mat_first = 1; /* two whole matrices: still one */
    w.mat_count = 2;
    want_of_weight(&w, &want);
    assert_int_equal(want_runs(&want), 1);
    assert_int_equal(want.offset, 6 * 136);
    assert_int_equal(want_bytes(&want), 2 * 6 * 136);
    w.row_first = 2; /* three rows of each: one a matrix */
    w.row_count = 3;
    want_of_weight(&w, &want);
    assert_int_equal(want_runs(&want), 2);
    assert_int_equal(want_offset(&want, 1), (2 * 6 + 2) * 136);
    assert_int_equal(want_bytes(&want), 2 * 3 * 136);
    w.col_first = 40; /* columns 40 to 69 lie in blocks 1 and 2: one a row */
    w.col_count = 30;
    want_of_weight(&w, &want);
    assert_int_equal(want_runs(&want), 6);
    assert_int_equal(want.size, 2 * 34);
    assert_int_equal(want_offset(&want, 0), (6 + 2) * 136 + 34);
    assert_int_equal(want_offset(&want, 4), (2 * 6 + 3) * 136 + 34);
    w.row_count = 0;
    want_of_weight(&w, &want);
    assert_int_equal(want_bytes(&want), 0);
    assert_int_equal(want_runs(&want), 0);
}

/* Each byte of a row-sharded or column-sharded matrix is wanted by exactly one rank, others by all;
 * a tied matrix is wanted once. */
static void wants_of_the_ranks_cover_the_file(void **state)
{
    (void)state;
    struct arena a = { 0 };
    struct error e = { 0 };
    struct program *p = toy(&a), *part;
    struct want *wants;
    p->weights[p->instrs[p->n_instrs - 1].weight[0]].tensor = "embedding"; /* tied */
    int whole = program_wants(p, &a, &wants, &e);
    assert_int_equal(whole, 3); /* the toy's layers share their two tensors */
    const int shares[] = { 2, 1, 0 };
    uint64_t bytes = 0;
    for (int k = 0; k < 3; k++) {
        assert_int_equal(program_shard(p, &(struct rank_share){ shares, 3, k }, &a, &part, &e), 0);
        int n = program_wants(part, &a, &wants, &e);
        assert_int_equal(n, k == 2 ? 0 : 3);
        for (int i = 0; i < n; i++)
            bytes += want_bytes(&wants[i]);
        if (k == 1) {
            assert_string_equal(wants[2].tensor, "down");
            assert_int_equal(want_runs(&wants[2]), WIDTH); /* columns: a run for each row */
            assert_int_equal(want_offset(&wants[2], 1), (96 + 64) * 4);
            assert_int_equal(wants[2].size, 32 * 4);
        }
    }
    assert_int_equal(bytes, (100 * WIDTH + 2 * 96 * WIDTH) * 4);
    arena_done(&a);
}

static void facts_are_those_of_each_layer(void **state)
{
    (void)state;
    struct arena a = { 0 };
    struct error e = { 0 };
    struct program *p = toy(&a), *part;
    struct program_facts f;
    p->values[p->logits].rows = ROWS_WANTED;
    p->weights[p->instrs[p->n_instrs - 1].weight[0]].tensor = "embedding"; /* tied */
    program_add_state(p, &(struct state){ .kind = STATE_KV,
                                          .layer = 1,
                                          .heads = 2,
                                          .key_dim = 8,
                                          .value_dim = 4,
                                          .window = 32,
                                          .axis = none });
    program_add_state(p, &(struct state){ .kind = STATE_CONV,
                                          .layer = 0,
                                          .heads = 1,
                                          .key_dim = WIDTH,
                                          .value_dim = 2,
                                          .axis = none });
    p->instrs[5].state = p->instrs[9].state = 0; /* layers 1 and 2 */
    assert_int_equal(program_facts(p, &a, &f, &e), 0);
    uint64_t layer = 2 * 96 * WIDTH, vocabulary = 100 * WIDTH;
    assert_int_equal(f.n_layers, LAYERS);
    assert_true(f.splits);
    assert_int_equal(f.before.weight_bytes, 4 * vocabulary);
    assert_int_equal(f.after.weight_bytes, 4 * vocabulary);
    assert_int_equal(f.tied_bytes, 4 * vocabulary);
    assert_int_equal(f.after.wanted_macs[QUANT_F32], vocabulary);
    for (int i = 0; i < LAYERS; i++) {
        assert_int_equal(f.layers[i].weight_bytes, 4 * layer);
        assert_int_equal(f.layers[i].macs[QUANT_F32], layer);
        assert_int_equal(f.layers[i].exchanges, 1); /* before the residual is needed whole */
        assert_int_equal(f.layers[i].exchange_numbers, WIDTH);
    }
    assert_int_equal(f.layers[1].kv_numbers, 2 * (8 + 4));
    assert_int_equal(f.layers[1].kv_window, 32);
    assert_int_equal(f.layers[0].state_numbers, WIDTH * 2);
    assert_false(f.cuts[0].legal);
    assert_true(f.cuts[1].legal);
    assert_false(f.cuts[2].legal);                  /* the state of layer 1 is read in layer 2 */
    assert_int_equal(f.cuts[1].numbers, 2 * WIDTH); /* the residual and the embedding */
    assert_int_equal(program_cut(p, 0, 1, &a, &part, &e), 0);
    assert_int_equal(part->n_outputs, 2);
    assert_int_equal(program_facts(part, &a, &f, &e), FAIL_STATE);
    arena_done(&a);
}

static void damage_is_found_before_it_runs(void **state)
{
    (void)state;
    struct arena a = { 0 };
    struct error e = { 0 };
    struct random rng = { 7 };
    struct program *good = toy(&a);
    int found = 0;
    for (int round = 0; round < 400; round++) {
        struct program *p = program_clone(good, &a);
        struct instr *in = &p->instrs[random_below(&rng, (uint64_t)p->n_instrs)];
        switch (random_below(&rng, 5)) {
        case 0:
            in->in[0] = p->n_values + 3;
            break;
        case 1:
            in->weight[0] = in->weight[0] == PROGRAM_NONE ? 99 : PROGRAM_NONE;
            break;
        case 2:
            in->out = p->instrs[0].out;
            break;
        case 3:
            p->weights[random_below(&rng, (uint64_t)p->n_weights)].row_first = 77;
            break;
        default:
            p->values[in->out].width++;
            break;
        }
        e = (struct error){ 0 };
        if (program_validate(p, &e)) {
            found++;
            assert_true(e.text[0] != '\0');
        }
    }
    assert_true(found > 330); /* the rest left the program as it was */
    arena_done(&a);
}

static void a_program_prints_one_line_an_instruction(void **state)
{
    (void)state;
    struct arena a = { 0 };
    struct buffer out;
    struct program *p = toy(&a);
    buffer_init(&out, 1 << 20);
    assert_int_equal(program_print(p, &out), 0);
    int lines = 0;
    for (size_t i = 0; i < out.size; i++)
        lines += out.data[i] == '\n';
    assert_int_equal(lines, 1 + p->n_ranges + p->n_instrs + 1);
    assert_non_null(strstr(buffer_cstr(&out), "matmul"));
    buffer_done(&out);
    arena_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_cover_everything_in_proportion),
        cmocka_unit_test(shares_follow_the_issue_examples),
        cmocka_unit_test(a_cut_carries_what_is_live),
        cmocka_unit_test(a_cut_through_shared_state_is_refused),
        cmocka_unit_test(sharding_puts_exchanges_where_partials_are_needed_whole),
        cmocka_unit_test(work_counts_what_one_row_costs),
        cmocka_unit_test(wants_are_the_bytes_of_a_rectangle),
        cmocka_unit_test(wants_of_the_ranks_cover_the_file),
        cmocka_unit_test(facts_are_those_of_each_layer),
        cmocka_unit_test(damage_is_found_before_it_runs),
        cmocka_unit_test(a_program_prints_one_line_an_instruction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

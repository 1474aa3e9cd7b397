/* Tensors: each is read, refuses the file by name, or is known to be harmless; each that a family
 * needs is missed. */
#include "tests/model/edited.h"

static const char *const goldens[] = {
    "llama", "llama-llama3rope", "llama-bias", "llama-yarn", "mistral", "gemma3", "qwen2",
    "qwen3", "qwen3_moe",        "mixtral",    "lfm2",       "smollm3", "gemma4", "gemma4-kv",
};

static void what_nothing_reads_refuses_the_file(void **state)
{
    (void)state;
    static const char *const unknown[] = {
        "blk.0.attn_sub_norm.weight",
        "blk.1.attn_sinks.weight",
        "blk.0.ffn_sub_norm.weight",
        "blk.0.attn_norm.bias",
        "blk.0.ffn_norm.bias",
        "output_norm.bias",
        "token_embd_norm.weight",
        "position_embd.weight",
        "token_types.weight",
        "blk.0.attn_output_norm.weight",
        "blk.0.layer_output_norm.weight",
        "blk.0.attn_q_norm.weight",
        "blk.0.attn_k_norm.weight",
        "blk.0.post_ffw_norm.weight",
        "blk.0.post_attention_norm.weight",
        "blk.0.ffn_gate_inp.weight",
        "blk.0.ffn_gate_inp_shexp.weight",
        "blk.0.ffn_up_shexp.weight",
        "blk.0.exp_probs_b.bias",
        "blk.0.attn_gate.weight",
        "blk.0.layer_output_scale.weight",
        "blk.0.ssm_a",
        "blk.2.attn_q.weight",
        "blk.99.attn_norm.weight",
        "blk.0.nextn.eh_proj.weight",
        "blk.0.attn_q.weight.lora_a",
        "token_embd.scale",
        "token_embd.bias",
        "blk.0.rope_freqs.weight",
        "per_layer_token_embd.weight",
        "what_is_this",
    };
    for (size_t i = 0; i < ARRAY_LEN(unknown); i++) {
        const struct edit edits[] = { ADD_TENSOR(unknown[i], 1, 64), { 0 } };
        assert_refused("mistral", edits, FAIL_UNSUPPORTED, unknown[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(goldens); i++) {
        const struct edit edits[] = { ADD_TENSOR("blk.0.attn_sub_norm.weight", 1, 64), { 0 } };
        assert_refused(goldens[i], edits, FAIL_UNSUPPORTED, edits[0].name);
    }
}

static void what_no_logit_depends_on_is_passed_over(void **state)
{
    (void)state;
    static const char *const harmless[] = {
        "blk.0.attn_q.input_scale",
        "blk.1.ffn_down.input_scale",
        "blk.0.attn_rot_embd.weight",
        "rope_factors_long.weight",
        "rope_factors_short.weight",
        "cls.weight",
        "cls.output.weight",
        "dense_2.weight",
        "dense_3.weight",
        "v.blk.0.attn_q.weight",
        "mm.0.weight",
        "a.blk.0.ln1.weight",
    };
    for (size_t i = 0; i < ARRAY_LEN(harmless); i++) {
        const struct edit edits[] = { ADD_TENSOR(harmless[i], 7, 8), { 0 } };
        assert_true(golden_difference("llama", NULL, edits) == 0);
    }
    /* Gemma 4's last layers attend to what earlier ones stored. */
    const struct edit shared[] = { ADD_TENSOR("blk.4.attn_k.weight", 7, 8),
                                   ADD_TENSOR("blk.5.attn_v.weight", 7, 8),
                                   ADD_TENSOR("blk.5.attn_k_norm.weight", 7, 8),
                                   { 0 } };
    assert_true(golden_difference("gemma4", NULL, shared) == 0);
}

/* What may be absent: an output that is then the embedding's, factors of a llama's angles, values
 * of Gemma 4's layers that see everything, where no such layer has them. */
static bool may_be_absent(const char *model, struct bytes name)
{
    bool gemma4 = strncmp(model, "gemma4", 6) == 0;
    return bytes_equal_text(name, "output.weight") ||
           (bytes_equal_text(name, "rope_freqs.weight") && !gemma4) ||
           (bytes_equal_text(name, "blk.3.attn_v.weight") && gemma4);
}

static void each_tensor_that_is_missing_is_missed(void **state)
{
    (void)state;
    int dropped = 0;
    for (size_t i = 0; i < ARRAY_LEN(goldens); i++) {
        struct gguf *g;
        struct error e = { 0 };
        if (gguf_open(&g, golden(goldens[i]), &e))
            fail_test("%s", e.text);
        for (int k = 0; k < gguf_n_tensors(g); k++) {
            char name[128];
            struct wide w;
            struct bytes t = gguf_tensor_at(g, k)->name;
            snprintf(name, sizeof(name), "%.*s", BYTES_ARG(t));
            const struct edit edits[] = { DROP(name), { 0 } };
            e = (struct error){ 0 };
            int r = edited_build(&w, golden(goldens[i]), edits, NULL, &e);
            wide_close(&w);
            if (!r && !may_be_absent(goldens[i], t))
                fail_test("%s without %s is built", goldens[i], name);
            dropped++;
        }
        gguf_close(g);
    }
    print_message("%d tensors dropped, one at a time\n", dropped);
    assert_true(dropped > 500);
}

/* A factor beside a matrix is the matrix times the factor. */
static void scales_are_applied(void **state)
{
    (void)state;
    static const struct {
        const char *model, *matrix;
        int n;
    } cases[] = {
        { "llama", "blk.0.attn_q", 1 },           { "llama", "blk.0.attn_k", 1 },
        { "llama", "blk.1.attn_v", 1 },           { "llama", "blk.0.attn_output", 1 },
        { "llama", "blk.0.ffn_gate", 1 },         { "llama", "blk.1.ffn_up", 1 },
        { "llama", "blk.1.ffn_down", 1 },         { "llama", "output", 1 },
        { "llama-bias", "blk.0.attn_q", 1 },      { "llama-bias", "blk.0.ffn_down", 1 },
        { "qwen2", "blk.0.attn_k", 1 },           { "gemma3", "blk.0.ffn_gate", 1 },
        { "lfm2", "blk.0.shortconv.in_proj", 1 }, { "mixtral", "blk.0.ffn_gate_exps", 8 },
        { "mixtral", "blk.1.ffn_down_exps", 8 },  { "qwen3_moe", "blk.0.ffn_up_exps", 8 },
        { "qwen3_moe", "blk.0.ffn_gate_inp", 1 },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char scale[128], weight[128];
        double factor = cases[i].n > 1 ? 0.375 : 1.75;
        snprintf(scale, sizeof(scale), "%s.scale", cases[i].matrix);
        snprintf(weight, sizeof(weight), "%s.weight", cases[i].matrix);
        const struct edit beside[] = { ADD_TENSOR(scale, factor, cases[i].n), { 0 } };
        const struct edit within[] = { FACTOR(weight, factor), { 0 } };
        double d = golden_difference(cases[i].model, beside, within);
        double effect = golden_difference(cases[i].model, NULL, beside);
        if (!(d < 1e-5) || !(effect > 1e-3))
            fail_test("%s, %s: %g from the scaled matrix, %g from the unscaled one", cases[i].model,
                      scale, d, effect);
    }
    const struct edit many[] = { ADD_TENSOR("blk.0.attn_q.scale", 2, 64), { 0 } };
    assert_refused("llama", many, FAIL_FORMAT, "blk.0.attn_q.scale");
    const struct edit few[] = { ADD_TENSOR("blk.0.ffn_up_exps.scale", 2, 7), { 0 } };
    assert_refused("mixtral", few, FAIL_FORMAT, "blk.0.ffn_up_exps.scale");
}

/* An output matrix that is the embedding's has its own factor. */
static void a_tied_output_has_a_scale_of_its_own(void **state)
{
    (void)state;
    const struct edit scaled[] = { ADD_TENSOR("output.scale", 0.5, 1), { 0 } };
    float *x = edited_logits(golden("qwen2"), NULL, GOLDEN_TOKENS),
          *y = edited_logits(golden("qwen2"), scaled, GOLDEN_TOKENS);
    for (int i = 0; i < GOLDEN_TOKENS * GOLDEN_VOCAB; i++)
        assert_true(y[i] == x[i] * 0.5f);
    free(x);
    free(y);
}

/* Queries, keys and values in one tensor are the same model, their biases too. */
static void fused_projections_are_the_same_model(void **state)
{
    (void)state;
    const struct edit llama[] = {
        JOIN("blk.0.attn_qkv.weight",
             "blk.0.attn_q.weight blk.0.attn_k.weight blk.0.attn_v.weight"),
        JOIN("blk.1.attn_qkv.weight",
             "blk.1.attn_q.weight blk.1.attn_k.weight blk.1.attn_v.weight"),
        { 0 }
    };
    const struct edit qwen2[] = {
        JOIN("blk.1.attn_qkv.weight",
             "blk.1.attn_q.weight blk.1.attn_k.weight blk.1.attn_v.weight"),
        JOIN("blk.1.attn_qkv.bias", "blk.1.attn_q.bias blk.1.attn_k.bias blk.1.attn_v.bias"),
        { 0 }
    };
    assert_true(golden_difference("llama", NULL, llama) == 0);
    assert_true(golden_difference("mistral", NULL, llama) == 0);
    assert_true(golden_difference("qwen2", NULL, qwen2) == 0);
}

/* Part `number` of two of a golden model: its first tensors, or the others and `more`. */
static void write_part(const char *path, const struct gguf *g, int number, const char *more)
{
    struct gguf_writer *w;
    struct error e = { 0 };
    int half = gguf_n_tensors(g) / 2, first = number ? half : 0;
    int end = number ? gguf_n_tensors(g) : half;
    assert_int_equal(gguf_writer_open(&w, path, &e), 0);
    for (int i = 0; number == 0 && i < gguf_n_keys(g); i++)
        gguf_writer_value(w, gguf_value_at(g, i));
    gguf_writer_u32(w, "split.no", (uint32_t)number);
    gguf_writer_u32(w, "split.count", 2);
    gguf_writer_u32(w, "split.tensors.count", (uint32_t)gguf_n_tensors(g) + (more ? 1 : 0));
    for (int i = first; i < end; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        char name[128];
        snprintf(name, sizeof(name), "%.*s", BYTES_ARG(t->name));
        assert_int_equal(gguf_writer_tensor(w, name, t->type, t->n_dims, t->dims, &e), 0);
    }
    if (number && more)
        assert_int_equal(gguf_writer_tensor(w, more, QUANT_F32, 1, &(uint64_t){ 4 }, &e), 0);
    for (int i = first; i < end; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        assert_int_equal(gguf_writer_data(w, bytes_of(t->data, t->bytes), &e), 0);
    }
    if (number && more)
        assert_int_equal(gguf_writer_data(w, bytes_of((float[4]){ 1, 1, 1, 1 }, 16), &e), 0);
    if (gguf_writer_finish(w, &e))
        fail_test("%s", e.text);
    gguf_writer_close(w);
}

/* What stands in a later part of a split file counts like the rest. */
static void the_parts_of_a_split_file_are_read_alike(void **state)
{
    (void)state;
    static const char *const more[] = { NULL, "blk.1.attn_q.scale", "blk.1.attn_sub_norm.weight" };
    static const int results[] = { 0, FAIL_FORMAT, FAIL_UNSUPPORTED };
    char folder[] = "/tmp/shoal-parts-XXXXXX", path[2][64];
    struct gguf *g, *split;
    struct error e = { 0 };
    assert_non_null(mkdtemp(folder));
    assert_int_equal(gguf_open(&g, golden("mistral"), &e), 0);
    for (int k = 0; k < 3; k++) {
        struct arena arena = { 0 };
        struct program *p;
        for (int i = 0; i < 2; i++) {
            snprintf(path[i], sizeof(path[i]), "%s/m-0000%d-of-00002.gguf", folder, i + 1);
            write_part(path[i], g, i, more[k]);
        }
        if (gguf_open(&split, path[0], &e))
            fail_test("%s", e.text);
        assert_int_equal(model_build(split, NULL, &arena, &p, &e), results[k]);
        assert_true(!more[k] || strstr(e.text, more[k]));
        gguf_close(split);
        arena_done(&arena);
    }
    gguf_close(g);
    remove(path[0]);
    remove(path[1]);
    remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_nothing_reads_refuses_the_file),
        cmocka_unit_test(what_no_logit_depends_on_is_passed_over),
        cmocka_unit_test(each_tensor_that_is_missing_is_missed),
        cmocka_unit_test(scales_are_applied),
        cmocka_unit_test(fused_projections_are_the_same_model),
        cmocka_unit_test(the_parts_of_a_split_file_are_read_alike),
        cmocka_unit_test(a_tied_output_has_a_scale_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

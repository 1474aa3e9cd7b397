/* Keys that change the arithmetic: each is honoured, refused by name, or known to be harmless. */
#include "tests/model/edited.h"

#include "model/family.h"
#include "model/known_keys.h"

/* A golden model of each family. */
static const struct {
    const char *family, *file;
} models[] = {
    { "llama", "llama" },        { "qwen2", "qwen2" },     { "qwen3", "qwen3" },
    { "qwen3moe", "qwen3_moe" }, { "smollm3", "smollm3" }, { "gemma3", "gemma3" },
    { "gemma4", "gemma4" },      { "lfm2", "lfm2" },
};

/* What llama.cpp's loader reads in the namespace of every family (load_hparams)... */
static const char *const loader_all[] = {
    "context_length",
    "embedding_length",
    "embedding_length_out",
    "attention.causal",
    "pooling_type",
    "classifier.pooling_type",
    "classifier.output_labels",
    "block_count",
    "nextn_predict_layers",
    "expert_count",
    "expert_used_count",
    "expert_group_count",
    "expert_group_used_count",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.alpha",
    "attention.key_length",
    "attention.value_length",
    "rope.dimension_count",
    "attention.key_length_swa",
    "attention.value_length_swa",
    "rope.dimension_count_swa",
    "attention.layer_norm_rms_epsilon",
};
/* ...and of one. */
static const char *const loader_own[][2] = {
    { "llama", "vocab_size" },
    { "qwen3moe", "expert_feed_forward_length" },
    { "gemma3", "attention.sliding_window" },
    { "gemma3", "attention.sliding_window_pattern" },
    { "gemma3", "rope.freq_base_swa" },
    { "gemma3", "final_logit_softcapping" },
    { "gemma4", "attention.sliding_window" },
    { "gemma4", "attention.sliding_window_pattern" },
    { "gemma4", "attention.shared_kv_layers" },
    { "gemma4", "rope.freq_base_swa" },
    { "gemma4", "expert_feed_forward_length" },
    { "gemma4", "embedding_length_per_layer_input" },
    { "gemma4", "final_logit_softcapping" },
    { "lfm2", "shortconv.l_cache" },
    { "lfm2", "attention.sliding_window" },
};

static int build(const char *model, const struct edit *edits, struct error *e)
{
    struct wide w;
    *e = (struct error){ 0 };
    int r = edited_build(&w, golden(model), edits, NULL, e);
    wide_close(&w);
    return r;
}

/* Two edits of one model give the same numbers. */
static void assert_same(const char *model, const struct edit *a, const struct edit *b)
{
    assert_true(golden_difference(model, a, b) == 0);
}

static void assert_differ(const char *model, const struct edit *a)
{
    assert_true(golden_difference(model, NULL, a) > 1e-4);
}

static void every_key_of_the_loader_is_accounted_for(void **state)
{
    (void)state;
    int families = 0;
    family_all(&families);
    assert_int_equal(families, ARRAY_LEN(models));
    for (size_t m = 0; m < ARRAY_LEN(models); m++)
        for (size_t i = 0; i < ARRAY_LEN(loader_all); i++)
            if (!known_key_find(models[m].family, loader_all[i]))
                fail_test("%s.%s is not in the table", models[m].family, loader_all[i]);
    for (size_t i = 0; i < ARRAY_LEN(loader_own); i++)
        if (!known_key_find(loader_own[i][0], loader_own[i][1]))
            fail_test("%s.%s is not in the table", loader_own[i][0], loader_own[i][1]);
}

/* A value of a wrong kind shows whether a key is read. */
static void check_key(const char *family, const char *model, const struct known_key *key)
{
    char name[128];
    struct error e;
    snprintf(name, sizeof(name), "%s.%s", family, key->suffix);
    bool text = strcmp(key->suffix, "rope.scaling.type") == 0;
    /* Where windows are an option, their keys count with one. */
    const struct edit window = SET_U32("lfm2.attention.sliding_window", 8);
    size_t n = strlen(key->suffix);
    bool windowed = strcmp(family, "lfm2") == 0 && strcmp(key->suffix + n - 4, "_swa") == 0;
    const struct edit end = { 0 };
    const struct edit wrong[] = { text ? (struct edit)SET_U32(name, 7)
                                       : (struct edit)SET_TEXT(name, "x"),
                                  windowed ? window : end, end };
    char type[128], factor[128];
    snprintf(type, sizeof(type), "%s.rope.scaling.type", family);
    snprintf(factor, sizeof(factor), "%s.rope.scaling.factor", family);
    const struct edit with_yarn[] = { wrong[0], SET_TEXT(type, "yarn"), SET_F32(factor, 4), { 0 } };
    const struct edit neutral[] = { SET_F32(name, key->neutral), { 0 } };
    const struct edit other[] = { SET_U32(name, key->neutral + 2), { 0 } };
    switch (key->use) {
    case KEY_READ:
        assert_refused(model, wrong, FAIL_FORMAT, name);
        break;
    case KEY_READ_WITH_YARN:
        assert_refused(model, with_yarn, FAIL_FORMAT, name);
        break;
    case KEY_NEUTRAL:
    case KEY_AT_MOST:
        assert_int_equal(build(model, neutral, &e), 0);
        assert_refused(model, other, FAIL_UNSUPPORTED, name);
        assert_refused(model, other, FAIL_UNSUPPORTED, "is not supported yet");
        assert_refused(model, wrong, FAIL_FORMAT, name);
        break;
    case KEY_HARMLESS:
        assert_true(key->why[0] != '\0');
        assert_same(model, NULL, other);
        break;
    }
}

/* Keys of experts count where there are some. */
static const char *file_for(const char *file, const char *suffix)
{
    return strcmp(file, "llama") == 0 && strcmp(suffix, "expert_used_count") == 0 ? "mixtral"
                                                                                  : file;
}

static void each_key_is_treated_as_the_table_says(void **state)
{
    (void)state;
    int n;
    const struct known_key *keys = known_keys(&n);
    for (size_t m = 0; m < ARRAY_LEN(models); m++)
        for (int i = 0; i < n; i++)
            if (known_key_find(models[m].family, keys[i].suffix) == &keys[i])
                check_key(models[m].family, file_for(models[m].file, keys[i].suffix), &keys[i]);
}

static void one_group_of_experts_is_none(void **state)
{
    (void)state;
    const struct edit zero[] = { SET_U32("llama.expert_group_count", 0), { 0 } };
    const struct edit one[] = { SET_U32("llama.expert_group_count", 1), { 0 } };
    assert_same("mixtral", NULL, zero);
    assert_same("mixtral", NULL, one);
}

static void causal_is_a_boolean(void **state)
{
    (void)state;
    struct error e;
    const struct edit yes[] = { SET_BOOL("llama.attention.causal", 1), { 0 } };
    const struct edit no[] = { SET_BOOL("llama.attention.causal", 0), { 0 } };
    assert_int_equal(build("llama", yes, &e), 0);
    assert_refused("llama", no, FAIL_UNSUPPORTED, "llama with attention to later positions");
}

static void linear_scaling_has_three_spellings(void **state)
{
    (void)state;
    const struct edit named[] = { SET_TEXT("llama.rope.scaling.type", "linear"),
                                  SET_F32("llama.rope.scaling.factor", 4),
                                  { 0 } };
    const struct edit untyped[] = { SET_F32("llama.rope.scaling.factor", 4), { 0 } };
    const struct edit older[] = { SET_F32("llama.rope.scale_linear", 4), { 0 } };
    const struct edit both[] = { SET_F32("llama.rope.scale_linear", 2),
                                 SET_F32("llama.rope.scaling.factor", 4),
                                 { 0 } };
    const struct edit none[] = { SET_TEXT("llama.rope.scaling.type", "none"),
                                 SET_F32("llama.rope.scaling.factor", 4),
                                 { 0 } };
    const struct edit saved[] = { SET_TEXT("llama.rope.scaling.type", "linear"),
                                  SET_F32("llama.rope.scaling.factor", 0),
                                  { 0 } };
    const struct edit magnitude[] = { SET_F32("llama.rope.scaling.attn_factor", 1.5), { 0 } };
    assert_differ("llama", named);
    assert_differ("llama", magnitude);
    assert_same("llama", named, untyped);
    assert_same("llama", named, older);
    assert_same("llama", named, both);
    assert_same("llama", NULL, none);
    assert_same("llama", NULL, saved);
    const struct edit below[] = { SET_F32("llama.rope.scale_linear", -1), { 0 } };
    const struct edit longrope[] = { SET_TEXT("llama.rope.scaling.type", "longrope"), { 0 } };
    assert_refused("llama", below, FAIL_FORMAT, "llama.rope.scale_linear");
    assert_refused("llama", longrope, FAIL_UNSUPPORTED, "\"longrope\" is not supported yet");
}

static void yarn_takes_the_context_where_no_original_is_said(void **state)
{
    (void)state;
    static const char original[] = "llama.rope.scaling.original_context_length";
    const struct edit said[] = { SET_U32(original, 512), { 0 } };
    const struct edit unsaid[] = { DROP(original), SET_U32("llama.context_length", 512), { 0 } };
    const struct edit zero[] = { SET_U32(original, 0),
                                 SET_U32("llama.context_length", 512),
                                 { 0 } };
    assert_same("llama-yarn", said, unsaid);
    assert_same("llama-yarn", said, zero);
}

static void windows_follow_a_pattern_in_three_spellings(void **state)
{
    (void)state;
    static const char pattern[] = "gemma3.attention.sliding_window_pattern";
    static const int32_t second[] = { 1, 0, 1, 0, 1, 0 }, all[] = { 1, 1, 1, 1, 1, 1 },
                         none[] = { 0, 0, 0, 0, 0, 0 }, sixth[] = { 1, 1, 1, 1, 1, 0 };
    const struct edit number[] = { SET_U32(pattern, 2), { 0 } };
    const struct edit flags[] = { SET_ARRAY(pattern, second, 6), { 0 } };
    const struct edit number0[] = { SET_U32(pattern, 0), { 0 } };
    const struct edit flags0[] = { SET_ARRAY(pattern, all, 6), { 0 } };
    const struct edit number1[] = { SET_U32(pattern, 1), { 0 } };
    const struct edit flags1[] = { SET_ARRAY(pattern, none, 6), { 0 } };
    const struct edit flags6[] = { SET_ARRAY(pattern, sixth, 6), { 0 } };
    const struct edit few[] = { SET_ARRAY(pattern, second, 5), { 0 } };
    assert_same("gemma3", number, flags);
    assert_same("gemma3", number0, flags0);
    assert_same("gemma3", number1, flags1);
    assert_same("gemma3", NULL, flags6);
    assert_differ("gemma3", number);
    assert_differ("gemma3", number1);
    assert_refused("gemma3", few, FAIL_FORMAT, pattern);
    const struct edit far[] = { SET_U32(pattern, 1000000), { 0 } };
    assert_same("gemma3", far, number0);
}

static void a_window_of_lfm2_is_every_attention_layers(void **state)
{
    (void)state;
    const struct edit wide[] = { SET_U32("lfm2.attention.sliding_window", GOLDEN_TOKENS), { 0 } };
    const struct edit none[] = { SET_U32("lfm2.attention.sliding_window", 0), { 0 } };
    const struct edit narrow[] = { SET_U32("lfm2.attention.sliding_window", 8), { 0 } };
    const struct edit pattern[] = { SET_U32("lfm2.attention.sliding_window", 8),
                                    SET_U32("lfm2.attention.sliding_window_pattern", 2),
                                    { 0 } };
    assert_same("lfm2", narrow, pattern);
    assert_same("lfm2", NULL, wide);
    assert_same("lfm2", NULL, none);
    assert_differ("lfm2", narrow);
    /* Up to its width, a window changes nothing. */
    float *x = edited_logits(golden("lfm2"), NULL, 8);
    float *y = edited_logits(golden("lfm2"), narrow, 8);
    assert_memory_equal(x, y, 8 * GOLDEN_VOCAB * sizeof(float));
    free(x);
    free(y);
}

static void published_values_stand_in_for_missing_ones(void **state)
{
    (void)state;
    static const char eps[] = "gemma3.attention.layer_norm_rms_epsilon";
    const struct edit missing[] = {
        DROP(eps), DROP("gemma3.rope.freq_base"), DROP("gemma3.rope.freq_base_swa"), { 0 }
    };
    const struct edit said[] = { SET_F32(eps, 1e-6),
                                 SET_F32("gemma3.rope.freq_base", 1e6),
                                 SET_F32("gemma3.rope.freq_base_swa", 1e4),
                                 { 0 } };
    struct wide w;
    struct error e = { 0 };
    struct buffer notes;
    assert_same("gemma3", missing, said);
    buffer_init(&notes, 4096);
    assert_int_equal(edited_build(&w, golden("gemma3"), missing, &notes, &e), 0);
    wide_close(&w);
    assert_non_null(
        strstr(buffer_cstr(&notes), "gemma3.attention.layer_norm_rms_epsilon is missing: 1e-06"));
    assert_non_null(strstr(buffer_cstr(&notes), "gemma3.rope.freq_base is missing: 1e+06"));
    assert_non_null(strstr(buffer_cstr(&notes), "gemma3.rope.freq_base_swa is missing: 10000"));
    buffer_clear(&notes);
    assert_int_equal(edited_build(&w, golden("gemma3"), NULL, &notes, &e), 0);
    wide_close(&w);
    assert_int_equal(notes.size, 0);
    buffer_done(&notes);
}

/* What a Gemma 3 without windows leaves out is said too: it may have been lost. */
static void a_window_that_is_missing_is_said(void **state)
{
    (void)state;
    static const char window[] = "gemma3.attention.sliding_window";
    const struct edit missing[] = { DROP(window), { 0 } };
    const struct edit none[] = { SET_U32(window, 0), { 0 } };
    struct wide w;
    struct error e = { 0 };
    struct buffer notes;
    assert_same("gemma3", missing, none);
    buffer_init(&notes, 4096);
    assert_int_equal(edited_build(&w, golden("gemma3"), missing, &notes, &e), 0);
    wide_close(&w);
    assert_non_null(strstr(buffer_cstr(&notes), "gemma3.attention.sliding_window is missing"));
    buffer_clear(&notes);
    assert_int_equal(edited_build(&w, golden("gemma3"), none, &notes, &e), 0);
    wide_close(&w);
    assert_int_equal(notes.size, 0);
    buffer_done(&notes);
}

/* Doubles count as the f32 that they are; numbers that would make every logit NaN, or another
 * model's, are refused by name. */
static void numbers_out_of_range_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *model, *key;
        double value;
        const char *why;
    } cases[] = {
        { "llama", "llama.rope.freq_base", 1e300, "not a finite number" },
        { "llama", "llama.rope.freq_base", 1e-300, "not above 0" },
        { "llama", "llama.rope.freq_base", -1e4, "not above 0" },
        { "llama", "llama.attention.layer_norm_rms_epsilon", 1e300, "not a finite number" },
        { "llama", "llama.attention.layer_norm_rms_epsilon", 1e-300, "not above 0" },
        { "llama", "llama.attention.layer_norm_rms_epsilon", NAN, "not a finite number" },
        { "llama", "llama.rope.scaling.factor", 1e39, "not a finite number" },
        { "llama", "llama.rope.scaling.factor", INFINITY, "not a finite number" },
        { "llama-yarn", "llama.rope.scaling.yarn_beta_fast", 0, "not above 0" },
        { "llama-yarn", "llama.rope.scaling.yarn_beta_slow", -1, "not above 0" },
        { "llama-yarn", "llama.rope.freq_base", 1, "above 1" },
        { "gemma3", "gemma3.final_logit_softcapping", -30, "below 0" },
        { "gemma3", "gemma3.rope.freq_base_swa", 1e-300, "not above 0" },
        { "gemma4", "gemma4.final_logit_softcapping", 1e300, "not a finite number" },
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct edit bad[] = { SET_F64(cases[i].key, cases[i].value), { 0 } };
        assert_refused(cases[i].model, bad, FAIL_FORMAT, cases[i].key);
        assert_refused(cases[i].model, bad, FAIL_FORMAT, cases[i].why);
    }
    const struct edit narrow[] = { SET_F32("llama.rope.scaling.factor", 2.5), { 0 } };
    const struct edit wide[] = { SET_F64("llama.rope.scaling.factor", 2.5), { 0 } };
    assert_same("llama", narrow, wide);
    assert_differ("llama", wide);
}

static void a_missing_epsilon_is_the_familys_or_refused(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        struct error e;
        char name[128];
        snprintf(name, sizeof(name), "%s.attention.layer_norm_rms_epsilon", models[m].family);
        const struct edit missing[] = { DROP(name), { 0 } };
        const struct edit zero[] = { SET_F32(name, 0), { 0 } };
        const struct edit lfm2[] = { SET_F32(name, 1e-5), { 0 } };
        const struct edit others[] = { SET_F32(name, 1e-6), { 0 } };
        if (strcmp(models[m].family, "llama") == 0)
            assert_refused(models[m].file, missing, FAIL_FORMAT, name);
        else
            assert_same(models[m].file, missing,
                        strcmp(models[m].family, "lfm2") == 0 ? lfm2 : others);
        assert_refused(models[m].file, zero, FAIL_FORMAT, "not above 0");
        const struct edit absent[] = { SET_F32(name, -1), { 0 } };
        assert_int_equal(build(models[m].file, absent, &e), FAIL_FORMAT);
    }
}

static double attention_scale(const struct wide *w)
{
    for (int i = 0; i < w->program->n_instrs; i++)
        if (w->program->instrs[i].op == OP_ATTEND)
            return (double)w->program->instrs[i].attend.scale;
    return 0;
}

/* Gemma 3 of 27B has 62 layers, and its q . k is scaled by the width over the heads: the same as
 * other queries under the usual scale. */
static void gemma3_of_62_layers_scales_by_width(void **state)
{
    (void)state;
    struct synth_spec spec;
    struct error e = { 0 };
    struct wide w;
    assert_int_equal(synth_preset(&spec, "tiny", "gemma3", &e), 0);
    spec.vocab = SYNTH_MIN_VOCAB;
    spec.width = spec.ffn = 64;
    spec.heads = 4;
    spec.kv_heads = 2;
    spec.head_dim = 32;
    spec.context = 64;
    spec.type = QUANT_F32;
    for (int layers = 61; layers <= 63; layers++) {
        int32_t ids[8];
        spec.layers = layers;
        wide_open(&w, &spec);
        double dim = layers == 62 ? 64 / 4 : 32;
        assert_true(fabs(attention_scale(&w) - 1 / sqrt(dim)) < 1e-7);
        wide_ids(ids, 8, w.program->vocab, 3);
        free(wide_logits(&w, ids, 8));
        wide_close(&w);
    }
}

static void the_report_of_62_layers_is_right(void **state)
{
    (void)state;
    const char *folder = getenv("SHOAL_CONFORMANCE");
    char path[512];
    struct edit edits[63] = { 0 };
    static char names[62][64];
    struct error e = { 0 };
    struct wide w;
    int32_t ids[GOLDEN_TOKENS];
    if (!folder) {
        print_message("skipped: SHOAL_CONFORMANCE is not set\n");
        skip();
    }
    snprintf(path, sizeof(path), "%s/reports/gemma3-62-layers.gguf", folder);
    wide_ids(ids, GOLDEN_TOKENS, GOLDEN_VOCAB, 5);
    float *right = edited_logits(path, NULL, GOLDEN_TOKENS);
    for (int i = 0; i < 62; i++) {
        snprintf(names[i], sizeof(names[i]), "blk.%d.attn_q_norm.weight", i);
        edits[i] = (struct edit)FACTOR(names[i], sqrt(24.0 / 16.0));
    }
    assert_int_equal(edited_build(&w, path, edits, NULL, &e), 0);
    for (int i = 0; i < w.program->n_instrs; i++)
        if (w.program->instrs[i].op == OP_ATTEND)
            w.program->instrs[i].attend.scale = (float)(1 / sqrt(24.0));
    float *other = wide_logits(&w, ids, GOLDEN_TOKENS);
    for (int i = 0; i < GOLDEN_TOKENS * GOLDEN_VOCAB; i++)
        assert_true(fabs((double)right[i] - (double)other[i]) < 1e-3);
    free(right);
    free(other);
    wide_close(&w);
}

static void a_softcap_counts_only_where_a_family_has_one(void **state)
{
    (void)state;
    const struct edit llama[] = { SET_F32("llama.final_logit_softcapping", 2), { 0 } };
    const struct edit gemma3[] = { SET_F32("gemma3.final_logit_softcapping", 2), { 0 } };
    const struct edit zero[] = { SET_F32("gemma3.final_logit_softcapping", 0), { 0 } };
    assert_same("llama", NULL, llama);
    assert_same("gemma3", NULL, zero);
    assert_differ("gemma3", gemma3);
}

/* llama.cpp's saver writes every key that it knows, those that mean nothing among them. */
static void what_llama_cpps_saver_writes_loads(void **state)
{
    (void)state;
#define COMMON(F)                                                                                  \
    SET_U32(F ".embedding_length_out", 0), SET_U32(F ".leading_dense_block_count", 0),             \
        SET_U32(F ".expert_shared_feed_forward_length", 0),                                        \
        SET_BOOL(F ".use_parallel_residual", 0), SET_U32(F ".expert_group_count", 0),              \
        SET_U32(F ".expert_group_used_count", 0), SET_F32(F ".expert_weights_scale", 0),           \
        SET_BOOL(F ".expert_weights_norm", 0), SET_U32(F ".expert_gating_func", 0),                \
        SET_U32(F ".nextn_predict_layers", 0), SET_U32(F ".pooling_type", 0),                      \
        SET_F32(F ".logit_scale", 0), SET_F32(F ".attn_logit_softcapping", 50),                    \
        SET_F32(F ".residual_scale", 0), SET_F32(F ".embedding_scale", 0),                         \
        SET_F32(F ".attention.clamp_kqv", 0), SET_F32(F ".attention.max_alibi_bias", 0),           \
        SET_F32(F ".attention.layer_norm_epsilon", 0), SET_BOOL(F ".attention.causal", 1),         \
        SET_F32(F ".attention.scale", 0), SET_TEXT(F ".rope.scaling.type", "linear"),              \
        SET_F32(F ".rope.scaling.factor", 0), SET_F32(F ".rope.scaling.attn_factor", 1),           \
        SET_BOOL(F ".rope.scaling.finetuned", 0),                                                  \
        SET_U32(F ".rope.scaling.original_context_length", 1024),                                  \
        SET_F32(F ".rope.scaling.yarn_log_multiplier", 0),                                         \
        SET_F32(F ".rope.scaling.yarn_ext_factor", -1),                                            \
        SET_F32(F ".rope.scaling.yarn_attn_factor", 1),                                            \
        SET_F32(F ".rope.scaling.yarn_beta_fast", 32),                                             \
        SET_F32(F ".rope.scaling.yarn_beta_slow", 1), SET_U32(F ".ssm.inner_size", 0),             \
        SET_U32(F ".wkv.head_size", 0)
    static const int32_t clamps[] = { 0, 0 };
    const struct edit llama[] = { COMMON("llama"),
                                  SET_U32("llama.expert_count", 0),
                                  SET_U32("llama.expert_used_count", 0),
                                  SET_U32("llama.expert_feed_forward_length", 0),
                                  SET_U32("llama.attention.sliding_window", 0),
                                  SET_ARRAY("llama.swiglu_clamp_exp", clamps, 2),
                                  { 0 } };
    const struct edit mixtral[] = { COMMON("llama"),
                                    SET_U32("llama.expert_feed_forward_length", 0),
                                    { 0 } };
    const struct edit qwen3[] = { COMMON("qwen3"),
                                  SET_U32("qwen3.expert_count", 0),
                                  SET_U32("qwen3.expert_used_count", 0),
                                  SET_U32("qwen3.expert_feed_forward_length", 0),
                                  { 0 } };
    const struct edit gemma3[] = { COMMON("gemma3"), SET_U32("gemma3.expert_count", 0), { 0 } };
    const struct edit lfm2[] = { COMMON("lfm2"),
                                 SET_U32("lfm2.expert_count", 0),
                                 SET_U32("lfm2.expert_feed_forward_length", 0),
                                 SET_U32("lfm2.attention.sliding_window", 0),
                                 { 0 } };
    assert_same("llama", NULL, llama);
    assert_same("mixtral", NULL, mixtral);
    assert_same("qwen3", NULL, qwen3);
    assert_same("gemma3", NULL, gemma3);
    assert_same("lfm2", NULL, lfm2);
#undef COMMON
}

/* A layer without KV heads may have no heads at all, or those of the others. */
static void lfm2_says_heads_by_layer(void **state)
{
    (void)state;
    struct error e = { 0 };
    struct wide w;
    int32_t heads[64];
    assert_int_equal(edited_build(&w, golden("lfm2"), NULL, NULL, &e), 0);
    const struct gguf_value *kv = gguf_find(w.gguf, "lfm2.attention.head_count_kv");
    int64_t all = 0;
    assert_int_equal(gguf_get_int(w.gguf, "lfm2.attention.head_count", 0, &all, &e), 0);
    assert_true(kv && kv->type == GGUF_ARRAY && kv->count <= 64);
    int n = (int)kv->count;
    for (int i = 0; i < n; i++)
        heads[i] = gguf_array_int(kv, (uint64_t)i) ? (int32_t)all : 0;
    wide_close(&w);
    const struct edit some[] = { SET_ARRAY("lfm2.attention.head_count", heads, n), { 0 } };
    assert_same("lfm2", NULL, some);
    for (int i = 0; i < n; i++)
        heads[i] = (int32_t)all;
    assert_same("lfm2", NULL, some);
    for (int i = 0; i < n; i++)
        heads[i] = 0;
    assert_refused("lfm2", some, FAIL_FORMAT, "lfm2.attention.head_count");
}

static void numbers_by_layer_may_be_arrays(void **state)
{
    (void)state;
    static const int32_t four[] = { 4, 4, 4 }, two[] = { 2, 2, 2 }, ffn[] = { 96, 96, 96 };
    const struct edit arrays[] = { SET_ARRAY("llama.attention.head_count", four, 3),
                                   SET_ARRAY("llama.attention.head_count_kv", two, 3),
                                   SET_ARRAY("llama.feed_forward_length", ffn, 3),
                                   { 0 } };
    const struct edit few[] = { SET_ARRAY("llama.feed_forward_length", ffn, 1), { 0 } };
    assert_same("llama", NULL, arrays);
    const struct edit none[] = { DROP("llama.feed_forward_length"), { 0 } };
    assert_refused("llama", few, FAIL_FORMAT, "llama.feed_forward_length");
    assert_refused("llama", none, FAIL_FORMAT, "llama.feed_forward_length");
}

static void shapes_that_are_not_there_yet_are_called_so(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(models); m++) {
        char name[128], text[128];
        const struct known_key *key = known_key_find(models[m].family, "expert_count");
        snprintf(name, sizeof(name), "%s.expert_count", models[m].family);
        snprintf(text, sizeof(text), "%s with experts is not supported yet", models[m].family);
        const struct edit experts[] = { SET_U32(name, 8), { 0 } };
        if (key->use == KEY_AT_MOST)
            assert_refused(models[m].file, experts, FAIL_UNSUPPORTED, text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_of_the_loader_is_accounted_for),
        cmocka_unit_test(each_key_is_treated_as_the_table_says),
        cmocka_unit_test(one_group_of_experts_is_none),
        cmocka_unit_test(causal_is_a_boolean),
        cmocka_unit_test(linear_scaling_has_three_spellings),
        cmocka_unit_test(yarn_takes_the_context_where_no_original_is_said),
        cmocka_unit_test(windows_follow_a_pattern_in_three_spellings),
        cmocka_unit_test(a_window_of_lfm2_is_every_attention_layers),
        cmocka_unit_test(published_values_stand_in_for_missing_ones),
        cmocka_unit_test(a_window_that_is_missing_is_said),
        cmocka_unit_test(numbers_out_of_range_are_refused),
        cmocka_unit_test(a_missing_epsilon_is_the_familys_or_refused),
        cmocka_unit_test(gemma3_of_62_layers_scales_by_width),
        cmocka_unit_test(the_report_of_62_layers_is_right),
        cmocka_unit_test(a_softcap_counts_only_where_a_family_has_one),
        cmocka_unit_test(what_llama_cpps_saver_writes_loads),
        cmocka_unit_test(lfm2_says_heads_by_layer),
        cmocka_unit_test(numbers_by_layer_may_be_arrays),
        cmocka_unit_test(shapes_that_are_not_there_yet_are_called_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The calculator of memory. */
#include "tests/model/edited.h"

#include "model/summary.h"
#include "os/env.h"
#include "os/file.h"

#include <stdio.h>

static void open_model(struct wide *w, const char *family)
{
    struct error e = { 0 };
    struct synth_spec spec;
    assert_int_equal(synth_preset(&spec, "wide", family, &e), 0);
    spec.type = QUANT_Q8_0;
    wide_open(w, &spec);
}

/* The calculator against numbers worked out by hand. */
static void memory_by_hand(void **state)
{
    struct wide w;
    struct model_summary s;
    struct error e = { 0 };
    open_model(&w, "lfm2");
    assert_int_equal(model_summarize(w.gguf, &s, &e), 0);
    assert_int_equal(s.full_layers, 3);
    assert_int_equal(s.stateful_layers, 5);
    assert_true(s.full_kv == 3 * 8 * (32 + 32) * 2);
    assert_true(s.state == 5 * 2 * 512 * 4);
    assert_true(model_summary_kv(&s, 1000) == 1000 * s.full_kv + s.state);
    wide_close(&w);

    open_model(&w, "gemma3");
    assert_int_equal(model_summarize(w.gguf, &s, &e), 0);
    assert_int_equal(s.full_layers, 1); /* the sixth of eight */
    assert_int_equal(s.sliding_layers, 7);
    assert_true(model_summary_kv(&s, 2048) == (2048 + 7 * 64) * 8 * 64 * 2);
    assert_true(model_summary_kv(&s, 10) == 80 * 8 * 64 * 2);
    struct model_memory m = model_summary_memory(&s, 2048);
    assert_true(m.total == m.weights + m.kv + m.buffers && m.weights == s.tensor_bytes);
    wide_close(&w);
}

/* Facts of the two real models; skipped where they are not there. */
static void real_models(void **state)
{
    static const struct {
        const char *name;
        int tensors, keys;
        uint64_t parameters, tensor_bytes, file_bytes, kv;
        int64_t context, layers;
    } facts[] = {
        { "SmolLM2-135M-Instruct.Q4_1.gguf", 272, 33, 134515008, 96576768, 98362432, 23040, 8192,
          30 },
        { "gemma-3-270m-q4_k_m.gguf", 236, 33, 268098176, 246587904, 253113024, 18432, 32768, 18 },
    };
    const char *models = env_get("SHOAL_MODELS", NULL);
    int seen = 0;
    for (int i = 0; models && i < 2; i++) {
        char path[4096];
        struct gguf *g = NULL;
        struct model_summary s;
        struct error e = { 0 };
        snprintf(path, sizeof(path), "%s/%s", models, facts[i].name);
        if (!file_exists(path))
            continue;
        if (gguf_open(&g, path, &e) || model_summarize(g, &s, &e))
            fail_test("%s", e.text);
        assert_int_equal(gguf_n_tensors(g), facts[i].tensors);
        assert_int_equal(gguf_n_keys(g), facts[i].keys);
        assert_true(s.parameters == facts[i].parameters);
        assert_true(s.tensor_bytes == facts[i].tensor_bytes);
        assert_true(gguf_file_bytes(g) == facts[i].file_bytes);
        assert_true(s.full_kv + s.sliding_kv == facts[i].kv);
        assert_true(s.context == facts[i].context && s.layers == facts[i].layers);
        gguf_close(g);
        seen++;
    }
    if (!seen) {
        print_message("SHOAL_MODELS names no folder with the real models\n");
        skip();
    }
}

static void summarize_edited(const char *model, const struct edit *edits, struct model_summary *ret)
{
    struct buffer file;
    struct gguf *g;
    struct error e = { 0 };
    edited_file(&file, golden(model), edits);
    if (gguf_open_bytes(&g, buffer_bytes(&file), &e) || model_summarize(g, ret, &e))
        fail_test("%s: %s", model, e.text);
    gguf_close(g);
    buffer_done(&file);
}

/* Whether a file can be served, and what stands in for what it lacks, is known before it is
 * loaded. */
static void what_loading_would_say_is_said(void **state)
{
    (void)state;
    struct model_summary s;
    summarize_edited("llama", NULL, &s);
    assert_string_equal(s.refused, "");
    assert_string_equal(s.notes, "");
    const struct edit more[] = { ADD_TENSOR("blk.1.attn_sinks", 1, 4), { 0 } };
    summarize_edited("llama", more, &s);
    assert_non_null(strstr(s.refused, "tensor blk.1.attn_sinks is not one"));
    assert_string_equal(s.notes, "");
    const struct edit less[] = { DROP("qwen3.rope.freq_base"), { 0 } };
    summarize_edited("qwen3", less, &s);
    assert_string_equal(s.refused, "");
    assert_non_null(strstr(s.notes, "qwen3.rope.freq_base is missing: 10000 stands in"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_by_hand),
        cmocka_unit_test(what_loading_would_say_is_said),
        cmocka_unit_test(real_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

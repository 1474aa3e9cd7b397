/* shoal-synth: writes a synthetic model (random weights in the shape of a real family). */
#include "tools/synth/synth.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Name, field, help. */
#define NUMBERS(X)                                                                                 \
    X("--layers", layers, "layers")                                                                \
    X("--width", width, "hidden width")                                                            \
    X("--heads", heads, "attention heads")                                                         \
    X("--kv-heads", kv_heads, "KV heads")                                                          \
    X("--head-dim", head_dim, "head size")                                                         \
    X("--ffn", ffn, "FFN width")                                                                   \
    X("--vocab", vocab, "tokens")                                                                  \
    X("--context", context, "native context")                                                      \
    X("--experts", experts, "experts a layer (mixtral, qwen3moe)")                                 \
    X("--experts-used", experts_used, "experts a token uses")                                      \
    X("--expert-ffn", expert_ffn, "FFN width of one expert")                                       \
    X("--window", window, "positions a sliding layer sees (gemma3)")

static void usage(FILE *to)
{
    fputs("usage: shoal-synth [options] OUT.gguf\n"
          "  --preset NAME     tiny, wide (8 layers, width 512; the default), 1b, moe\n"
          "  --arch NAME       llama mixtral qwen2 qwen3 qwen3moe gemma3 lfm2 smollm3\n"
          "  --type NAME       F32 (default) F16 BF16 Q4_0 Q8_0 Q4_K Q6_K ... or Q4_K_M\n"
          "  --pure            the output matrix of the same type too\n"
          "  --tied, --untied  output matrix shared with the embedding, or its own\n"
          "  --bias            biases on every product (llama)\n"
          "  --seed N          another seed, other weights\n"
          "  --logit-std X     standard deviation of the logits (2)\n",
          to);
#define NUMBER(name, field, help) fprintf(to, "  %-17s %s\n", name " N", help);
    NUMBERS(NUMBER)
#undef NUMBER
}

static bool parse_int(const char *text, long long most, long long *ret)
{
    char *end;
    errno = 0;
    long long v = text ? strtoll(text, &end, 10) : -1;
    if (!text || errno || *end || end == text || v < 0 || v > most)
        return false;
    *ret = v;
    return true;
}

/* One option, with its value when it takes one. Returns the arguments used; 0 when it is wrong. */
static int parse_option(struct synth_spec *s, const char *name, const char *value, struct error *e)
{
    long long v;
#define NUMBER(option, field, help)                                                                \
    if (strcmp(name, option) == 0) {                                                               \
        if (!parse_int(value, INT_MAX, &v))                                                        \
            return 0;                                                                              \
        s->field = (int)v;                                                                         \
        return 2;                                                                                  \
    }
    NUMBERS(NUMBER)
#undef NUMBER
    if (strcmp(name, "--type") == 0)
        return value && !synth_set_type(s, value, e) ? 2 : 0;
    if (strcmp(name, "--seed") == 0 && parse_int(value, LLONG_MAX, &v)) {
        s->seed = (uint64_t)v;
        return 2;
    }
    if (strcmp(name, "--logit-std") == 0 && value) {
        char *end;
        s->logit_std = strtof(value, &end);
        return *end == '\0' && s->logit_std > 0 ? 2 : 0;
    }
    if (strcmp(name, "--tied") == 0)
        s->tied = 1;
    else if (strcmp(name, "--untied") == 0)
        s->tied = 0;
    else if (strcmp(name, "--bias") == 0)
        s->bias = true;
    else if (strcmp(name, "--pure") == 0)
        s->pure = true;
    else
        return 0;
    return 1;
}

/* The value of an option that chooses the defaults, which the others then change. */
static const char *early(int argc, char **argv, const char *name)
{
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    return NULL;
}

static int parse(int argc, char **argv, struct synth_spec *s, const char **out, struct error *e)
{
    const char *preset = early(argc, argv, "--preset");
    int r = synth_preset(s, preset ? preset : "wide", early(argc, argv, "--arch"), e);
    for (int i = 1; i < argc && !r;) {
        if (strcmp(argv[i], "--preset") == 0 || strcmp(argv[i], "--arch") == 0) {
            i += 2;
            continue;
        }
        int used = 1;
        if (argv[i][0] != '-' && !*out)
            *out = argv[i];
        else
            used = parse_option(s, argv[i], i + 1 < argc ? argv[i + 1] : NULL, e);
        if (!used)
            r = e->code ? e->code : fail(e, FAIL_ARG, "bad option or value: %s", argv[i]);
        i += used;
    }
    return r ? r : *out ? 0 : fail(e, FAIL_ARG, "no file to write is named");
}

int main(int argc, char **argv)
{
    struct error e = { 0 };
    struct synth_spec spec;
    const char *out = NULL;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        usage(stdout);
        return 0;
    }
    if (parse(argc, argv, &spec, &out, &e)) {
        fprintf(stderr, "shoal-synth: %s\n", e.text);
        usage(stderr);
        return 2;
    }
    struct gguf_writer *w = NULL;
    int r = gguf_writer_open(&w, out, &e);
    if (!r)
        r = synth_write(w, &spec, &e);
    gguf_writer_close(w);
    if (r)
        fprintf(stderr, "shoal-synth: %s\n", e.text);
    return r ? 1 : 0;
}

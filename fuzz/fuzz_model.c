/* From a model file of a stranger to its logits: file, vocabulary, program, every cut and split,
 * loading, a step. Structure-aware: the input is a choice of a small valid model and a list of
 * edits, so every input gets past the reader's counts.
 *
 * Input: family, tensor type, flags; then edits of EDIT_BYTES each: what, where, which, value.
 * Edits of keys come first and change lengths; those of fields and bytes are made in the written
 * file. */
#include "fuzz/fuzz.h"
#include "tests/values.h"

#include <assert.h>
#include <stdlib.h>

#include "backend/backend.h"
#include "base/cursor.h"
#include "chat/template.h"
#include "chat/vocab_load.h"
#include "gguf/gguf.h"
#include "model/summary.h"
#include "tools/synth/synth.h"
#include "kernels/kernels.h"
#include "graph/facts.h"
#include "graph/wants.h"
#include "model/model.h"
#include "os/pool.h"
#include "token/vocab.h"

#define MAX_FILE ((size_t)1 << 20)
#define MAX_EDITS 32
#define EDIT_BYTES 5
#define ROWS 3

enum what {
    SET_INT,
    SET_FLOAT,
    SET_TEXT,
    DROP_KEY, /* of keys */
    ELEMENT,
    KEY_TYPE,
    DIM,
    TENSOR_TYPE,
    OFFSET,
    TENSOR_NAME,
    DATA,
    CUT,
    WHAT_COUNT
};

struct edit {
    uint8_t what, where, which;
    int16_t value;
};

/* Every key that some family reads, without the family's name. */
static const char *const keys[] = {
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "context_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.key_length_swa",
    "attention.value_length_swa",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.shared_kv_layers",
    "attention.kv_lora_rank",
    "expert_count",
    "expert_used_count",
    "expert_feed_forward_length",
    "final_logit_softcapping",
    "embedding_length_per_layer_input",
    "shortconv.l_cache",
    "vocab_size",
    "ssm.inner_size",
    "ssm.state_size",
    "ssm.conv_kernel",
    "ssm.group_count",
    "rope.dimension_count",
    "rope.dimension_count_swa",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
};
static const char *const whole_keys[] = {
    "general.architecture",
    "general.alignment",
    "general.name",
    "tokenizer.ggml.model",
    "tokenizer.ggml.pre",
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.unknown_token_id",
    "tokenizer.chat_template",
    "split.count",
    "split.no",
    "split.tensors.count",
};
#define N_KEYS (sizeof keys / sizeof keys[0])
#define N_WHOLE (sizeof whole_keys / sizeof whole_keys[0])

static const char *const families[] = { "llama", "qwen2",   "qwen3",    "gemma3",
                                        "lfm2",  "mixtral", "qwen3moe", "smollm3" };
static const char *const texts[] = { "llama",
                                     "qwen2",
                                     "qwen3",
                                     "gemma3",
                                     "gemma4",
                                     "lfm2",
                                     "mixtral",
                                     "bert",
                                     "gpt2",
                                     "linear",
                                     "yarn",
                                     "llama3",
                                     "none",
                                     "qwen3moe",
                                     "tekken",
                                     "",
                                     "{{ messages[0].content }}",
                                     "qwen2moe" };

static int64_t whole_number(int16_t v)
{
    static const int64_t odd[] = { INT32_MAX, INT32_MIN,  UINT32_MAX, (int64_t)1 << 32, INT64_MAX,
                                   INT64_MIN, 1 << 16,    1 << 20,    1 << 24,          1 << 28,
                                   INT16_MAX, UINT16_MAX, 1 << 30,    1000003,          257 };
    return v <= -1000 ? odd[(unsigned)(v + 32768) % (sizeof odd / sizeof odd[0])] : v;
}

static float real_number(int16_t v)
{
    static const float odd[] = { 0.0f, -1.0f, 1e38f, 1e-38f, 1e-45f, 1e9f, -1e30f };
    union {
        uint32_t bits;
        float f;
    } special = { .bits = v & 1 ? 0x7fc00000u : 0x7f800000u }; /* NaN, infinity */
    return v <= -30000  ? special.f
           : v <= -1000 ? odd[(unsigned)(v + 32768) % (sizeof odd / sizeof odd[0])]
                        : (float)v / 16.0f;
}

/* --- the valid model --- */

static void make_skeleton(struct buffer *out, const char *family, enum quant_type type, bool tied)
{
    struct synth_spec spec;
    struct error e = { 0 };
    struct gguf_writer *w = NULL;
    buffer_init(out, MAX_FILE);
    if (synth_preset(&spec, "tiny", family, &e) != 0) {
        abort();
    }
    spec.vocab = SYNTH_MIN_VOCAB;
    spec.context = 64;
    spec.type = type;
    spec.tied = tied;
    spec.layers = strcmp(family, "lfm2") == 0 ? 3 : 2; /* of those every third attends */
    spec.width = spec.ffn = spec.expert_ffn = 32;      /* one block: small is fast */
    spec.head_dim = 8;
    spec.heads = 4;
    spec.kv_heads = 2;
    if (gguf_writer_open_memory(&w, out, &e) != 0 || synth_write(w, &spec, &e) != 0) {
        abort();
    }
    gguf_writer_close(w);
}

static struct bytes skeleton(uint8_t family, uint8_t type, bool tied)
{
    static const enum quant_type types[] = { QUANT_F32, QUANT_Q8_0, QUANT_Q4_0, QUANT_F16,
                                             QUANT_Q5_1 };
    enum {
        N_TYPES = sizeof types / sizeof types[0],
        N_FAMILIES = sizeof families / sizeof families[0]
    };
    static struct buffer made[N_FAMILIES][N_TYPES][2];
    struct buffer *b = &made[family % N_FAMILIES][type % N_TYPES][tied];
    if (b->data == NULL) {
        make_skeleton(b, families[family % N_FAMILIES], types[type % N_TYPES], tied);
    }
    return buffer_bytes(b);
}

/* --- edits of keys: the file is written anew --- */

static void full_key(const struct gguf *g, uint8_t where, char out[static 128])
{
    struct bytes family = { 0 };
    if (where % 64 < N_KEYS) {
        gguf_get_text(g, "general.architecture", "", &family, NULL);
        snprintf(out, 128, "%.*s.%s", BYTES_ARG(family), keys[where % 64]);
    } else {
        snprintf(out, 128, "%s", whole_keys[where % N_WHOLE]);
    }
}

static bool edited(const struct gguf *g, struct bytes key, const struct edit *edits, int n)
{
    char name[128];
    for (int i = 0; i < n; i++) {
        if (edits[i].what <= DROP_KEY) {
            full_key(g, edits[i].where, name);
            if (bytes_equal_text(key, name)) {
                return true;
            }
        }
    }
    return false;
}

static void put_key(struct gguf_writer *w, const char *key, const struct edit *x)
{
    int32_t list[64];
    switch (x->what) {
    case SET_INT:
        if (x->which % 4 == 1) { /* one number a layer */
            for (int i = 0; i < 64; i++) {
                list[i] = (int32_t)whole_number((int16_t)(i % 3 == 2 ? x->value : x->which >> 2));
            }
            gguf_writer_i32_array(w, key, list, (x->which >> 2) % 64);
        } else if (x->which % 4 == 2) {
            gguf_writer_u64(w, key, (uint64_t)whole_number(x->value));
        } else if (x->which % 4 == 3) {
            gguf_writer_bool(w, key, x->value & 1);
        } else {
            gguf_writer_u32(w, key, (uint32_t)whole_number(x->value));
        }
        break;
    case SET_FLOAT:
        gguf_writer_f32(w, key, real_number(x->value));
        break;
    case SET_TEXT:
        gguf_writer_text(w, key, bytes_text(texts[x->which % (sizeof texts / sizeof texts[0])]));
        break;
    default:
        break; /* dropped */
    }
}

static void write_edited(struct bytes file, const struct edit *edits, int n, struct buffer *out)
{
    struct error e = { 0 };
    struct gguf *g = NULL;
    struct gguf_writer *w = NULL;
    char name[GGUF_MAX_NAME + 1];
    if (gguf_open_bytes(&g, file, &e) != 0 || gguf_writer_open_memory(&w, out, &e) != 0) {
        abort();
    }
    for (int i = 0; i < gguf_n_keys(g); i++) {
        const struct gguf_value *v = gguf_value_at(g, i);
        if (!edited(g, v->key, edits, n)) {
            gguf_writer_value(w, v);
        }
    }
    for (int i = 0; i < n; i++) {
        full_key(g, edits[i].where, name);
        /* Of several edits of one key the first counts: files with doubled keys are refused. */
        if (edits[i].what < DROP_KEY && !edited(g, bytes_text(name), edits, i)) {
            put_key(w, name, &edits[i]);
        }
    }
    for (int i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        snprintf(name, sizeof name, "%.*s", BYTES_ARG(t->name));
        if (gguf_writer_tensor(w, name, t->type, t->n_dims, t->dims, &e) != 0) {
            abort();
        }
    }
    int r = 0;
    for (int i = 0; i < gguf_n_tensors(g) && r == 0; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        r = gguf_writer_data(w, bytes_of(t->data, t->bytes), &e);
    }
    if (r != 0 || gguf_writer_finish(w, &e) != 0) {
        /* A general.alignment that the writer doesn't take. */
        out->size = 0;
        buffer_append(out, file);
    }
    gguf_writer_close(w);
    gguf_close(g);
}

/* --- edits of bytes: where they stand is known from the written file --- */

static void put(struct buffer *file, size_t at, int64_t value, size_t size)
{
    for (size_t i = 0; i < size && at + i < file->size; i++) {
        file->data[at + i] = (uint8_t)((uint64_t)value >> 8 * i);
    }
}

static void edit_tensor(struct buffer *file, const struct gguf *g, const struct edit *x)
{
    int n = gguf_n_tensors(g);
    const struct gguf_tensor *t = gguf_tensor_at(g, x->where % n);
    const struct gguf_tensor *other = gguf_tensor_at(g, x->which % n);
    size_t name = (size_t)(t->name.data - file->data), dims = name + t->name.size + 4;
    size_t type = dims + 8 * (size_t)t->n_dims;
    if (x->what == DIM && x->which % 8 == 7) {
        put(file, dims - 4, x->value, 4);
    } else if (x->what == DIM) {
        put(file, dims + 8 * (size_t)(x->which % t->n_dims), whole_number(x->value), 8);
    } else if (x->what == TENSOR_TYPE) {
        put(file, type, x->value, 4);
    } else if (x->what == OFFSET) {
        put(file, type + 4,
            x->which & 1 ? (int64_t)(other->offset - gguf_header(g).size) : whole_number(x->value),
            8);
    } else if (other->name.size == t->name.size && x->value & 1) {
        memmove(file->data + name, other->name.data, t->name.size);
        put(file, (size_t)(other->name.data - file->data), 'x', 1); /* else it would stand twice */
    } else {
        file->data[name + x->which % t->name.size] = (uint8_t)x->value;
    }
}

static void edit_bytes(struct buffer *file, const struct gguf *g, const struct edit *x)
{
    const struct gguf_value *v =
        gguf_n_keys(g) > 0 ? gguf_value_at(g, x->where % gguf_n_keys(g)) : NULL;
    size_t place = (size_t)x->where << 8 | x->which;
    if (x->what == ELEMENT && v != NULL && v->type == GGUF_ARRAY && v->raw.size > 0) {
        file->data[(size_t)(v->raw.data - file->data) + x->which % v->raw.size] = (uint8_t)x->value;
    } else if (x->what == KEY_TYPE && v != NULL) {
        put(file, (size_t)(v->key.data - file->data) + v->key.size, x->which, 4);
    } else if (x->what == DATA) {
        put(file, gguf_header(g).size + place * 4 % (file->size - gguf_header(g).size), x->value,
            2);
    } else if (gguf_n_tensors(g) > 0 && x->what >= DIM && x->what <= TENSOR_NAME) {
        edit_tensor(file, g, x);
    }
}

/* --- what a device does with the file --- */

static int find_tensor(void *arg, const char *name, const uint8_t **data, uint64_t *size,
                       struct error *e)
{
    const struct gguf_tensor *t = gguf_tensor(arg, name);
    if (t == NULL) {
        return fail(e, FAIL_NOT_FOUND, "no tensor %s", name);
    }
    *data = t->data;
    *size = t->bytes;
    return 0;
}

static void run_step(struct backend_ctx *c, const struct program *p)
{
    struct error e = { 0 };
    struct arena a = { 0 };
    struct segment *segments = NULL;
    const struct backend_run run = { 1, 0, ROWS };
    const uint8_t wanted[ROWS] = { 0, 0, 1 };
    int32_t ids[ROWS] = { 0, 1, p->vocab - 1 };
    const struct backend_step step = {
        .runs = &run, .n_runs = 1, .ids = ids, .wanted = wanted, .n_rows = ROWS, .n_wanted = 1
    };
    int n = program_segments(p, &a, &segments);
    if (backend_create(c, 1, &e) == 0 && backend_begin(c, &step, &e) == 0) {
        int rows = 0, width = 0, r = 0;
        for (int i = 0; i < p->n_inputs; i++) {
            float *in = backend_rows_of(c, p->inputs[i], &rows, &width);
            memset(in, 0, (size_t)rows * (size_t)width * sizeof *in);
        }
        for (int i = 0; i < n && r == 0; i++) {
            r = backend_run(c, i, &e);
            if (r == 0 && segments[i].exchange != PROGRAM_NONE) {
                float *sum = backend_rows_of(c, p->instrs[segments[i].exchange].out, &rows, &width);
                memset(sum, 0, (size_t)rows * (size_t)width * sizeof *sum);
            }
        }
        if (r == 0) {
            backend_end(c, &e);
        } else {
            backend_abort(c);
        }
    }
    assert(e.code == 0 || e.text[0] != '\0');
    arena_done(&a);
}

static void load_and_run(const struct gguf *g, const struct program *p, bool scalar)
{
    static struct pool *pool;
    struct error e = { 0 };
    struct backend_ctx *c = NULL;
    if (pool == NULL && pool_open(&pool, &(struct pool_options){ .threads = 1 }, &e) != 0) {
        abort();
    }
    /* Every access of the scalar kernels is seen by a sanitizer; the others are faster. */
    const struct backend_options options = { .pool = pool,
                                             .kernels =
                                                 kernels_choose(scalar ? "scalar" : NULL, &e),
                                             .max_rows = 4,
                                             .max_sessions = 2,
                                             .state_tokens = 128 };
    const struct weight_source source = { .map = find_tensor, .arg = (void *)(uintptr_t)g };
    if (backend_open(&backend_cpu, &c, p, &source, &options, &e) != 0) {
        assert(e.text[0] != '\0');
        return;
    }
    run_step(c, p);
    backend_close(c);
}

/* One part of a split, of which the flags choose stage and rank; what can be made is valid. */
/* What a part wants lies within the file's tensors; a model that is built has facts. */
static void use_facts(const struct gguf *g, const struct program *whole, const struct program *part,
                      struct arena *a)
{
    struct error e = { 0 };
    struct program_facts facts;
    struct want *wants = NULL;
    int code = program_facts(whole, a, &facts, &e);
    int n = program_wants(part, a, &wants, &e);
    assert(code == 0 && n >= 0);
    for (int i = 0; i < n; i++) {
        const struct gguf_tensor *t = gguf_tensor(g, wants[i].tensor);
        uint64_t last = want_offset(&wants[i], want_runs(&wants[i]) - 1);
        assert(t != NULL && wants[i].size <= t->bytes && last <= t->bytes - wants[i].size);
    }
}

static void use_program(const struct gguf *g, const struct program *whole, struct arena *a,
                        uint8_t flags)
{
    static const int shares[2][2] = { { 1, 1 }, { 2, 1 } };
    struct error e = { 0 };
    struct program *cut = NULL, *part = NULL;
    struct buffer text;
    buffer_init(&text, MAX_FILE);
    program_print(whole, &text);
    buffer_done(&text);
    int middle = whole->n_layers / 2, first = flags >> 1 & 1 ? middle : 0;
    int end = first == 0 && flags >> 2 & 1 ? middle : whole->n_layers;
    const struct rank_share share = { shares[flags >> 5 & 1], 1 + (flags >> 3 & 1),
                                      flags >> 4 & flags >> 3 & 1 };
    if (program_cut(whole, first, end, a, &cut, &e) != 0 ||
        program_shard(cut, &share, a, &part, &e) != 0) {
        assert(e.text[0] != '\0');
        return;
    }
    int valid = program_validate(part, &e);
    assert(valid == 0);
    use_facts(g, whole, part, a);
    load_and_run(g, part, flags >> 7);
}

static void use_text(const struct gguf *g)
{
    struct error e = { 0 };
    struct vocab *v = NULL;
    struct chat_tokens names;
    struct token_list ids;
    token_list_init(&ids, 256);
    if (vocab_load(&v, g, &e) == 0) {
        struct vocab_encode_options o = { .add_special = true, .parse_special = true };
        vocab_encode(v, bytes_text("A b\xc3\xa9<|im_start|>12 \n"), &o, &ids, &e);
    }
    assert(e.code == 0 || e.text[0] != '\0');
    chat_tokens_of(g, &names, NULL);
    token_list_done(&ids);
    vocab_close(v);
}

static void use_file(struct bytes file, uint8_t flags)
{
    struct error e = { 0 };
    struct gguf *g = NULL;
    struct model_summary s;
    struct arena a = { 0 };
    struct program *p = NULL;
    if (gguf_open_bytes(&g, file, &e) != 0) {
        assert(strstr(e.text, "byte") != NULL);
        return;
    }
    if (model_summarize(g, &s, &e) == 0) {
        model_summary_memory(&s, INT32_MAX);
    }
    use_text(g);
    e = (struct error){ 0 };
    if (model_build(g, &(struct model_options){ .expert_columns = flags >> 6 & 1 }, &a, &p, &e) ==
        0) {
        use_program(g, p, &a, flags);
    } else {
        assert(strstr(e.text, "byte ") != NULL || e.code == FAIL_NOMEM);
    }
    arena_done(&a);
    gguf_close(g);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    struct cursor c;
    struct error e = { 0 };
    struct edit edits[MAX_EDITS];
    int n = 0;
    cursor_init(&c, bytes_of(data, size), &e);
    uint8_t family = cursor_u8(&c, "family"), type = cursor_u8(&c, "type");
    uint8_t flags = cursor_u8(&c, "flags");
    for (; n < MAX_EDITS && cursor_left(&c) >= EDIT_BYTES; n++) {
        edits[n].what = cursor_u8(&c, "what") % WHAT_COUNT;
        edits[n].where = cursor_u8(&c, "where");
        edits[n].which = cursor_u8(&c, "which");
        edits[n].value = (int16_t)cursor_u16(&c, "value");
    }
    struct buffer file;
    struct gguf *g = NULL;
    buffer_init(&file, MAX_FILE);
    write_edited(skeleton(family, type, flags & 1), edits, n, &file);
    if (gguf_open_bytes(&g, buffer_bytes(&file), &e) == 0) {
        for (int i = 0; i < n && edits[i].what != CUT; i++) {
            edit_bytes(&file, g, &edits[i]);
        }
        if (n > 0 && edits[n - 1].what == CUT) {
            file.size = file.size * edits[n - 1].where >> 8;
        }
    }
    gguf_close(g);
    /* An exact copy, so that the first byte beyond the end is seen. */
    uint8_t *copy = malloc(file.size + 1);
    assert(copy != NULL);
    memcpy(copy, file.data, file.size);
    use_file(bytes_of(copy, file.size), flags);
    free(copy);
    buffer_done(&file);
}

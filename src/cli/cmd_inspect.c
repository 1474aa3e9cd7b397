/* shoal inspect FILE: what a GGUF file holds, and the memory that running it needs. */
#include "cli/commands.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "cli/folders.h"
#include "cli/inspect_program.h"
#include "base/size_text.h"
#include "cli/options.h"
#include "cli/print.h"
#include "gguf/gguf.h"
#include "model/summary.h"

#define ARRAY_SHOWN 8             /* elements of an array that are printed */
#define MAX_VALUE_TEXT (1u << 20) /* of one printed value */
#define N_CONTEXTS 4              /* 2K, 8K, 32K and the native one */
#define KIB 1024.0

struct inspection {
    const char *path;
    struct gguf *g;
    struct model_summary s;
    int64_t contexts[N_CONTEXTS];
    int n_contexts;
};

/* "1.24 B" parameters. */
static const char *count_text(uint64_t n, char text[static 32])
{
    static const struct {
        double from;
        const char *unit;
    } units[] = { { 1e12, "T" }, { 1e9, "B" }, { 1e6, "M" }, { 1e3, "K" } };
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if ((double)n >= units[i].from) {
            snprintf(text, 32, "%.2f %s", (double)n / units[i].from, units[i].unit);
            return text;
        }
    }
    snprintf(text, 32, "%" PRIu64, n);
    return text;
}

static double bits_per_weight(uint64_t bytes, uint64_t elements)
{
    return elements ? (double)bytes * 8 / (double)elements : 0;
}

/* 2K, 8K, 32K and the native context, ascending. */
static void choose_contexts(struct inspection *i)
{
    static const int64_t usual[] = { 2048, 8192, 32768 };
    bool shown = i->s.context == 0;
    for (size_t k = 0; k < sizeof(usual) / sizeof(usual[0]); k++) {
        if (!shown && i->s.context < usual[k])
            i->contexts[i->n_contexts++] = i->s.context;
        shown |= i->s.context <= usual[k];
        i->contexts[i->n_contexts++] = usual[k];
    }
    if (!shown)
        i->contexts[i->n_contexts++] = i->s.context;
}

static void print_overview(const struct inspection *i)
{
    const struct model_summary *s = &i->s;
    char size[32], count[32];
    print_out("%s: GGUF version %" PRIu32 ", %s", i->path, gguf_version(i->g),
              size_text_binary(gguf_file_bytes(i->g), size));
    if (gguf_parts(i->g) > 1)
        print_out(" in %d parts", gguf_parts(i->g));
    print_out(", alignment %" PRIu32 "\n\n", gguf_alignment(i->g));
    if (s->architecture.size)
        print_out("architecture     %.*s\n", BYTES_ARG(s->architecture));
    else
        print_out("architecture     (not named)\n");
    if (s->name.size)
        print_out("name             %.*s\n", BYTES_ARG(s->name));
    print_out("parameters       %" PRIu64 " (%s)\n", s->parameters,
              count_text(s->parameters, count));
    print_out("weights          %" PRIu64 " bytes (%s), %.3f bits a weight\n", s->tensor_bytes,
              size_text_binary(s->tensor_bytes, size),
              bits_per_weight(s->tensor_bytes, s->parameters));
    if (s->layers)
        print_out("layers           %" PRId64 ", width %" PRId64 "\n", s->layers, s->width);
    if (s->experts)
        print_out("experts          %" PRId64 " a layer, %" PRId64 " used by a token\n", s->experts,
                  s->experts_used);
    if (s->vocab)
        print_out("vocabulary       %" PRId64 " tokens\n", s->vocab);
    if (s->context)
        print_out("native context   %" PRId64 " tokens\n", s->context);
    if (s->refused[0])
        print_out("not served       %s\n", s->refused);
    if (s->notes[0])
        print_out("note             %s\n", s->notes);
    print_out("\nquantization     tensors       parameters            bytes   bits a weight\n");
    for (int t = 0; t < QUANT_COUNT; t++) {
        const struct model_type_total *n = &s->types[t];
        if (n->tensors)
            print_out("%-12s %11" PRIu64 " %16" PRIu64 " %16" PRIu64 " %15.3f\n",
                      quant_format((enum quant_type)t)->name, n->tensors, n->elements, n->bytes,
                      bits_per_weight(n->bytes, n->elements));
    }
}

/* Why the KV cache is as large as it is. */
static void print_kv_words(const struct model_summary *s)
{
    char size[32];
    print_out("KV cache         %" PRIu64 " bytes a token (f16)", s->full_kv + s->sliding_kv);
    if (s->full_layers)
        print_out("%s %d layers that see every token (%" PRIu64 " bytes%s)",
                  s->sliding_layers ? ":" : ", in", s->full_layers, s->full_kv,
                  s->latent ? ", the compressed latent" : "");
    if (s->sliding_layers)
        print_out("%s %d layers that keep the last %" PRId64 " tokens only (%" PRIu64 " bytes)",
                  s->full_layers ? " and" : ", in", s->sliding_layers, s->window, s->sliding_kv);
    print_out("\n");
    if (s->state)
        print_out("state            %s a sequence in %d layers, whatever its length\n",
                  size_text_binary(s->state, size), s->stateful_layers);
}

static void print_memory(const struct inspection *i)
{
    char weights[32], kv[32], buffers[32], total[32];
    if (!i->s.layers)
        return;
    print_out("\n");
    print_kv_words(&i->s);
    print_out("\nmemory needed       weights     KV cache      buffers        total\n");
    for (int k = 0; k < i->n_contexts; k++) {
        struct model_memory m = model_summary_memory(&i->s, i->contexts[k]);
        const char *note = m.context == i->s.context                  ? "  native"
                           : i->s.context && m.context > i->s.context ? "  beyond native"
                                                                      : "";
        print_out("%7" PRId64 " tokens %12s %12s %12s %12s%s\n", m.context,
                  size_text_binary(m.weights, weights), size_text_binary(m.kv, kv),
                  size_text_binary(m.buffers, buffers), size_text_binary(m.total, total), note);
    }
    print_out(
        "The weights are all tensors as they lie in the file; the KV cache is that of one "
        "sequence of so\nmany tokens, and every other sequence at the same time needs its own; "
        "the buffers hold\n%d rows of a prefill and one row of logits. What the system itself "
        "needs comes on top.\n",
        SUMMARY_CHUNK);
}

static int print_metadata(const struct inspection *i, struct error *e)
{
    struct buffer text;
    buffer_init(&text, MAX_VALUE_TEXT);
    print_out("\nmetadata: %d keys\n", gguf_n_keys(i->g));
    for (int k = 0; k < gguf_n_keys(i->g); k++) {
        const struct gguf_value *v = gguf_value_at(i->g, k);
        buffer_clear(&text);
        gguf_value_print(v, ARRAY_SHOWN, &text);
        print_out("  %.*s = %s\n", BYTES_ARG(v->key), buffer_cstr(&text));
    }
    int r = text.failed ? fail(e, FAIL_NOMEM, "a value's text") : 0;
    buffer_done(&text);
    return r;
}

static const char *shape_text(const struct gguf_tensor *t, char text[static 96])
{
    int at = 0;
    for (int d = 0; d < t->n_dims && at < 96; d++)
        at += snprintf(text + at, 96 - (size_t)at, "%s%" PRIu64, d ? " x " : "", t->dims[d]);
    return text;
}

static void print_tensors(const struct inspection *i)
{
    char shape[96];
    int n = gguf_n_tensors(i->g), name = 0, shapes = 0;
    for (int k = 0; k < n; k++) {
        const struct gguf_tensor *t = gguf_tensor_at(i->g, k);
        int length = (int)strlen(shape_text(t, shape));
        name = (int)t->name.size > name ? (int)t->name.size : name;
        shapes = length > shapes ? length : shapes;
    }
    print_out("\ntensors: %d (shape: innermost dimension first)\n", n);
    for (int k = 0; k < n; k++) {
        const struct gguf_tensor *t = gguf_tensor_at(i->g, k);
        print_out("  %-*.*s  %-7s  %-*s  %14" PRIu64 " bytes\n", name, BYTES_ARG(t->name),
                  quant_format(t->type)->name, shapes, shape_text(t, shape), t->bytes);
    }
}

static json_t *json_count(uint64_t n)
{
    return n > INT64_MAX ? json_real((double)n) : json_integer((json_int_t)n);
}

/* JSON has no infinities. */
static json_t *json_number(double v)
{
    json_t *j = json_real(v);
    return j ? j : json_null();
}

static json_t *json_array_value(const struct gguf_value *v)
{
    json_t *first = json_array();
    for (uint64_t i = 0; i < v->count && i < ARRAY_SHOWN; i++) {
        if (v->element == GGUF_TEXT)
            json_array_append_new(first, print_json_string(gguf_array_text(v, i)));
        else if (v->element == GGUF_BOOL)
            json_array_append_new(first, json_boolean(gguf_array_int(v, i) != 0));
        else if (gguf_type_is_int(v->element))
            json_array_append_new(first, json_integer(gguf_array_int(v, i)));
        else
            json_array_append_new(first, json_number(gguf_array_float(v, i)));
    }
    return json_pack("{s:s, s:o, s:o}", "array_of", gguf_type_name(v->element), "count",
                     json_count(v->count), "first", first);
}

static json_t *json_value(const struct gguf_value *v)
{
    if (v->type == GGUF_ARRAY)
        return json_array_value(v);
    if (v->type == GGUF_TEXT)
        return print_json_string(v->text);
    if (v->type == GGUF_BOOL)
        return json_boolean(v->u != 0);
    if (v->type == GGUF_U64)
        return json_count(v->u);
    return gguf_type_is_int(v->type) ? json_integer((int64_t)v->u) : json_number(v->f);
}

static json_t *json_metadata(const struct inspection *i)
{
    json_t *all = json_object();
    for (int k = 0; k < gguf_n_keys(i->g); k++) {
        const struct gguf_value *v = gguf_value_at(i->g, k);
        json_t *key = print_json_string(v->key);
        json_object_set_new(all, json_string_value(key), json_value(v));
        json_decref(key);
    }
    return all;
}

static json_t *json_tensors(const struct inspection *i)
{
    json_t *all = json_array();
    for (int k = 0; k < gguf_n_tensors(i->g); k++) {
        const struct gguf_tensor *t = gguf_tensor_at(i->g, k);
        json_t *shape = json_array();
        for (int d = 0; d < t->n_dims; d++)
            json_array_append_new(shape, json_count(t->dims[d]));
        json_array_append_new(
            all, json_pack("{s:o, s:s, s:o, s:o, s:o, s:i}", "name", print_json_string(t->name),
                           "type", quant_format(t->type)->name, "shape", shape, "bytes",
                           json_count(t->bytes), "offset", json_count(t->offset), "part", t->part));
    }
    return all;
}

static json_t *json_types(const struct model_summary *s)
{
    json_t *all = json_array();
    for (int t = 0; t < QUANT_COUNT; t++) {
        const struct model_type_total *n = &s->types[t];
        if (n->tensors)
            json_array_append_new(all, json_pack("{s:s, s:o, s:o, s:o}", "type",
                                                 quant_format((enum quant_type)t)->name, "tensors",
                                                 json_count(n->tensors), "parameters",
                                                 json_count(n->elements), "bytes",
                                                 json_count(n->bytes)));
    }
    return all;
}

static json_t *json_memory(const struct inspection *i)
{
    json_t *all = json_array();
    for (int k = 0; k < i->n_contexts && i->s.layers; k++) {
        struct model_memory m = model_summary_memory(&i->s, i->contexts[k]);
        json_array_append_new(
            all, json_pack("{s:I, s:b, s:o, s:o, s:o, s:o}", "context", (json_int_t)m.context,
                           "native", m.context == i->s.context, "weights", json_count(m.weights),
                           "kv", json_count(m.kv), "buffers", json_count(m.buffers), "total",
                           json_count(m.total)));
    }
    return all;
}

static json_t *json_kv(const struct model_summary *s)
{
    return json_pack("{s:o, s:o, s:i, s:o, s:i, s:I, s:o, s:i}", "bytes_per_token",
                     json_count(s->full_kv + s->sliding_kv), "full_bytes_per_token",
                     json_count(s->full_kv), "full_layers", s->full_layers,
                     "sliding_bytes_per_token", json_count(s->sliding_kv), "sliding_layers",
                     s->sliding_layers, "window", (json_int_t)s->window, "state_bytes",
                     json_count(s->state), "state_layers", s->stateful_layers);
}

static int show_json(const struct inspection *i, struct error *e)
{
    const struct model_summary *s = &i->s;
    json_t *all = json_pack(
        "{s:o, s:o, s:I, s:I, s:i, s:o, s:o, s:o, s:f, s:o}", "file",
        print_json_string(bytes_text(i->path)), "file_bytes", json_count(gguf_file_bytes(i->g)),
        "version", (json_int_t)gguf_version(i->g), "alignment", (json_int_t)gguf_alignment(i->g),
        "parts", gguf_parts(i->g), "architecture", print_json_string(s->architecture), "name",
        print_json_string(s->name), "parameters", json_count(s->parameters), "bits_per_weight",
        bits_per_weight(s->tensor_bytes, s->parameters), "tensor_bytes",
        json_count(s->tensor_bytes));
    int missing = json_object_set_new(all, "layers", json_integer(s->layers)) |
                  json_object_set_new(all, "width", json_integer(s->width)) |
                  json_object_set_new(all, "vocabulary", json_integer(s->vocab)) |
                  json_object_set_new(all, "native_context", json_integer(s->context)) |
                  json_object_set_new(all, "experts", json_integer(s->experts)) |
                  json_object_set_new(all, "experts_used", json_integer(s->experts_used)) |
                  json_object_set_new(all, "refused", print_json_string(bytes_text(s->refused))) |
                  json_object_set_new(all, "notes", print_json_string(bytes_text(s->notes))) |
                  json_object_set_new(all, "quantization", json_types(s)) |
                  json_object_set_new(all, "kv_cache", json_kv(s)) |
                  json_object_set_new(all, "memory", json_memory(i)) |
                  json_object_set_new(all, "metadata", json_metadata(i)) |
                  json_object_set_new(all, "tensors", json_tensors(i));
    int r = missing ? fail(e, FAIL_NOMEM, "the JSON text") : 0;
    if (r)
        json_decref(all);
    return r ? r : print_json(all, e);
}

static int show_text(const struct inspection *i, struct error *e)
{
    print_overview(i);
    print_memory(i);
    int r = print_metadata(i, e);
    if (!r)
        print_tensors(i);
    return r;
}

int cmd_inspect(int argc, char **argv)
{
    struct inspection i = { 0 };
    bool json = false, program = false;
    const char *split = NULL, *model = NULL, *models = NULL;
    char path[FOLDER_TEXT];
    const struct option_row rows[] = {
        OPTION_ARGUMENT("MODEL", &model, "a GGUF file (of a split one the first part), or a name"),
        OPTION_FLAG("json", &json, "print JSON"),
        OPTION_FLAG("program", &program, "print the program that the model becomes"),
        OPTION_TEXT("split", &split, "SPEC", "with --program: each rank's part, as for shoal up"),
        OPTION_MODELS(&models),
    };
    const struct option_set set = { "inspect", rows, sizeof(rows) / sizeof(rows[0]) };
    struct error e = { 0 };
    int status = 0;
    if (!options_start(&set, argc, argv, &status))
        return status;
    int r = folders_find_model(model, models, path, &e);
    i.path = path;
    r = r ? r : gguf_open(&i.g, path, &e);
    if (!r && program)
        r = inspect_program(i.g, split, &e);
    else if (!r && !(r = model_summarize(i.g, &i.s, &e))) {
        choose_contexts(&i);
        r = json ? show_json(&i, &e) : show_text(&i, &e);
    }
    if (r)
        print_failure("inspect", &e);
    gguf_close(i.g);
    return r ? EXIT_FAILED : EXIT_OK;
}

/* shoal bench MODEL: decode and prefill by threads, in two ranks over each transport, and of many
 * streams, beside the machine's limits in the same rounds. */
#include "cli/bench.h"

#include "node/bench_engine.h"
#include "os/memory.h"
#include "stage/source.h"
#include "transport/pair.h"

#include <string.h>

/* Looks at the limits of one round; the best counts, since others can only take from it. */
#define LIMIT_LOOKS 3
/* Prompt of each of several streams: their prefill is not what is measured. */
#define STREAM_PROMPT 16
/* Ranks of a split. */
#define RANKS 2

/* The machine's limits in one round. */
struct round_limits {
    double read, int8, f32;
};

static void look_at_limits(struct bench *b, int threads, struct round_limits *l)
{
    const enum machine_limit limits[] = { LIMIT_READ, LIMIT_INT8, LIMIT_F32 };
    double *const values[] = { &l->read, &l->int8, &l->f32 };
    for (int look = 0; look < LIMIT_LOOKS; look++)
        for (int i = 0; i < (int)ARRAY_LEN(limits); i++) {
            double rate = machine_limit(b->machine, limits[i], threads);
            *values[i] = rate > *values[i] ? rate : *values[i];
        }
}

/* Least seconds of one row's multiply-adds. */
static double compute_seconds(const uint64_t macs[QUANT_COUNT], const struct round_limits *l)
{
    double seconds = 0;
    for (int t = 0; t < QUANT_COUNT; t++)
        seconds +=
            (double)macs[t] / (machine_peak_of((enum quant_type)t) == LIMIT_F32 ? l->f32 : l->int8);
    return seconds;
}

/* Most tokens/s that the limits allow: a prompt's multiply-adds with logits of its last token. */
static double prefill_bound(const struct bench *b, const struct round_limits *l)
{
    double n = (double)b->options.prefill;
    return n / (n * compute_seconds(b->work.macs, l) + compute_seconds(b->work.wanted_macs, l));
}

/* The same for steps of one token from each of n streams: the weights are read once a step. */
static double decode_bound(const struct bench *b, const struct round_limits *l, int n)
{
    double read = program_read_bytes(b->program, n) / l->read;
    double compute =
        n * (compute_seconds(b->work.macs, l) + compute_seconds(b->work.wanted_macs, l));
    return n / (read > compute ? read : compute);
}

/* A table's figures of one thing, over the rounds. */
struct figures {
    struct samples read, decode, decode_share, decode_ratio;
    struct samples prefill, prefill_share, prefill_ratio;
};

static void add_figures(const struct bench *b, struct figures *f, const struct bench_rates *rates,
                        const struct round_limits *l)
{
    samples_add(&f->read, l->read);
    samples_add(&f->decode, rates->decode);
    samples_add(&f->decode_share, rates->decode / decode_bound(b, l, 1));
    samples_add(&f->prefill, rates->prefill);
    samples_add(&f->prefill_share, rates->prefill / prefill_bound(b, l));
}

static int open_engine(const struct bench *b, const char *split, const char *transport, int threads,
                       struct bench_engine **ret, struct error *e)
{
    const struct bench_engine_options o = {
        .source = b->source,
        .kernels = b->kernels,
        .split = split,
        .transport = transport,
        .threads = threads,
        .streams = 1,
        .context = (int)(b->options.prefill + b->options.decode) + 1,
    };
    return bench_engine_open(ret, &o, e);
}

/* One stream's prefill and decode, and the limits of `threads` before and after. */
static int run_round(struct bench *b, struct bench_engine *g, int threads,
                     struct bench_rates *rates, struct round_limits *l, struct error *e)
{
    const struct bench_load load = { .streams = 1,
                                     .prompt = (int)b->options.prefill,
                                     .decode = (int)b->options.decode,
                                     .seed = ++b->prompts };
    *l = (struct round_limits){ 0 };
    look_at_limits(b, threads, l);
    int r = bench_engine_run(g, &load, rates, e);
    look_at_limits(b, threads, l);
    return r;
}

static const struct report_column model_columns[] = {
    { "threads", "threads", REPORT_COUNT, 0 },
    { "read_bytes_per_second", NULL, REPORT_SPREAD, 0 },
    { "decode_tokens_per_second", "decode tokens/s", REPORT_SPREAD, 1 },
    { "decode_share", "of the read", REPORT_SHARE, 0 },
    { "prefill_tokens_per_second", "prefill tokens/s", REPORT_SPREAD, 1 },
    { "prefill_share", "of the peak", REPORT_SHARE, 0 },
};

static int measure_threads(struct bench *b, int threads, struct error *e)
{
    struct figures f = { 0 };
    struct bench_engine *g = NULL;
    report_progress(b->report, "model: loading for %d threads", threads);
    int r = open_engine(b, NULL, NULL, threads, &g, e);
    for (int round = 0; round < b->options.rounds && !r; round++) {
        struct bench_rates rates;
        struct round_limits l;
        report_progress(b->report, "model: %d threads, round %d", threads, round + 1);
        r = run_round(b, g, threads, &rates, &l, e);
        if (!r)
            add_figures(b, &f, &rates, &l);
    }
    bench_engine_close(g);
    if (!r)
        report_row(b->report, (struct report_cell[]){ { .count = threads },
                                                      { .samples = &f.read },
                                                      { .samples = &f.decode },
                                                      { .samples = &f.decode_share },
                                                      { .samples = &f.prefill },
                                                      { .samples = &f.prefill_share } });
    return r;
}

int bench_model(struct bench *b, struct error *e)
{
    int r = 0;
    report_table(b->report, "model", "The model on this device, one stream", model_columns,
                 ARRAY_LEN(model_columns));
    for (int i = 0; i < b->n_counts && !r; i++)
        r = measure_threads(b, b->counts[i], e);
    return r;
}

/* --- splits --- */

/* Name, SPEC for two ranks; the pipeline's halves are what the SPEC's default deals. */
static const struct {
    const char *name, *spec;
} splits[] = { { "tensor", "1:1" }, { "pipeline", "1/1" } };

#define MAX_PLACEMENTS 16 /* splits times transports */

/* One split over one transport. */
struct placement {
    const char *split, *spec, *transport;
    struct bench_engine *engine;
    struct figures figures;
};

static int list_placements(struct placement list[static MAX_PLACEMENTS])
{
    int n = 0;
    for (size_t s = 0; s < ARRAY_LEN(splits); s++)
        for (int t = 0; transport_pair_names[t] && n < MAX_PLACEMENTS; t++)
            list[n++] = (struct placement){ .split = splits[s].name,
                                            .spec = splits[s].spec,
                                            .transport = transport_pair_names[t] };
    return n;
}

static const struct report_column split_columns[] = {
    { "split", "split", REPORT_TEXT, 0 },
    { "transport", "transport", REPORT_TEXT, 0 },
    { "decode_tokens_per_second", "decode tokens/s", REPORT_SPREAD, 1 },
    { "decode_ratio", "of one rank", REPORT_SHARE, 0 },
    { "decode_share", "of the read", REPORT_SHARE, 0 },
    { "prefill_tokens_per_second", "prefill tokens/s", REPORT_SPREAD, 1 },
    { "prefill_ratio", "of one rank", REPORT_SHARE, 0 },
    { "prefill_share", "of the peak", REPORT_SHARE, 0 },
};

static void print_placement(const struct bench *b, const struct placement *p)
{
    const struct figures *f = &p->figures;
    report_row(b->report, (struct report_cell[]){ { .text = p->split },
                                                  { .text = p->transport },
                                                  { .samples = &f->decode },
                                                  { .samples = &f->decode_ratio },
                                                  { .samples = &f->decode_share },
                                                  { .samples = &f->prefill },
                                                  { .samples = &f->prefill_ratio },
                                                  { .samples = &f->prefill_share } });
}

/* One round of the placements [0, n), beside one rank that holds the whole model. */
static int split_round(struct bench *b, struct bench_engine *alone, struct placement *list, int n,
                       struct error *e)
{
    struct bench_rates one, rates;
    struct round_limits l;
    int threads = RANKS < b->max_threads ? RANKS : b->max_threads;
    report_progress(b->report, "splits: one rank alone");
    int r = run_round(b, alone, threads, &one, &l, e);
    for (int i = 0; i < n && !r; i++) {
        struct figures *f = &list[i].figures;
        report_progress(b->report, "splits: %s, %s", list[i].split, list[i].transport);
        r = run_round(b, list[i].engine, threads, &rates, &l, e);
        if (r)
            return r;
        add_figures(b, f, &rates, &l);
        samples_add(&f->decode_ratio, rates.decode / one.decode);
        samples_add(&f->prefill_ratio, rates.prefill / one.prefill);
    }
    return r;
}

/* Opens placements [0, n) together and measures them in rounds. */
static int measure_splits(struct bench *b, struct bench_engine *alone, struct placement *list,
                          int n, struct error *e)
{
    int r = 0;
    for (int i = 0; i < n && !r; i++) {
        report_progress(b->report, "splits: loading for %s, %s", list[i].split, list[i].transport);
        r = open_engine(b, list[i].spec, list[i].transport, 1, &list[i].engine, e);
        if (r)
            wrap(e, "%s split over %s", list[i].split, list[i].transport);
    }
    for (int round = 0; round < b->options.rounds && !r; round++)
        r = split_round(b, alone, list, n, e);
    for (int i = 0; i < n; i++) {
        bench_engine_close(list[i].engine);
        if (!r)
            print_placement(b, &list[i]);
    }
    return r;
}

/* How many placements fit half of the free memory at once, at least one. */
static int placements_at_once(const struct bench *b, int n)
{
    uint64_t weights = program_weight_bytes(b->program);
    uint64_t fit = memory_usable() / 2 / (weights ? weights : 1);
    return fit < 1 ? 1 : fit < (uint64_t)n ? (int)fit : n;
}

int bench_splits(struct bench *b, struct error *e)
{
    struct placement list[MAX_PLACEMENTS];
    struct bench_engine *alone = NULL;
    int n = list_placements(list);
    report_table(b->report, "splits", "In two ranks of one thread, against one rank of one thread",
                 split_columns, ARRAY_LEN(split_columns));
    report_progress(b->report, "splits: loading for one rank");
    int r = open_engine(b, NULL, NULL, 1, &alone, e);
    int at_once = r ? 1 : placements_at_once(b, n);
    for (int i = 0; i < n && !r; i += at_once)
        r = measure_splits(b, alone, list + i, at_once < n - i ? at_once : n - i, e);
    bench_engine_close(alone);
    return r;
}

/* --- streams --- */

static const int stream_counts[] = { 1, 2, 4, 8, BENCH_MAX_STREAMS };

static const struct report_column stream_columns[] = {
    { "streams", "streams", REPORT_COUNT, 0 },
    { "decode_tokens_per_second", "decode tokens/s", REPORT_SPREAD, 1 },
    { "ratio", "of one stream", REPORT_SHARE, 0 },
    { "decode_share", "of the limits", REPORT_SHARE, 0 },
};

struct stream_figures {
    struct samples decode, ratio, share;
};

static int stream_round(struct bench *b, struct bench_engine *g,
                        struct stream_figures f[static ARRAY_LEN(stream_counts)], struct error *e)
{
    double one = 0;
    for (size_t i = 0; i < ARRAY_LEN(stream_counts); i++) {
        struct bench_rates rates;
        struct round_limits l = { 0 };
        int n = stream_counts[i];
        report_progress(b->report, "streams: %d", n);
        look_at_limits(b, b->max_threads, &l);
        int r = bench_engine_run(g,
                                 &(struct bench_load){ .streams = n,
                                                       .prompt = STREAM_PROMPT,
                                                       .decode = (int)b->options.decode,
                                                       .seed = b->prompts + 1 },
                                 &rates, e);
        if (r)
            return r;
        b->prompts += (uint64_t)n;
        one = n == 1 ? rates.decode : one;
        samples_add(&f[i].decode, rates.decode);
        samples_add(&f[i].ratio, rates.decode / one);
        samples_add(&f[i].share, rates.decode / decode_bound(b, &l, n));
    }
    return 0;
}

int bench_streams(struct bench *b, struct error *e)
{
    struct stream_figures f[ARRAY_LEN(stream_counts)] = { 0 };
    struct bench_engine *g = NULL;
    const struct bench_engine_options o = {
        .source = b->source,
        .kernels = b->kernels,
        .threads = b->max_threads,
        .streams = BENCH_MAX_STREAMS,
        .context = STREAM_PROMPT + (int)b->options.decode + 1,
    };
    report_table(b->report, "streams", "Concurrent streams, all threads, tokens/s of all together",
                 stream_columns, ARRAY_LEN(stream_columns));
    report_progress(b->report, "streams: loading");
    int r = bench_engine_open(&g, &o, e);
    for (int round = 0; round < b->options.rounds && !r; round++)
        r = stream_round(b, g, f, e);
    for (size_t i = 0; i < ARRAY_LEN(stream_counts) && !r; i++)
        report_row(b->report, (struct report_cell[]){ { .count = stream_counts[i] },
                                                      { .samples = &f[i].decode },
                                                      { .samples = &f[i].ratio },
                                                      { .samples = &f[i].share } });
    bench_engine_close(g);
    return r;
}

/* shoal bench [MODEL]: what this machine can do, and what the kernels, a model, splits and streams
 * make of it. */
#include "cli/commands.h"
#include "cli/bench.h"
#include "cli/folders.h"
#include "cli/options.h"
#include "cli/print.h"

#include "kernels/kernels.h"
#include "os/cpu.h"
#include "os/pool.h"
#include "stage/source.h"

#include <stdio.h>
#include <string.h>

#define CPU_NAME 64
#define MAX_TOKENS 65536 /* of a measured prompt or answer */

static const struct {
    const char *name;
    bool of_model;
    int (*run)(struct bench *b, struct error *e);
} parts[] = {
    [BENCH_LIMITS] = { "limits", false, bench_limits },
    [BENCH_KERNELS] = { "kernels", false, bench_kernels },
    [BENCH_MODEL] = { "model", true, bench_model },
    [BENCH_SPLITS] = { "splits", true, bench_splits },
    [BENCH_STREAMS] = { "streams", true, bench_streams },
};

static int find_part(const char *name, size_t size)
{
    for (int i = 0; i < BENCH_PART_COUNT; i++)
        if (strlen(parts[i].name) == size && memcmp(parts[i].name, name, size) == 0)
            return i;
    return -1;
}

int bench_parts(const struct bench_options *o, unsigned *ret, struct error *e)
{
    unsigned set = 0;
    for (int i = 0; i < BENCH_PART_COUNT && !o->only; i++)
        set |= !parts[i].of_model || o->model ? 1u << i : 0;
    for (const char *at = o->only; at;) {
        size_t size = strcspn(at, ",");
        int part = find_part(at, size);
        if (part < 0)
            return fail(e, FAIL_ARG,
                        "no part is called \"%.*s\": limits, kernels, model, splits, streams",
                        (int)size, at);
        if (parts[part].of_model && !o->model)
            return fail(e, FAIL_ARG, "%s needs a model: shoal bench MODEL", parts[part].name);
        set |= 1u << part;
        at = at[size] ? at + size + 1 : NULL;
    }
    *ret = set;
    return 0;
}

int bench_thread_counts(int cores, int ret[static BENCH_MAX_COUNTS])
{
    int n = 0;
    for (int c = 1; c < cores && n < BENCH_MAX_COUNTS - 1; c += c < 4 ? 1 : c)
        ret[n++] = c;
    ret[n++] = cores;
    return n;
}

static int open_model(struct bench *b, struct error *e)
{
    int64_t positions = b->options.prefill + b->options.decode + 1;
    int r = source_open(&b->source, b->options.model, e);
    if (r)
        return r;
    b->program = source_program(b->source);
    if (positions > b->program->context)
        return fail(e, FAIL_ARG, "%s has a context of %d tokens: choose --prefill and --decode so",
                    b->options.model, b->program->context);
    program_work(b->program, &b->work);
    double bytes = program_read_bytes(b->program, 1);
    uint64_t macs = 0;
    for (int t = 0; t < QUANT_COUNT; t++)
        macs += b->work.macs[t];
    report_line(b->report, "%s: a token reads %.1f MB of weights, %.1f million multiply-adds",
                b->options.model, bytes / 1e6, (double)macs / 1e6);
    report_fact_text(b->report, "model_file", b->options.model);
    report_fact_count(b->report, "weight_bytes_per_token", (int64_t)bytes);
    report_fact_count(b->report, "macs_per_prefill_token", (int64_t)macs);
    return 0;
}

static void print_head(const struct bench *b)
{
    const struct bench_options *o = &b->options;
    char cpu[CPU_NAME];
    cpu_name(cpu, sizeof(cpu));
    report_line(b->report,
                "shoal " SHOAL_VERSION ", %s, %d cores, %s; medians (least-greatest) of %d rounds",
                cpu[0] ? cpu : "unnamed processor", cpu_cores(), b->kernels->name, (int)o->rounds);
    report_fact_text(b->report, "shoal", SHOAL_VERSION);
    report_fact_text(b->report, "cpu", cpu);
    report_fact_count(b->report, "cores", cpu_cores());
    report_fact_text(b->report, "isa", b->kernels->name);
    report_fact_count(b->report, "rounds", o->rounds);
    report_fact_count(b->report, "prefill", o->prefill);
    report_fact_count(b->report, "decode", o->decode);
}

static int run_parts(struct bench *b, unsigned set, struct error *e)
{
    int r = b->options.model ? open_model(b, e) : 0;
    if (!r) {
        report_progress(b->report, "making memory to measure");
        r = machine_open(
            &b->machine,
            &(struct machine_options){ .kernels = b->kernels, .threads = b->max_threads }, e);
    }
    for (int i = 0; i < BENCH_PART_COUNT && !r; i++)
        if (set & 1u << i)
            r = parts[i].run(b, e);
    machine_close(b->machine);
    source_close(b->source);
    return r;
}

static int run(struct bench *b, unsigned set, struct error *e)
{
    int cores = cpu_cores();
    b->kernels = kernels_choose(b->options.isa, e);
    if (!b->kernels)
        return FAIL_ARG;
    b->n_counts =
        bench_thread_counts(cores < POOL_MAX_THREADS ? cores : POOL_MAX_THREADS, b->counts);
    if (b->options.threads) {
        b->counts[0] = (int)b->options.threads;
        b->n_counts = 1;
    }
    b->max_threads = b->counts[b->n_counts - 1];
    int r = report_open(&b->report, b->options.json, e);
    if (r)
        return r;
    print_head(b);
    r = run_parts(b, set, e);
    int end = report_close(b->report, r ? NULL : e);
    return r ? r : end;
}

int cmd_bench(int argc, char **argv)
{
    struct bench b = { .options = { .rounds = 5, .prefill = 512, .decode = 32 } };
    struct bench_options *o = &b.options;
    const char *models = NULL;
    char path[FOLDER_TEXT];
    const struct option_row rows[] = {
        OPTION_OPTIONAL_ARGUMENT("MODEL", &o->model,
                                 "a GGUF file or a name, to measure beside the machine"),
        OPTION_FLAG("json", &o->json, "print one JSON object (docs/bench.md)"),
        OPTION_TEXT("only", &o->only, "PARTS",
                    "of limits,kernels,model,splits,streams, joined by commas"),
        OPTION_INT("threads", &o->threads, 1, POOL_MAX_THREADS, "N",
                   "compute threads; without it 1 up to the cores in turn"),
        OPTION_INT("rounds", &o->rounds, 1, SAMPLES_MAX, "N",
                   "rounds that medians are taken of, 5"),
        OPTION_INT("prefill", &o->prefill, 1, MAX_TOKENS, "N", "tokens of a prompt, 512"),
        OPTION_INT("decode", &o->decode, 2, MAX_TOKENS, "N", "tokens decoded after the first, 32"),
        OPTION_TEXT("isa", &o->isa, "NAME", "instruction set: scalar, avx2, ...; default the best"),
        OPTION_MODELS(&models),
    };
    const struct option_set set = { "bench", rows, ARRAY_LEN(rows) };
    struct error e = { 0 };
    unsigned chosen = 0;
    int status = EXIT_OK;
    if (!options_start(&set, argc, argv, &status))
        return status;
    if (bench_parts(o, &chosen, &e)) {
        print_failure("bench", &e);
        return EXIT_USAGE;
    }
    const char *model = o->model;
    o->model = model ? path : NULL;
    if ((model && folders_find_model(model, models, path, &e)) || run(&b, chosen, &e)) {
        print_failure("bench", &e);
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

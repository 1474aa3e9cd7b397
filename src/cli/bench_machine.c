/* shoal bench: the machine's limits, and each kernel against them. */
#include "cli/bench.h"

#include "kernels/kernels.h"

/* Wide as a small model's layers; the kernels' rates hardly depend on it. */
#define COLUMNS 2048

int bench_limits(struct bench *b, struct error *e)
{
    static const struct report_column columns[] = {
        { "threads", "threads", REPORT_COUNT, 0 },
        { "read_bytes_per_second", "read GB/s", REPORT_SPREAD, 1e9 },
        { "ordinary_read_bytes_per_second", "4 KiB pages GB/s", REPORT_SPREAD, 1e9 },
        { "int8_macs_per_second", "int8 GMAC/s", REPORT_SPREAD, 1e9 },
        { "f32_macs_per_second", "f32 GMAC/s", REPORT_SPREAD, 1e9 },
    };
    struct samples found[BENCH_MAX_COUNTS][LIMIT_COUNT] = { 0 };
    (void)e;
    report_table(b->report, "limits", "The machine's limits", columns, ARRAY_LEN(columns));
    for (int round = 0; round < b->options.rounds; round++) {
        report_progress(b->report, "limits: round %d", round + 1);
        for (int i = 0; i < b->n_counts; i++)
            for (int l = 0; l < LIMIT_COUNT; l++)
                samples_add(&found[i][l], machine_limit(b->machine, l, b->counts[i]));
    }
    for (int i = 0; i < b->n_counts; i++)
        report_row(b->report, (struct report_cell[]){ { .count = b->counts[i] },
                                                      { .samples = &found[i][LIMIT_READ] },
                                                      { .samples = &found[i][LIMIT_READ_ORDINARY] },
                                                      { .samples = &found[i][LIMIT_INT8] },
                                                      { .samples = &found[i][LIMIT_F32] } });
    return 0;
}

static const struct report_column kernel_columns[] = {
    { "type", "type", REPORT_TEXT, 0 },
    { "threads", "threads", REPORT_COUNT, 0 },
    { "read_bytes_per_second", NULL, REPORT_SPREAD, 0 },
    { "gemv_bytes_per_second", "GEMV GB/s", REPORT_SPREAD, 1e9 },
    { "gemv_share", "of the read", REPORT_SHARE, 0 },
    { "peak_macs_per_second", NULL, REPORT_SPREAD, 0 },
    { "gemm_macs_per_second", "GEMM GMAC/s", REPORT_SPREAD, 1e9 },
    { "gemm_share", "of the peak", REPORT_SHARE, 0 },
    { "pack_bytes_per_second", "pack GB/s", REPORT_SPREAD, 1e9 },
};

/* One type with one count of threads: limit and kernel in turn. */
static void measure_kernel(struct bench *b, struct machine_kernel *k, enum quant_type type,
                           int threads)
{
    struct samples read = { 0 }, gemv = { 0 }, gemv_share = { 0 };
    struct samples peak = { 0 }, gemm = { 0 }, gemm_share = { 0 }, pack = { 0 };
    for (int round = 0; round < b->options.rounds; round++) {
        double limit = machine_limit(b->machine, LIMIT_READ, threads);
        double rate = machine_gemv(k, threads);
        samples_add(&read, limit);
        samples_add(&gemv, rate);
        samples_add(&gemv_share, rate / limit);
        limit = machine_limit(b->machine, machine_peak_of(type), threads);
        rate = machine_gemm(k, threads);
        samples_add(&peak, limit);
        samples_add(&gemm, rate);
        samples_add(&gemm_share, rate / limit);
        samples_add(&pack, machine_pack(k, threads));
    }
    report_row(b->report, (struct report_cell[]){ { .text = quant_format(type)->name },
                                                  { .count = threads },
                                                  { .samples = &read },
                                                  { .samples = &gemv },
                                                  { .samples = &gemv_share },
                                                  { .samples = &peak },
                                                  { .samples = &gemm },
                                                  { .samples = &gemm_share },
                                                  { .samples = &pack } });
}

int bench_kernels(struct bench *b, struct error *e)
{
    report_table(b->report, "kernels",
                 "Matmuls of each type: GEMV of one token, GEMM of 512 (2,048 columns)",
                 kernel_columns, ARRAY_LEN(kernel_columns));
    for (int type = 0; type < QUANT_COUNT; type++) {
        struct machine_kernel *k = NULL;
        if (!kernels_supports((enum quant_type)type))
            continue;
        report_progress(b->report, "kernels: %s", quant_format((enum quant_type)type)->name);
        int r = machine_kernel_open(&k, b->machine, (enum quant_type)type, COLUMNS, e);
        if (r)
            return r;
        measure_kernel(b, k, (enum quant_type)type, b->counts[0]);
        if (b->n_counts > 1)
            measure_kernel(b, k, (enum quant_type)type, b->counts[b->n_counts - 1]);
        machine_kernel_close(k);
    }
    return 0;
}

/* The CPU backend's own structures; for this folder only.
 *
 * A segment is compiled into phases. Inside a phase threads work without meeting; between phases
 * they meet at one barrier. Row phases (norms, rotations, activations, packing) are done by the
 * last thread to arrive when the step has few rows, so they cost no barrier of their own. */
#ifndef SHOAL_BACKEND_CPU_INTERNAL_H
#define SHOAL_BACKEND_CPU_INTERNAL_H

#include "backend/backend.h"
#include "kernels/kernels.h"
#include "os/pool.h"

#include <stdatomic.h>
#include <stdlib.h>

/* Matmuls that share one input (q, k, v; gate, up) run in one phase. */
#define CPU_MAX_MATMULS 8
/* Up to this many rows a row phase is left to the last thread to arrive. */
#define CPU_SERIAL_ROWS 4
/* Tokens of KV that one page holds. */
#define CPU_PAGE KERNEL_PAGE
#define CPU_MAX_CLASSES 8

/* One weight rectangle in memory. */
struct cpu_weight {
    struct packed packed; /* matrices; data NULL for vectors and plain tables */
    float *vector;        /* norms, biases, convolutions, factors: dequantized */
    const uint8_t *raw;   /* embedding rows in the file's format */
    size_t raw_row_bytes;
    size_t mat_bytes; /* of one packed matrix of a stack */
    int pad_left;     /* zero columns before the slice: it cut a quantization block */
    int tied;         /* weight whose bytes these are, or PROGRAM_NONE */
};

/* A packed activation that a matmul reads: a value in one format. */
struct cpu_pack {
    int value;
    enum activation format;
    int cols; /* as packed, padding included */
    int pad_left;
    size_t offset; /* of its memory */
    int first_phase, last_phase;
};

enum cpu_phase_kind { PHASE_ROWS, PHASE_MATMUL, PHASE_ATTEND, PHASE_EXPERTS };

/* One thing a row phase does to each row. */
struct cpu_row_op {
    int instr;     /* PROGRAM_NONE for a pack */
    int pack;      /* PROGRAM_NONE for an instruction */
    bool store_kv; /* ATTEND: its storing half */
};

struct cpu_phase {
    enum cpu_phase_kind kind;
    enum value_rows rows; /* of a row phase */
    int first_op, n_ops;  /* row phases: into row_ops */
    int instrs[CPU_MAX_MATMULS];
    int packs[CPU_MAX_MATMULS];
    int n_instrs;
    _Atomic int arrived; /* threads that reached the end of the phase before */
    _Atomic int claimed; /* pieces of work given out */
};

struct cpu_segment {
    int first_phase, n_phases;
};

/* KV states with one window share a page table: a page holds CPU_PAGE positions of all of them. */
struct cpu_class {
    int window;
    size_t page_bytes;
    uint8_t *memory; /* (n_pages, page_bytes), reserved, touched as used */
    int n_pages, n_free;
    int *free_list;
    int *references;
    bool *dirty; /* was used before: zero it when it is taken again */
};

/* One sequence, or a checkpoint of one. */
struct cpu_session {
    bool used;
    bool is_checkpoint;
    uint32_t id;
    int32_t position;             /* tokens that are part of it */
    int *tables[CPU_MAX_CLASSES]; /* page of positions [i * CPU_PAGE, ...), -1 where freed */
    int first_page[CPU_MAX_CLASSES];
    int end_page[CPU_MAX_CLASSES];
    float *recurrent; /* all convolution states, one after another */
    float *next;      /* what the step under way leaves of them: end swaps the two */
};

struct cpu_row {
    int session; /* slot */
    int32_t position;
};

struct cpu_ctx {
    struct backend_ctx base;
    const struct program *program;
    struct backend_options options;
    const struct kernels *k;
    struct arena arena;

    struct cpu_weight *weights;
    uint8_t *weight_memory;
    size_t weight_size; /* of weight_memory */
    uint64_t weight_bytes;

    /* compiled */
    struct segment *segments;
    struct cpu_segment *cpu_segments;
    int n_segments;
    struct cpu_phase *phases;
    int n_phases, cap_phases;
    struct cpu_row_op *row_ops;
    int n_row_ops, cap_row_ops;
    struct cpu_pack *packs;
    int n_packs, cap_packs;
    size_t *value_offset; /* bytes into work memory */
    uint8_t *work;
    size_t work_size;
    int n_threads;
    float **thread_rows;   /* for each thread: padding rows and expert gathers */
    float **thread_scores; /* attention scratch, scores_bytes each */
    size_t scores_bytes;
    const uint8_t ***thread_pages;

    /* sequence state */
    struct cpu_class classes[CPU_MAX_CLASSES];
    int n_classes;
    int *state_class;     /* state -> class, or PROGRAM_NONE */
    size_t *state_offset; /* KV: bytes into a page; CONV: floats into recurrent */
    size_t recurrent_floats;
    struct cpu_session *sessions;
    int n_sessions;
    int table_pages; /* length of a page table */

    /* the present step */
    struct backend_step step;
    bool in_step;
    int phase_base, phase_end;
    struct cpu_row *rows;     /* (max_rows) */
    int *wanted_rows;         /* (max_rows) row of each wanted one */
    struct backend_run *runs; /* (max_rows) copies */
    int *run_sessions;
    int32_t *step_ids;
    float **cos_tables, **sin_tables; /* for each rope (max_rows, dims / 2) */
    float **rope_frequency;           /* for each rope (dims / 2) */
    struct cpu_experts *experts;      /* scratch of expert phases, NULL without experts */
};

/* cpu_load.c */
int cpu_load_weights(struct cpu_ctx *c, const struct weight_source *source, struct error *e);
void cpu_free_weights(struct cpu_ctx *c);

/* cpu_compile.c */
int cpu_compile(struct cpu_ctx *c, struct error *e);

/* cpu_state.c */
int cpu_state_open(struct cpu_ctx *c, struct error *e);
void cpu_state_close(struct cpu_ctx *c);
struct cpu_session *cpu_session_find(struct cpu_ctx *c, uint32_t id, bool checkpoint);
int cpu_state_reserve(struct cpu_ctx *c, struct cpu_session *s, int32_t count, struct error *e);
void cpu_state_commit(struct cpu_ctx *c, struct cpu_session *s, int32_t count);
void cpu_state_abandon(struct cpu_ctx *c, struct cpu_session *s);
uint8_t *cpu_state_page(struct cpu_ctx *c, const struct cpu_session *s, int state, int page);
int cpu_session_create(struct cpu_ctx *c, uint32_t session, struct error *e);
int cpu_session_release(struct cpu_ctx *c, uint32_t session, struct error *e);
int cpu_session_truncate(struct cpu_ctx *c, uint32_t session, int32_t position, struct error *e);
int cpu_session_fork(struct cpu_ctx *c, uint32_t session, uint32_t from, struct error *e);
int cpu_session_checkpoint(struct cpu_ctx *c, uint32_t session, uint32_t id, struct error *e);
int cpu_session_restore(struct cpu_ctx *c, uint32_t session, uint32_t id, struct error *e);
int32_t cpu_session_earliest(struct cpu_ctx *c, uint32_t session);

/* cpu_rows.c: everything that is done row by row */
void cpu_run_rows(struct cpu_ctx *c, const struct cpu_phase *phase, int row_first, int row_end,
                  int thread);
int cpu_rope_init(struct cpu_ctx *c, struct error *e);
void cpu_rope_step(struct cpu_ctx *c);

/* cpu_attend.c, cpu_experts.c: a thread's part of a phase */
void cpu_run_attend(struct cpu_ctx *c, struct cpu_phase *phase, int thread);
int cpu_experts_init(struct cpu_ctx *c, struct error *e);
void cpu_experts_done(struct cpu_ctx *c);
void cpu_run_experts(struct cpu_ctx *c, struct cpu_phase *phase, int thread);

/* cpu.c */
static inline float *cpu_value(const struct cpu_ctx *c, int value)
{
    return (float *)(c->work + c->value_offset[value]);
}

static inline int cpu_value_rows(const struct cpu_ctx *c, int value)
{
    return c->program->values[value].rows == ROWS_WANTED ? c->step.n_wanted : c->step.n_rows;
}

#endif

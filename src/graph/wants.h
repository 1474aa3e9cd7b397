/* Which bytes of which tensors a part needs: what a device reads, fetches or checks before it can
 * run the part. Nothing else of the file is touched. */
#ifndef SHOAL_GRAPH_WANTS_H
#define SHOAL_GRAPH_WANTS_H

#include "graph/program.h"

/* One weight's rectangle as bytes of its tensor: `mats` times `runs` runs of `size` bytes each.
 * Columns are widened to whole quantization blocks. Runs that touch are one run: a whole tensor is
 * a single one. */
struct want {
    const char *tensor; /* borrowed from the program */
    int weight;         /* the first of the program's weights that is this rectangle */
    uint64_t offset;    /* of the first run, in bytes from the tensor's start */
    uint64_t size;      /* of a run */
    uint64_t runs;      /* of a matrix, `stride` bytes from one start to the next */
    uint64_t stride;
    uint64_t mats; /* matrices of a stack, `mat_stride` bytes from one start to the next */
    uint64_t mat_stride;
};

/* The rectangle of one weight. Pure. An empty rectangle (a rank without a share) has no runs. */
void want_of_weight(const struct weight *w, struct want *ret);

/* Bytes of all runs; how many runs; where run i of those starts, in order of the file. */
uint64_t want_bytes(const struct want *w);
uint64_t want_runs(const struct want *w);
uint64_t want_offset(const struct want *w, uint64_t i);

/* Columns [*first, *end) of a weight that are read: its own, widened to whole blocks. */
void weight_block_columns(const struct weight *w, int *first, int *end);

/* Two weights that are the same bytes (a tied matrix). */
bool weight_same_bytes(const struct weight *a, const struct weight *b);

/* All that a part needs, in order of its weights: those that an instruction or a table of angles
 * names and that aren't empty, each rectangle once. Different rectangles of one tensor are listed
 * apart and may overlap. *ret lies in the arena; returns the count, or FAIL_NOMEM. */
int program_wants(const struct program *p, struct arena *arena, struct want **ret, struct error *e);

#endif

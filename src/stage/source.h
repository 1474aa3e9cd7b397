/* A model file opened for a placement: its program and where its weights come from. */
#ifndef SHOAL_STAGE_SOURCE_H
#define SHOAL_STAGE_SOURCE_H

#include "backend/backend.h"
#include "plan/split.h"

struct gguf;
struct source;

/* Maps the file and builds the whole model's program. Errors name the file. */
int source_open(struct source **ret, const char *path, struct error *e);
void source_close(struct source *s);

/* The weights have been loaded: the file is let go, and asking for weights is FAIL_STATE from then
 * on. Not while another thread asks for them. FAIL_IO when the file changed meanwhile, so that the
 * weights can't be trusted. */
int source_loaded(struct source *s, struct error *e);

/* Borrowed until source_close. */
const struct gguf *source_gguf(const struct source *s);
const struct program *source_program(const struct source *s);
const struct weight_source *source_weights(const struct source *s);
/* What people should know of how the file was understood, "" when nothing: see model_options. */
const char *source_notes(const struct source *s);

/* How sequence state is kept. */
struct source_state {
    int element_bytes; /* of a number that is kept for each position */
    int sequences;     /* at once, as many as the order grants */
};

/* What the model needs, for split_by_memory and context_by_memory: weights and what sequences keep
 * whatever their length, and state of one position, of each layer (n_layers); ret->layer_bytes is
 * the former, borrowed. FAIL_NOMEM. */
int source_need(const struct source *s, const struct source_state *state, uint64_t *weight_bytes,
                uint64_t *token_bytes, struct split_need *ret, struct error *e);

#endif

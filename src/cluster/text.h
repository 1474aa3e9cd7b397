/* What the head of a model needs beside its numbers: the vocabulary, the tokens that end a
 * generation, the chat template. */
#ifndef SHOAL_CLUSTER_TEXT_H
#define SHOAL_CLUSTER_TEXT_H

#include "base/error.h"

#include <stdint.h>

struct source;
struct served_text;
struct vocab;

/* Borrowed parts of the source's file; the source must outlive it. Errors name the key. */
int served_text_open(struct served_text **ret, const struct source *source, struct error *e);
void served_text_close(struct served_text *t);

/* (vocab) 1 where a token ends a generation. Borrowed. */
const uint8_t *served_text_eog(const struct served_text *t);
/* Borrowed until served_text_close. */
const struct vocab *served_text_vocab(const struct served_text *t);
/* The template's text, NULL when the file has none. */
const char *served_text_template(const struct served_text *t);

#endif

/* Cuts text into the words inside which BPE merges, by the expressions that a model's
 * tokenizer was trained with. */
#ifndef SHOAL_TOKEN_PRETOKENIZE_H
#define SHOAL_TOKEN_PRETOKENIZE_H

#include "base/bytes.h"
#include "base/error.h"

/* What goes with a pre-tokenizer beside its expressions. */
enum {
    PRE_WHOLE_WORDS = 1,    /* a word that is a token is taken without merging */
    PRE_ADD_BOS = 2,        /* the file's add_bos_token missing means yes */
    PRE_ADD_SEP = 4,        /* separator after the text */
    PRE_SPACE_MARKS = 8,    /* UTF-8 with space marks instead of byte-level spelling */
    PRE_NEWLINE_WORDS = 16, /* words of line feeds are taken without merging */
    PRE_COMPOSE = 32        /* text is brought into normalization form C first */
};

struct pretokenizer;       /* immutable, any thread */
struct pretokenizer_state; /* scratch of one thread */

/* Whether pretokenizer_open knows the name. */
bool pretokenizer_known(struct bytes name);
/* FAIL_UNSUPPORTED when the name is not known; *flags gets the PRE_ bits. */
int pretokenizer_open(struct pretokenizer **ret, struct bytes name, int *flags, struct error *e);
void pretokenizer_close(struct pretokenizer *p);

/* FAIL_NOMEM. close accepts NULL. */
int pretokenizer_state_open(struct pretokenizer_state **ret, const struct pretokenizer *p,
                            struct error *e);
void pretokenizer_state_close(struct pretokenizer_state *s);

/* Calls on_word for each word, in order; together they are the text. text is valid UTF-8. */
typedef int word_fn(void *arg, struct bytes word, struct error *e);
int pretokenizer_run(struct pretokenizer_state *s, struct bytes text, word_fn *on_word, void *arg,
                     struct error *e);

#endif

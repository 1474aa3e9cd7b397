/* A vocabulary: text to token ids and back, as the model was trained with it.
 *
 * Three kinds: byte-level BPE (ranked merges inside words that a regular expression cuts), SPM
 * (SentencePiece: the best-scored merge first, bytes as fallback) and WPM (BERT's WordPiece).
 * llama.cpp is the reference for what a GGUF file's tokenizer keys mean. */
#ifndef SHOAL_TOKEN_VOCAB_H
#define SHOAL_TOKEN_VOCAB_H

#include "base/buffer.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/spans.h"

#include <stdbool.h>
#include <stdint.h>

/* Limits of a description. The largest vocabularies known have 2^18 tokens and 2^20 merges. */
#define VOCAB_MAX_TOKENS (1 << 22)
#define VOCAB_MAX_MERGES (1 << 23)
/* Bytes of one token's text, and of one that is cut out of the text (control, user-defined):
 * the second bounds the work for each byte of a hostile text. */
#define VOCAB_MAX_TOKEN_TEXT (1 << 16)
#define VOCAB_MAX_SPECIAL_TEXT 1024
/* Bytes of one text to encode: beyond any context, and scratch memory stays below 4 GiB. */
#define VOCAB_MAX_TEXT ((size_t)64 << 20)

/* The numbers of tokenizer.ggml.token_type. */
enum vocab_token_type {
    VOCAB_TOKEN_UNDEFINED,
    VOCAB_TOKEN_NORMAL,
    VOCAB_TOKEN_UNKNOWN,
    VOCAB_TOKEN_CONTROL,
    VOCAB_TOKEN_USER_DEFINED,
    VOCAB_TOKEN_UNUSED,
    VOCAB_TOKEN_BYTE,
    VOCAB_TOKEN_TYPE_COUNT
};

/* Tokens with a role. VOCAB_EOT (end of turn), VOCAB_EOM (end of message) and the FIM ones
 * (fill in the middle) are found by their spelling where the file does not name them. */
enum vocab_role {
    VOCAB_BOS,
    VOCAB_EOS,
    VOCAB_UNK,
    VOCAB_SEP,
    VOCAB_PAD,
    VOCAB_MASK,
    VOCAB_EOT,
    VOCAB_EOM,
    VOCAB_FIM_PRE,
    VOCAB_FIM_SUF,
    VOCAB_FIM_MID,
    VOCAB_FIM_PAD,
    VOCAB_FIM_REP,
    VOCAB_FIM_SEP,
    VOCAB_ROLE_COUNT
};

/* A flag that a file may leave to the tokenizer's kind. */
enum vocab_flag { VOCAB_DEFAULT, VOCAB_NO, VOCAB_YES };

/* Plain description of a vocabulary; everything in it is borrowed for vocab_open only. */
struct vocab_source {
    struct bytes model; /* "gpt2", "llama", "bert", "gemma4" */
    struct bytes pre;   /* name of the pre-tokenizer; empty: "default" */
    struct bytes name;  /* general.name: some models' special tokens swallow white space */
    int32_t n_tokens;
    int32_t n_merges;
    struct bytes (*token_text)(void *arg, int32_t id);
    struct bytes (*merge_text)(void *arg, int32_t i); /* "LEFT RIGHT", best first */
    float (*score)(void *arg, int32_t id);            /* NULL: all zero */
    int32_t (*type)(void *arg, int32_t id);           /* NULL: all normal */
    void *arg;
    bool role_given[VOCAB_ROLE_COUNT]; /* else the token with the kind's own spelling, or none */
    int64_t role[VOCAB_ROLE_COUNT];    /* an id outside the vocabulary: none has this role */
    int32_t n_ends; /* ids beside EOS, EOT and EOM that the file calls ends of a generation */
    int64_t (*end)(void *arg,
                   int32_t i); /* NULL when n_ends is 0; others than ids are passed over */
    enum vocab_flag add_bos, add_eos, add_sep, add_space_prefix, lowercase, strip_accents;
    uint64_t seed; /* of the hash tables; any number, best one that files can't know */
};

struct vocab; /* immutable once open: any thread */

/* FAIL_UNSUPPORTED names a model kind or pre-tokenizer that is not known; FAIL_FORMAT, FAIL_LIMIT,
 * FAIL_NOMEM. *ret is untouched on failure. The source may go afterwards. */
int vocab_open(struct vocab **ret, const struct vocab_source *source, struct error *e);
/* NULL is accepted. */
void vocab_close(struct vocab *v);

/* Ids are 0 to this, exclusive. */
int32_t vocab_size(const struct vocab *v);
/* The spelling in the file ("Ġhello", "▁hello", "<0x0A>"); empty for ids outside. Borrowed until
 * vocab_close, like the pieces. */
struct bytes vocab_token_text(const struct vocab *v, int32_t id);
/* The bytes that the token stands for (" hello"); may be an incomplete UTF-8 character. */
struct bytes vocab_piece(const struct vocab *v, int32_t id);
/* -1 when no token is spelt so. */
int32_t vocab_find(const struct vocab *v, struct bytes text);

/* Control and unknown tokens: they are no text, and take part in encoding only when special
 * tokens are parsed. Not those that structure a message and are shown (gpt-oss's <|channel|>),
 * though they too are encoded only when special tokens are parsed. */
bool vocab_is_control(const struct vocab *v, int32_t id);
/* Ends a generation. The set: EOS, EOT and EOM as the file names them, every token with one of
 * the spellings that model families use to end a turn or a text (see special.c; those that text
 * may contain too, as </s>, only where the file calls them control tokens), and the
 * fill-in-the-middle tokens that only stand between files (pad, repository, separator). */
bool vocab_is_eog(const struct vocab *v, int32_t id);
/* The token with this role, or -1. */
int32_t vocab_role(const struct vocab *v, enum vocab_role role);
int32_t vocab_bos(const struct vocab *v);
int32_t vocab_eos(const struct vocab *v);
/* Whether the file wants a BOS, or an EOS, around an encoded text. */
bool vocab_adds_bos(const struct vocab *v);
bool vocab_adds_eos(const struct vocab *v);

/* Growable list of token ids with a maximum from birth. */
struct token_list {
    int32_t *ids; /* (count), owned */
    size_t count;
    size_t capacity;
    size_t limit;
};

/* An empty list of at most limit ids; done frees them. */
void token_list_init(struct token_list *l, size_t limit);
void token_list_done(struct token_list *l);
/* FAIL_LIMIT ("more than N tokens"), FAIL_NOMEM. */
int token_list_add(struct token_list *l, int32_t id, struct error *e);

struct vocab_encode_options {
    bool add_special;   /* BOS, EOS, separator where the file wants them */
    bool add_bos;       /* a BOS in any case (FAIL_NOT_FOUND when there is none) */
    bool add_eos;       /* likewise */
    bool open_end;      /* nothing goes behind the text, whatever the file wants: it goes on */
    bool parse_special; /* control tokens' spellings in the text become the tokens */
    const struct spans
        *user; /* but not where a byte of the spelling lies in one of these; or NULL */
};

/* Appends text's ids to out. Bytes that are not UTF-8 count as U+FFFD each (BPE, WPM) or are
 * encoded as bytes (SPM). FAIL_LIMIT for a text above VOCAB_MAX_TEXT or too many tokens,
 * FAIL_NOMEM; out then holds what came before the failure. Time is near linear in the text. */
int vocab_encode(const struct vocab *v, struct bytes text, const struct vocab_encode_options *o,
                 struct token_list *out, struct error *e);

/* Appends the text of n ids; ids outside the vocabulary are FAIL_RANGE. skip_special leaves control
 * tokens out. The space that encoding put before the first word is taken away again. The bytes
 * are the tokens' own and may be invalid UTF-8. */
int vocab_decode(const struct vocab *v, const int32_t *ids, size_t n, bool skip_special,
                 struct buffer *out, struct error *e);

/* Turns a stream of tokens into text that is valid UTF-8 at every moment: an incomplete character
 * is held back until its last byte came; what can't become one is U+FFFD. Caller's struct. */
struct detokenizer {
    const struct vocab *vocab; /* borrowed */
    bool skip_special;
    uint8_t pending[4];
    int n_pending;
};

/* At the start of a text; v is borrowed. skip_special leaves control tokens out. */
void detokenizer_init(struct detokenizer *d, const struct vocab *v, bool skip_special);
/* Appends what can be said now. FAIL_RANGE for an id outside, or out's failure. */
int detokenizer_push(struct detokenizer *d, int32_t id, struct buffer *out, struct error *e);
/* Appends U+FFFD for a character that stayed incomplete. */
int detokenizer_finish(struct detokenizer *d, struct buffer *out, struct error *e);

#endif

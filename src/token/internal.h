/* What the files of `token` share about a vocabulary. */
#ifndef SHOAL_TOKEN_INTERNAL_H
#define SHOAL_TOKEN_INTERNAL_H

#include "base/arena.h"
#include "base/map.h"
#include "token/vocab.h"

enum vocab_kind { VOCAB_BPE, VOCAB_SPM, VOCAB_WPM };

#define SPACE_MARK "\xe2\x96\x81" /* U+2581, SentencePiece's visible space */
#define SPACE_MARK_SIZE 3

/* White space that a special token takes with it from the text beside it. */
enum { STRIP_LEFT = 1, STRIP_RIGHT = 2 };

/* A prefix tree over bytes; node 0 is the root. A node's children are a linked list, but the
 * root's, which the walk visits at each byte of the text, stand in a table. */
struct trie_node {
    int32_t child, next; /* first child, next sibling; 0: none */
    int32_t shorter;     /* nearest ancestor with a token; 0: none */
    int32_t token;       /* that ends here, or -1 */
    uint16_t depth;      /* bytes from the root */
    uint8_t byte;
};

struct trie {
    struct trie_node *nodes; /* owned, malloc */
    int32_t count;
    size_t capacity;
    int32_t root[256];
};

int trie_add(struct trie *t, struct bytes text, int32_t token, struct error *e);
/* After the last trie_add: links each node to the shorter match. */
void trie_finish(struct trie *t);
/* The deepest node with a token that text starts with; 0: none. */
int32_t trie_longest(const struct trie *t, struct bytes text);
void trie_done(struct trie *t);

/* The merges of BPE: an open-addressed table from a pair of symbols to its rank and result.
 * Symbols are token ids, and beyond them ids for texts that only merges mention. */
struct merge_slot {
    uint64_t pair; /* left << 32 | right */
    int32_t rank;  /* -1: empty */
    int32_t result;
};

/* The UTF-8 of the character that a byte is spelt as in byte-level vocabularies. */
struct byte_spelling {
    uint8_t size;
    uint8_t text[4];
};

struct pretokenizer;

struct vocab {
    struct arena arena;
    enum vocab_kind kind;
    int32_t n;
    struct bytes *text;  /* (n) as in the file */
    struct bytes *piece; /* (n) the bytes they stand for */
    float *score;        /* (n), SPM only */
    uint8_t *type;       /* (n) enum vocab_token_type, corrected by special.c */
    bool typed;          /* the file gives types */
    uint8_t *strip;      /* (n) STRIP_ bits */
    uint8_t *eog;        /* (n) */
    uint8_t *guarded;    /* (n) 1: control or unknown in the file, whatever type says */
    uint8_t *shown;      /* (n) control tokens that are part of the text all the same */
    struct map ids;      /* text to id */
    size_t longest;      /* bytes of the longest token's text */
    int32_t role[VOCAB_ROLE_COUNT];
    bool add_bos, add_eos, add_sep, add_space_prefix;
    struct trie special; /* control, unknown and user-defined tokens */
    bool any_user_defined;

    /* BPE */
    struct pretokenizer *pretokenizer;
    bool byte_level;    /* else text is UTF-8 with space marks, and bytes are <0xXX> tokens */
    bool whole_words;   /* a word that is a token is taken without merging */
    bool newline_words; /* likewise for words of line feeds only */
    bool compose;       /* text is brought into normalization form C first */
    struct merge_slot *merges;
    size_t merge_mask;
    uint64_t seed;
    struct bytes *extra; /* (extra_count) symbols from n on: texts that only merges mention */
    int32_t extra_count, extra_capacity;
    struct map extra_ids;
    struct byte_spelling byte_spelling[256];
    int32_t byte_symbol[256]; /* of byte_spelling; -1 */

    /* SPM, and BPE without byte level: the token of a byte, or -1. */
    int32_t byte_token[256];

    /* WPM */
    struct trie words;
    bool lowercase, strip_accents;
};

/* special.c: roles by spelling, corrected types, end-of-generation set, stripping. */
void special_assign(struct vocab *v, struct bytes model_name);

/* bpe.c. The spelling of a byte in byte-level vocabularies, and back (-1: not a spelling). */
uint32_t byte_level_char(uint8_t byte);
int byte_level_byte(uint32_t c);
int bpe_open(struct vocab *v, const struct vocab_source *source, struct error *e);

/* State of one vocab_encode call. */
struct encoder {
    const struct vocab *v;
    struct token_list *out;
    struct merger *merger;
    struct buffer text; /* a fragment, escaped or spelt as the vocabulary's tokens are */
    struct pretokenizer_state *pre;
    size_t word_chars;  /* WPM: characters of the word that is gathered in text */
    bool after_special; /* the fragment before was a special token, or there was none */
};

/* Each encodes one fragment between special tokens. */
int bpe_encode(struct encoder *c, struct bytes fragment, struct error *e);
int spm_encode(struct encoder *c, struct bytes fragment, struct error *e);
int wpm_encode(struct encoder *c, struct bytes fragment, struct error *e);

/* Cuts text into fragments and special tokens: on_part gets (token, empty) or (-1, fragment), in
 * order, and may fail. */
typedef int partition_fn(void *arg, int32_t token, struct bytes fragment, struct error *e);
int partition(const struct vocab *v, struct bytes text, const struct vocab_encode_options *o,
              partition_fn *on_part, void *arg, struct error *e);

/* Appends text with every byte that is not UTF-8 as U+FFFD. */
int text_repair(struct bytes text, struct buffer *out);
/* Appends text with spaces as space marks. */
int text_mark_spaces(struct bytes text, struct buffer *out);

#endif

/* WordPiece: words of a normalised text, cut into the longest tokens from the left. Source:
 * Devlin et al. 2018, arXiv:1810.04805, and its BasicTokenizer. GGUF files mark the start of a
 * word ("▁word", "piece") where BERT marks the continuation ("word", "##piece"). */
#include "token/internal.h"
#include "token/unicode.h"
#include "base/utf8.h"

/* The blocks that BERT sets apart character by character. */
static bool is_cjk(uint32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
           (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b73f) ||
           (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b820 && c <= 0x2ceaf) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

/* BERT counts all ASCII that is neither letter, digit, space nor control as punctuation. */
static bool is_ascii_mark(uint32_t c)
{
    return (c >= 0x21 && c <= 0x2f) || (c >= 0x3a && c <= 0x40) || (c >= 0x5b && c <= 0x60) ||
           (c >= 0x7b && c <= 0x7e);
}

/* The one letter whose small form is two characters. */
#define CAPITAL_DOTTED_I 0x130
#define DOT_ABOVE 0x307

/* A longer word is unknown. The bound is part of BERT's tokenizer. */
#define MAX_WORD_CHARS 100

static void start_word(struct encoder *c)
{
    buffer_clear(&c->text);
    buffer_text(&c->text, SPACE_MARK);
    c->word_chars = 0;
}

/* Encodes the word gathered in c->text, which starts with a space mark, and forgets it. A word
 * of which some part is no token is unknown as a whole. */
static int end_word(struct encoder *c, struct error *e)
{
    const struct vocab *v = c->v;
    struct bytes word = buffer_bytes(&c->text);
    size_t before = c->out->count;
    if (c->text.failed)
        return fail(e, FAIL_NOMEM, "a word of %zu bytes", word.size);
    if (word.size <= SPACE_MARK_SIZE)
        return 0;
    for (size_t at = 0; at < word.size && c->word_chars <= MAX_WORD_CHARS;) {
        int32_t node = trie_longest(&v->words, bytes_of(word.data + at, word.size - at));
        if (!node) {
            c->out->count = before;
            break;
        }
        int r = token_list_add(c->out, v->words.nodes[node].token, e);
        if (r)
            return r;
        at += v->words.nodes[node].depth;
    }
    start_word(c);
    if (c->out->count == before && v->role[VOCAB_UNK] >= 0)
        return token_list_add(c->out, v->role[VOCAB_UNK], e);
    return 0;
}

static int add_char(struct encoder *c, uint32_t ch, struct error *e)
{
    const struct vocab *v = c->v;
    enum unicode_class class = unicode_class(ch);
    if (class == UNICODE_SPACE)
        return end_word(c, e);
    if (ch == 0 || ch == UTF8_REPLACEMENT || class == UNICODE_CONTROL ||
        (class == UNICODE_ACCENT && v->strip_accents))
        return 0;
    uint8_t text[UTF8_MAX];
    int n = utf8_write(v->lowercase ? unicode_lower(ch) : ch, text);
    bool alone = class == UNICODE_PUNCTUATION || is_ascii_mark(ch) || is_cjk(ch);
    int r = alone ? end_word(c, e) : 0;
    if (r)
        return r;
    buffer_append(&c->text, bytes_of(text, (size_t)n));
    c->word_chars++;
    return alone ? end_word(c, e) : 0;
}

int wpm_encode(struct encoder *c, struct bytes fragment, struct error *e)
{
    int r = 0;
    start_word(c);
    for (size_t i = 0; i < fragment.size && r == 0;) {
        uint32_t ch, parts[UNICODE_MAX_PARTS];
        int n = utf8_read(bytes_of(fragment.data + i, fragment.size - i), &ch);
        i += n > 0 ? (size_t)n : 1;
        if (n <= 0)
            continue;
        parts[0] = ch;
        int count = c->v->strip_accents ? unicode_decompose(ch, parts) : 1;
        if (parts[0] == CAPITAL_DOTTED_I && c->v->lowercase) {
            parts[0] = 'i';
            parts[count++] = DOT_ABOVE;
        }
        for (int k = 0; k < count && r == 0; k++)
            r = add_char(c, parts[k], e);
    }
    return r ? r : end_word(c, e);
}

/* The vocabulary of synthetic models: see internal.h. */
#include "tools/synth/internal.h"

#include "base/arena.h"
#include "base/attributes.h"

#include <stdio.h>

enum { TOKEN_NORMAL = 1, TOKEN_CONTROL = 3 };

static const char *const specials[] = { "<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>" };

/* Common English pairs, so that merging is exercised at all. */
static const struct {
    const char *pair, *merged;
} merges[] = {
    { "t h", "th" }, { "h e", "he" }, { "i n", "in" }, { "e r", "er" },
    { "a n", "an" }, { "r e", "re" }, { "o n", "on" }, { "a t", "at" },
};

static const char chat_template[] =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|im_start|>assistant\n' }}{% endif %}";

/* GPT-2's printable stand-in of a byte: itself where printable, else 256 plus its rank among the
 * others (Radford et al. 2019, the published encoder's byte table). */
static unsigned byte_symbol(int byte)
{
    unsigned next = 256;
    for (int b = 0; b <= byte; b++) {
        bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte)
            return printable ? (unsigned)b : next;
        next += !printable;
    }
    return next;
}

static struct bytes utf8(struct arena *a, unsigned symbol)
{
    char text[3] = { (char)symbol, 0, 0 };
    if (symbol >= 128) {
        text[0] = (char)(0xc0 | symbol >> 6);
        text[1] = (char)(0x80 | (symbol & 63));
    }
    return bytes_text(arena_text(a, bytes_of(text, symbol >= 128 ? 2 : 1)));
}

int synth_vocab_write(struct gguf_writer *w, int n, struct error *e)
{
    struct arena arena = { 0 };
    const int n_specials = ARRAY_LEN(specials);
    /* As many as fit: BPE with longer tokens and without merges is refused. */
    int n_merges =
        n - SYNTH_MIN_VOCAB < (int)ARRAY_LEN(merges) ? n - SYNTH_MIN_VOCAB : (int)ARRAY_LEN(merges);
    struct bytes *texts = arena_array(&arena, struct bytes, n);
    int32_t *types = arena_array(&arena, int32_t, n);
    struct bytes pairs[ARRAY_LEN(merges)];
    int r = 0;
    for (int i = 0; i < n && texts && types; i++) {
        types[i] = i < n_specials ? TOKEN_CONTROL : TOKEN_NORMAL;
        int rank = i - n_specials, merge = rank - 256;
        if (i < n_specials) {
            texts[i] = bytes_text(specials[i]);
        } else if (rank < 256) {
            texts[i] = utf8(&arena, byte_symbol(rank));
        } else if (merge < n_merges) {
            texts[i] = bytes_text(merges[merge].merged);
        } else {
            char text[24];
            snprintf(text, sizeof(text), "\xc4\xa0w%d", i); /* a space, then w and the id */
            texts[i] = bytes_text(arena_text(&arena, bytes_text(text)));
        }
        if (!texts[i].data)
            texts = NULL;
    }
    if (!texts || !types) {
        r = fail(e, FAIL_NOMEM, "a vocabulary of %d tokens", n);
        goto out;
    }
    for (int i = 0; i < n_merges; i++)
        pairs[i] = bytes_text(merges[i].pair);
    gguf_writer_text(w, "tokenizer.ggml.model", bytes_text("gpt2"));
    gguf_writer_text(w, "tokenizer.ggml.pre", bytes_text("gpt-2"));
    gguf_writer_text_array(w, "tokenizer.ggml.tokens", texts, (size_t)n);
    gguf_writer_i32_array(w, "tokenizer.ggml.token_type", types, (size_t)n);
    gguf_writer_text_array(w, "tokenizer.ggml.merges", pairs, (size_t)n_merges);
    gguf_writer_u32(w, "tokenizer.ggml.bos_token_id", 1);
    gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", 4);
    gguf_writer_bool(w, "tokenizer.ggml.add_bos_token", false);
    gguf_writer_text(w, "tokenizer.chat_template", bytes_text(chat_template));
out:
    arena_done(&arena);
    return r;
}

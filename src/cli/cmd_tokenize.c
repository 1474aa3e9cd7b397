/* shoal tokenize: the ids of a text. */
#include "cli/commands.h"

#include <stdio.h>
#include <stdlib.h>

#include "chat/vocab_load.h"
#include "cli/folders.h"
#include "cli/options.h"
#include "cli/print.h"
#include "gguf/gguf.h"
#include "token/vocab.h"

/* Everything on stdin, up to what a vocabulary encodes. */
static int read_all(FILE *from, struct buffer *out, struct error *e)
{
    static uint8_t chunk[1 << 16];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, from)) > 0)
        if (buffer_append(out, bytes_of(chunk, n)))
            return fail(e, FAIL_LIMIT, "the text has more than %zu bytes", out->limit);
    return ferror(from) ? fail(e, FAIL_IO, "stdin can't be read") : 0;
}

static int tokenize(const char *path, const struct vocab_encode_options *o, struct error *e)
{
    struct gguf *g = NULL;
    struct vocab *v = NULL;
    struct buffer text;
    struct token_list ids;
    buffer_init(&text, VOCAB_MAX_TEXT);
    /* Each byte becomes one token at most, and BOS may stand before. */
    token_list_init(&ids, VOCAB_MAX_TEXT * 3 + 2);
    int r = gguf_open(&g, path, e);
    if (r)
        goto out;
    if ((r = vocab_load(&v, g, e))) {
        wrap(e, "%s", path);
        goto out;
    }
    if ((r = read_all(stdin, &text, e)) || (r = vocab_encode(v, buffer_bytes(&text), o, &ids, e)))
        goto out;
    for (size_t i = 0; i < ids.count; i++)
        print_out(i ? " %d" : "%d", ids.ids[i]);
    print_out("\n");
out:
    token_list_done(&ids);
    buffer_done(&text);
    vocab_close(v);
    gguf_close(g);
    return r;
}

int cmd_tokenize(int argc, char **argv)
{
    const char *model = NULL, *models = NULL;
    char path[FOLDER_TEXT];
    struct vocab_encode_options o = { 0 };
    const struct option_row rows[] = {
        OPTION_ARGUMENT("MODEL", &model, "a GGUF file or a name; the text comes from stdin"),
        OPTION_FLAG("special", &o.parse_special, "control tokens' spellings become the tokens"),
        OPTION_FLAG("bos", &o.add_bos, "put the BOS token first"),
        OPTION_MODELS(&models),
    };
    const struct option_set set = { "tokenize", rows, sizeof rows / sizeof rows[0] };
    int status = EXIT_OK;
    struct error e = { 0 };
    if (!options_start(&set, argc, argv, &status))
        return status;
    if (folders_find_model(model, models, path, &e) || tokenize(path, &o, &e)) {
        print_failure("tokenize", &e);
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

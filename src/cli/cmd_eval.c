/* shoal eval: logits of given token ids, or the perplexity of a text. */
#include "cli/commands.h"
#include "cli/folders.h"
#include "cli/options.h"
#include "cli/print.h"

#include "base/buffer.h"
#include "chat/vocab_load.h"
#include "gguf/gguf.h"
#include "node/eval.h"
#include "os/file.h"
#include "token/vocab.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_INPUT ((size_t)64 << 20)

/* Perplexity windows: 512 positions, of which 256..510 are scored (the procedure that llama.cpp's
 * perplexity tool uses). */
#define WINDOW 512
#define WINDOW_FIRST 256

/* What was asked for. Texts borrowed from argv. */
struct request {
    struct eval_options how;
    const char *tokens; /* file of ids */
    const char *text;   /* file for perplexity */
    const char *logits; /* output file */
};

/* Decimal ids separated by white space. Caller frees *ret. */
static int read_ids(const char *path, int32_t **ret, int *n, struct error *e)
{
    struct buffer text;
    buffer_init(&text, MAX_INPUT);
    int r = file_read_typed(path, &text, e);
    int32_t *ids = r ? NULL : malloc((text.size / 2 + 1) * sizeof(*ids));
    if (!r && !ids)
        r = fail(e, FAIL_NOMEM, "%s", path);
    int count = 0;
    const char *at = buffer_cstr(&text);
    while (!r) {
        char *end;
        at += strspn(at, " \t\r\n\f\v");
        if (at == buffer_cstr(&text) + text.size)
            break;
        errno = 0;
        long value = strtol(at, &end, 10);
        if (end == at || errno || value < 0 || value > INT32_MAX ||
            (*end && !strchr(" \t\r\n\f\v", *end)))
            r = fail(e, FAIL_FORMAT, "%s: not a token id at byte %zu", path,
                     (size_t)(at - buffer_cstr(&text)));
        else
            ids[count++] = (int32_t)value;
        at = end;
    }
    if (!r && count == 0)
        r = fail(e, FAIL_FORMAT, "%s: no token ids", path);
    buffer_done(&text);
    if (r) {
        free(ids);
        return r;
    }
    *ret = ids;
    *n = count;
    return 0;
}

struct writer {
    FILE *file;
    const char *path;
    size_t width;
};

static int write_row(void *arg, int position, const float *logits, struct error *e)
{
    struct writer *w = arg;
    (void)position;
    if (fwrite(logits, sizeof(float), w->width, w->file) != w->width)
        return fail(e, FAIL_IO, "%s: %s", w->path, strerror(errno));
    return 0;
}

static int eval_logits(const struct request *o, struct error *e)
{
    int32_t *ids = NULL;
    int n = 0;
    struct eval *v = NULL;
    struct writer w = { .path = o->logits };
    int r = read_ids(o->tokens, &ids, &n, e);
    if (r || (r = eval_open(&v, &o->how, n, e)))
        goto out;
    w.width = (size_t)eval_vocab(v);
    w.file = fopen(o->logits, "wb");
    if (!w.file) {
        r = fail(e, FAIL_IO, "%s: %s", o->logits, strerror(errno));
        goto out;
    }
    r = eval_sequence(v, ids, n, write_row, &w, e);
out:
    if (w.file && fclose(w.file) && !r)
        r = fail(e, FAIL_IO, "%s: %s", o->logits, strerror(errno));
    eval_close(v);
    free(ids);
    return r;
}

struct score {
    const int32_t *ids; /* of the window */
    int vocab;
    double nll;
    int scored;
};

static int score_row(void *arg, int position, const float *logits, struct error *e)
{
    struct score *s = arg;
    (void)e;
    if (position < WINDOW_FIRST || position >= WINDOW - 1)
        return 0;
    double max = (double)logits[0], sum = 0;
    for (int i = 1; i < s->vocab; i++)
        max = (double)logits[i] > max ? (double)logits[i] : max;
    for (int i = 0; i < s->vocab; i++)
        sum += exp((double)logits[i] - max);
    s->nll += log(sum) + max - (double)logits[s->ids[position + 1]];
    s->scored++;
    return 0;
}

/* The text's ids, with BOS where the model adds one. */
static int text_ids(const struct request *o, struct vocab **vocab, struct token_list *ids,
                    struct error *e)
{
    struct buffer text;
    struct gguf *g = NULL;
    buffer_init(&text, MAX_INPUT);
    int r = file_read_typed(o->text, &text, e);
    if (!r)
        r = gguf_open(&g, o->how.model, e);
    if (!r)
        r = vocab_load(vocab, g, e);
    if (!r)
        r = vocab_encode(*vocab, buffer_bytes(&text),
                         &(struct vocab_encode_options){ .add_special = true }, ids, e);
    gguf_close(g);
    buffer_done(&text);
    return r;
}

/* Every whole window of the ids, scored; the tail is dropped. */
static int score_windows(struct eval *v, const struct vocab *vocab, struct token_list *l,
                         struct score *s, struct error *e)
{
    int r = 0, n = (int)l->count;
    for (int at = 0; at + WINDOW <= n && !r; at += WINDOW) {
        s->ids = l->ids + at;
        if (vocab_adds_bos(vocab))
            l->ids[at] = vocab_bos(vocab);
        r = eval_sequence(v, l->ids + at, WINDOW, score_row, s, e);
        print_err("\r%d of %d tokens, perplexity %.4f ", at + WINDOW, n,
                  exp(s->nll / (double)(s->scored ? s->scored : 1)));
    }
    print_err("\n");
    return r;
}

static int eval_text(const struct request *o, struct error *e)
{
    struct vocab *vocab = NULL;
    struct eval *v = NULL;
    struct token_list ids;
    struct score s = { 0 };
    token_list_init(&ids, MAX_INPUT);
    int r = text_ids(o, &vocab, &ids, e);
    if (!r && ids.count < WINDOW)
        r = fail(e, FAIL_ARG, "%s: %zu tokens, one window needs %d", o->text, ids.count, WINDOW);
    if (r || (r = eval_open(&v, &o->how, WINDOW, e)))
        goto out;
    s.vocab = eval_vocab(v);
    if (!(r = score_windows(v, vocab, &ids, &s, e)))
        print_out("perplexity %.6f nll %.6f tokens %zu scored %d\n", exp(s.nll / s.scored), s.nll,
                  ids.count, s.scored);
out:
    eval_close(v);
    vocab_close(vocab);
    token_list_done(&ids);
    return r;
}

int cmd_eval(int argc, char **argv)
{
    struct request o = { .how = { .chunk = 512 } };
    const char *models = NULL;
    char path[FOLDER_TEXT];
    const struct option_row rows[] = {
        OPTION_ARGUMENT("MODEL", &o.how.model, "a GGUF file or a name"),
        OPTION_TEXT("tokens", &o.tokens, "FILE", "token ids separated by white space"),
        OPTION_TEXT("logits", &o.logits, "OUT", "little-endian f32 [tokens][vocabulary]"),
        OPTION_TEXT("text", &o.text, "FILE", "print the perplexity of this text instead"),
        OPTION_FLAG("exact", &o.how.exact, "f32 activations and KV cache"),
        OPTION_TEXT("split", &o.how.split, "SPEC", "ranks inside this process, as for shoal up"),
        OPTION_TEXT("transport", &o.how.transport, "NAME",
                    "between ranks: memory (default), shm, tcp, tcp-sealed"),
        OPTION_INT("threads", &o.how.threads, 1, 256, "N", "compute threads of each rank"),
        OPTION_FLAG("expert-columns", &o.how.expert_columns,
                    "split columns of every expert, not whole experts"),
        OPTION_TEXT("isa", &o.how.isa, "NAME", "instruction set, or one by rank: avx2,scalar"),
        OPTION_INT("chunk", &o.how.chunk, 1, 4096, "N", "rows of prefill in one step"),
        OPTION_INT("beside", &o.how.beside, 0, 64, "N", "other sequences in the same steps"),
        OPTION_MODELS(&models),
    };
    const struct option_set set = { "eval", rows, ARRAY_LEN(rows) };
    struct error e = { 0 };
    int status = EXIT_OK;
    if (!options_start(&set, argc, argv, &status))
        return status;
    if (!o.text == !(o.tokens && o.logits)) {
        print_err("shoal eval: give --tokens FILE and --logits OUT, or --text FILE\n");
        return EXIT_USAGE;
    }
    if (folders_find_model(o.how.model, models, path, &e)) {
        print_failure("eval", &e);
        return EXIT_FAILED;
    }
    o.how.model = path;
    if (o.text ? eval_text(&o, &e) : eval_logits(&o, &e)) {
        print_failure("eval", &e);
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

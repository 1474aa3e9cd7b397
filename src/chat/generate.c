/* Text on top of the engine. Everything but start, cancel and close runs on the head
 * thread. */
#include "chat/generate.h"

#include <stdlib.h>

#include "base/buffer.h"
#include "chat/stops.h"
#include "token/vocab.h"

/* Tokens whose text is held back: one has at least a byte of text, apart from control tokens. */
#define MAX_PENDING 4096
/* Text of one token, and of all that are held back: far above any vocabulary's longest piece. */
#define MAX_TEXT (1u << 20)

struct pending {
    int32_t id;
    float logprob;
    size_t offset;      /* of its text in the answer, bytes */
    size_t characters;  /* likewise */
    size_t at, n_bytes; /* in pending_bytes */
    struct sampler_logprob top[SAMPLER_MAX_TOP];
    int n_top;
};

struct generate {
    struct generate_request request; /* its borrowed arrays are not used after start */
    struct sampler_bias *bias;       /* owned */
    uint64_t ticket;
    struct stops *stops;
    struct detokenizer detokenizer;
    bool stopped;                  /* by a stop string */
    struct buffer clean, shown;    /* of the present token */
    size_t n_clean, n_shown;       /* bytes of the answer so far */
    size_t n_characters;           /* of n_clean */
    struct error error;            /* of ours; ends the request */
    struct pending *pending;       /* (MAX_PENDING) when tokens are wanted */
    struct generate_token *tokens; /* (MAX_PENDING) what a callback is given */
    int n_pending;
    struct buffer pending_bytes;
};

static int remember(struct generate *g, const struct engine_token *t)
{
    if (g->n_pending == MAX_PENDING) {
        return fail(&g->error, FAIL_LIMIT,
                    "more than %d tokens wait for what may become a stop string", MAX_PENDING);
    }
    struct pending *p = &g->pending[g->n_pending++];
    p->id = t->id;
    p->logprob = t->logprob;
    p->offset = g->n_clean;
    p->characters = g->n_characters;
    p->at = g->pending_bytes.size;
    p->n_top = t->n_top < SAMPLER_MAX_TOP ? t->n_top : SAMPLER_MAX_TOP;
    if (p->n_top > 0) {
        memcpy(p->top, t->top, (size_t)p->n_top * sizeof p->top[0]);
    }
    struct bytes piece = vocab_piece(g->request.vocab, t->id);
    p->n_bytes = piece.size;
    if (buffer_append(&g->pending_bytes, piece) != 0) {
        return fail(&g->error, FAIL_LIMIT, "too much text waits for what may become a stop string");
    }
    return 0;
}

/* Hands over what is shown, with the tokens that have begun in it; all at the end, and where no
 * text is held back that their own, if they have any, could be a part of. */
static void emit(struct generate *g, bool end)
{
    int n = 0;
    g->n_shown += g->shown.size;
    bool nothing_held = g->n_shown == g->n_clean && g->detokenizer.n_pending == 0;
    bool all = (end || nothing_held) && !g->stopped;
    while (n < g->n_pending && (all || g->pending[n].offset < g->n_shown)) {
        const struct pending *p = &g->pending[n];
        g->tokens[n++] = (struct generate_token){
            .id = p->id,
            .logprob = p->logprob,
            .bytes = bytes_of(g->pending_bytes.data + p->at, p->n_bytes),
            .offset = p->offset,
            .characters = p->characters,
            .top = p->top,
            .n_top = p->n_top,
        };
    }
    if (n > 0 || g->shown.size > 0) {
        g->request.on_text(g->request.arg, buffer_bytes(&g->shown), g->tokens, n);
    }
    buffer_clear(&g->shown);
    if (n == 0) {
        return;
    }
    memmove(g->pending, g->pending + n, (size_t)(g->n_pending - n) * sizeof *g->pending);
    g->n_pending -= n;
    if (g->n_pending == 0) {
        buffer_clear(&g->pending_bytes);
    }
}

/* Counts what has become clear, and takes what can't be part of a stop string. */
static int take_clean(struct generate *g)
{
    g->n_clean += g->clean.size;
    for (size_t i = 0; i < g->clean.size; i++) {
        g->n_characters += (g->clean.data[i] & 0xc0) != 0x80; /* valid UTF-8 */
    }
    return stops_push(g->stops, buffer_bytes(&g->clean), &g->shown, &g->stopped, NULL, &g->error);
}

static enum engine_verdict on_token(void *arg, const struct engine_token *t)
{
    struct generate *g = arg;
    if (g->request.on_sampled != NULL) {
        g->request.on_sampled(g->request.arg, t->id);
    }
    if (t->is_eog) {
        return ENGINE_CONTINUE;
    }
    buffer_clear(&g->clean);
    int code = g->pending != NULL ? remember(g, t) : 0;
    code = code ? code : detokenizer_push(&g->detokenizer, t->id, &g->clean, &g->error);
    code = code ? code : take_clean(g);
    if (code != 0) {
        return ENGINE_STOP;
    }
    emit(g, false);
    return g->stopped ? ENGINE_STOP : ENGINE_CONTINUE;
}

static void on_progress(void *arg, int done, int total)
{
    struct generate *g = arg;
    if (g->request.on_progress != NULL) {
        g->request.on_progress(g->request.arg, done, total);
    }
}

static void on_end(void *arg, enum engine_finish finish, const struct engine_usage *usage,
                   const struct error *error)
{
    struct generate *g = arg;
    buffer_clear(&g->clean);
    int code = g->error.code;
    if (code == 0 && !g->stopped) {
        code = detokenizer_finish(&g->detokenizer, &g->clean, &g->error);
        code = code ? code : take_clean(g);
    }
    if (code == 0 && !g->stopped) {
        code = stops_finish(g->stops, &g->shown, &g->error);
    }
    emit(g, code == 0);
    struct generate_end end = { .finish = finish };
    if (usage != NULL) {
        end.usage = *usage;
    }
    if (error != NULL) {
        end.error = *error;
    } else if (code != 0) {
        end.finish = FINISH_ERROR;
        end.error = g->error;
    }
    g->request.on_end(g->request.arg, &end);
}

void generate_close(struct generate *g)
{
    if (g == NULL) {
        return;
    }
    stops_close(g->stops);
    buffer_done(&g->clean);
    buffer_done(&g->shown);
    buffer_done(&g->pending_bytes);
    free(g->pending);
    free(g->tokens);
    free(g->bias);
    free(g);
}

/* Everything the request needs later, copied. */
static int prepare(struct generate *g, struct sampling *sampling, struct error *e)
{
    const struct generate_request *r = &g->request;
    detokenizer_init(&g->detokenizer, r->vocab, true);
    buffer_init(&g->clean, MAX_TEXT);
    buffer_init(&g->shown, MAX_TEXT);
    buffer_init(&g->pending_bytes, MAX_TEXT);
    int code = stops_open(&g->stops, r->stops, r->n_stops, e);
    if (code != 0) {
        return code;
    }
    *sampling = *r->sampling;
    if (sampling->n_bias > 0) {
        size_t size = (size_t)sampling->n_bias * sizeof *g->bias;
        g->bias = malloc(size);
        if (g->bias == NULL) {
            return fail(e, FAIL_NOMEM, "memory for a request");
        }
        memcpy(g->bias, sampling->bias, size);
        sampling->bias = g->bias;
    }
    if (r->want_tokens) {
        g->pending = malloc(MAX_PENDING * sizeof *g->pending);
        g->tokens = malloc(MAX_PENDING * sizeof *g->tokens);
        if (g->pending == NULL || g->tokens == NULL) {
            return fail(e, FAIL_NOMEM, "memory for a request");
        }
    }
    return 0;
}

int generate_start(struct generate **ret, const struct generate_request *r, struct error *e)
{
    struct generate *g = calloc(1, sizeof *g);
    if (g == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a request");
    }
    g->request = *r;
    struct engine_request q = {
        .prompt = r->prompt,
        .n_prompt = r->n_prompt,
        .max_tokens = r->max_tokens,
        .on_token = on_token,
        .on_progress = on_progress,
        .on_end = on_end,
        .arg = g,
    };
    int code = prepare(g, &q.sampling, e);
    code = code ? code : engine_submit(r->engine, &q, &g->ticket, e);
    if (code != 0) {
        generate_close(g);
        return code;
    }
    *ret = g;
    return 0;
}

void generate_cancel(struct generate *g)
{
    engine_cancel(g->request.engine, g->ticket);
}

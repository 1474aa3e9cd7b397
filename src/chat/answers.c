/* Answers: see answers.h.
 *
 * What the engine's thread brings goes through the parser into an answer's inbox: the parts' texts
 * and tokens one behind the other, and a mark for each part. The drain swaps the inbox for an empty
 * one, so that its buffers are reused and decoding allocates nothing. */
#include "chat/answers.h"

#include <stdlib.h>

#include "chat/parser.h"
#include "os/thread.h"

/* Ids of one answer that nobody has taken yet: more than a context has. */
#define MAX_IDS (4u << 20)
/* Parts of one answer that nobody has taken yet. */
#define MAX_MARKS (1u << 20)

/* One part of an answer: where its text and its tokens end in the inbox. */
struct mark {
    enum chat_event_kind kind;
    int call;
    size_t text, log;
};

struct inbox {
    struct buffer marks, text, log,
        ids; /* marks: struct mark, one behind the other; ids: int32_t */
};

struct answer {
    struct chat_answers *all;
    struct generate *generate;  /* NULL before the start */
    struct chat_parser *parser; /* the engine's thread */
    struct buffer echo;
    struct inbox out; /* the drain's, as the next three */
    bool begun;       /* START was told */
    bool told;        /* the end was told */
    bool over;        /* it never started, or the engine is done with it */
    /* Under the lock. */
    struct inbox in;
    bool ended;
    struct generate_end end;
    int done, total; /* of prefill */
};

struct chat_answers {
    struct mutex lock;
    void (*on_ready)(void *arg);
    void *arg;
    int n, running;
    struct answer answers[];
};

/* --- the engine's thread --- */

/* Adds a part, or makes the last one longer. Under the lock. */
static void add_part(struct answer *a, enum chat_event_kind kind, int call, struct bytes text)
{
    struct inbox *in = &a->in;
    struct mark *last =
        in->marks.size > 0 ? (struct mark *)(void *)(in->marks.data + in->marks.size) - 1 : NULL;
    buffer_append(&in->text, text);
    if (last != NULL && last->kind == kind && last->call == call && kind != CHAT_TOOL_BEGIN) {
        last->text = in->text.size;
        last->log = in->log.size;
        return;
    }
    const struct mark mark = { kind, call, in->text.size, in->log.size };
    buffer_append(&in->marks, bytes_of(&mark, sizeof mark));
}

static void on_part(void *arg, enum chat_event_kind kind, struct bytes text)
{
    add_part(arg, kind, 0, text);
}

static void on_text(void *arg, struct bytes text, const struct generate_token *tokens, int n)
{
    struct answer *a = arg;
    mutex_lock(&a->all->lock);
    chat_log_pack(&a->in.log, tokens, n);
    size_t marks = a->in.marks.size, size = a->in.text.size;
    if (chat_parser_push(a->parser, text, on_part, a) != 0) {
        a->in.text.failed = true;
    }
    /* Tokens whose text is held back, or that have none, come with what there is of it. */
    if (n > 0 && a->in.marks.size == marks && a->in.text.size == size) {
        add_part(a, CHAT_TEXT, 0, bytes_of(NULL, 0));
    }
    a->all->on_ready(a->all->arg);
    mutex_unlock(&a->all->lock);
}

/* Wakes nobody: the text that it belongs to, or the end, does. */
static void on_sampled(void *arg, int32_t id)
{
    struct answer *a = arg;
    mutex_lock(&a->all->lock);
    buffer_append(&a->in.ids, bytes_of(&id, sizeof id));
    mutex_unlock(&a->all->lock);
}

static void on_progress(void *arg, int done, int total)
{
    struct answer *a = arg;
    mutex_lock(&a->all->lock);
    a->done = done;
    a->total = total;
    mutex_unlock(&a->all->lock);
}

static void on_end(void *arg, const struct generate_end *end)
{
    struct answer *a = arg;
    struct chat_answers *all = a->all;
    mutex_lock(&all->lock);
    chat_parser_finish(a->parser, on_part, a);
    a->ended = true;
    a->end = *end;
    all->on_ready(all->arg);
    mutex_unlock(&all->lock); /* it may be gone from here on */
}

/* --- whoever asked --- */

static void inbox_init(struct inbox *b)
{
    buffer_init(&b->marks, MAX_MARKS * sizeof(struct mark));
    buffer_init(&b->text, CHAT_MAX_TEXT);
    buffer_init(&b->log, CHAT_MAX_TEXT);
    buffer_init(&b->ids, MAX_IDS * sizeof(int32_t));
}

static void inbox_clear(struct inbox *b)
{
    buffer_clear(&b->marks);
    buffer_clear(&b->text);
    buffer_clear(&b->log);
    buffer_clear(&b->ids);
}

static void inbox_done(struct inbox *b)
{
    buffer_done(&b->marks);
    buffer_done(&b->text);
    buffer_done(&b->log);
    buffer_done(&b->ids);
}

static int start_engine(struct answer *a, const struct chat_answers_options *o,
                        const struct chat_start *start, struct error *e)
{
    struct sampling sampling = o->request->sampling;
    const struct constraint *constraint = sampling.constraint;
    sampling.seed = start->seed;
    if (constraint != NULL) {
        int code = constraint->ops->clone(constraint, &sampling.constraint, e);
        if (code != 0) {
            return code;
        }
    }
    int code = generate_start(&a->generate,
                              &(struct generate_request){
                                  .engine = o->engine,
                                  .vocab = o->vocab,
                                  .prompt = start->ids,
                                  .n_prompt = start->n,
                                  .max_tokens = o->request->max_tokens,
                                  .sampling = &sampling,
                                  .stops = o->request->stops,
                                  .n_stops = o->request->n_stops,
                                  .want_tokens = o->request->want_logprobs,
                                  .on_text = on_text,
                                  .on_progress = on_progress,
                                  .on_sampled = o->want_ids ? on_sampled : NULL,
                                  .on_end = on_end,
                                  .arg = a,
                              },
                              e);
    if (code != 0 && constraint != NULL) { /* else it is the engine's */
        constraint->ops->close(sampling.constraint);
    }
    return code;
}

static int start_one(struct answer *a, const struct chat_answers_options *o,
                     const struct chat_start *start, struct error *e)
{
    int code = chat_parser_open(&a->parser, o->request->reasoning, false, e);
    if (code != 0) {
        return code;
    }
    if (buffer_append(&a->echo, start->echo) != 0) {
        return fail(e, FAIL_NOMEM, "memory for the answer");
    }
    if (o->request->max_tokens == 0) { /* only the prompt is wanted: no engine needed */
        const struct generate_end end = { .finish = FINISH_LENGTH,
                                          .usage.prompt_tokens = start->n };
        on_end(a, &end);
    } else {
        code = start_engine(a, o, start, e);
    }
    a->all->running += code == 0;
    return code;
}

int chat_answers_start(struct chat_answers **ret, const struct chat_answers_options *o,
                       struct error *e)
{
    struct chat_answers *all = calloc(1, sizeof *all + (size_t)o->n * sizeof all->answers[0]);
    *ret = all;
    if (all == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a request");
    }
    mutex_init(&all->lock);
    all->on_ready = o->on_ready;
    all->arg = o->arg;
    all->n = o->n;
    for (int i = 0; i < o->n; i++) {
        struct answer *a = &all->answers[i];
        a->all = all;
        a->over = true; /* until it has started */
        buffer_init(&a->echo, CHAT_MAX_TEXT);
        inbox_init(&a->in);
        inbox_init(&a->out);
    }
    int code = 0;
    for (int i = 0; i < o->n && code == 0; i++) {
        all->answers[i].over = false;
        code = start_one(&all->answers[i], o, &o->starts[i], e);
        all->answers[i].over = code != 0;
    }
    if (code != 0) {
        chat_answers_cancel(all);
    }
    return code;
}

static struct bytes part(const struct buffer *b, size_t from, size_t to)
{
    return to > from ? bytes_of(b->data + from, to - from) : (struct bytes){ 0 };
}

static bool is_whole(const struct generate_end *end)
{
    return end->finish == FINISH_STOP || end->finish == FINISH_LENGTH;
}

static void tell_parts(struct answer *a, struct chat_event *event,
                       void (*each)(void *arg, const struct chat_event *), void *arg)
{
    const struct inbox *out = &a->out;
    size_t text = 0, log = 0;
    for (size_t i = 0; i < out->marks.size / sizeof(struct mark); i++) {
        struct mark m;
        memcpy(&m, out->marks.data + i * sizeof m, sizeof m);
        event->kind = m.kind;
        event->call = m.call;
        event->text = part(&out->text, text, m.text);
        event->log = part(&out->log, log, m.log);
        text = m.text;
        log = m.log;
        each(arg, event);
    }
    event->text = event->log = (struct bytes){ 0 };
}

static void tell_ids(struct answer *a, struct chat_event *event,
                     void (*each)(void *arg, const struct chat_event *), void *arg)
{
    event->n_ids = (int)(a->out.ids.size / sizeof *event->ids);
    if (event->n_ids > 0) {
        event->kind = CHAT_SAMPLED;
        event->ids = (const int32_t *)(const void *)a->out.ids.data;
        each(arg, event);
    }
    event->ids = NULL;
    event->n_ids = 0;
}

/* Tells the end, once: the engine's, or that an answer is more than anybody can take. */
static void tell_end(struct answer *a, struct chat_event *event, struct generate_end *end,
                     bool failed, void (*each)(void *arg, const struct chat_event *), void *arg)
{
    if (failed) {
        end->finish = FINISH_ERROR;
        fail(&end->error, FAIL_LIMIT, "it is too large");
    }
    a->told = true;
    event->kind = is_whole(end) ? CHAT_FINISH : CHAT_ERROR;
    event->end = end;
    each(arg, event);
}

static void drain_one(struct answer *a, int index,
                      void (*each)(void *arg, const struct chat_event *), void *arg)
{
    struct chat_event event = { .answer = index };
    mutex_lock(&a->all->lock);
    struct inbox in = a->in;
    a->in = a->out;
    a->out = in;
    bool ends = a->ended;
    struct generate_end end = a->end;
    mutex_unlock(&a->all->lock);
    a->over = ends;
    a->all->running -= ends;
    bool failed =
        a->out.marks.failed || a->out.text.failed || a->out.log.failed || a->out.ids.failed;
    if (!a->told) {
        tell_ids(a, &event, each, arg);
    }
    /* What fails before its first token never began: its client gets a proper status. */
    if (!a->begun && (a->out.marks.size > 0 || (ends && is_whole(&end)))) {
        a->begun = true;
        event.kind = CHAT_START;
        event.text = buffer_bytes(&a->echo);
        each(arg, &event);
    }
    if (!failed && !a->told) {
        tell_parts(a, &event, each, arg);
    }
    inbox_clear(&a->out);
    if ((ends || failed) && !a->told) {
        tell_end(a, &event, &end, failed, each, arg);
    }
}

void chat_answers_drain(struct chat_answers *a, void (*each)(void *arg, const struct chat_event *),
                        void *arg)
{
    for (int i = 0; i < a->n; i++) {
        if (!a->answers[i].over) {
            drain_one(&a->answers[i], i, each, arg);
        }
    }
}

int chat_answers_running(const struct chat_answers *a)
{
    return a->running;
}

void chat_answers_progress(struct chat_answers *a, int *done, int *total)
{
    mutex_lock(&a->lock);
    *done = a->answers[0].done;
    *total = a->answers[0].total;
    mutex_unlock(&a->lock);
}

/* Under the lock, since an engine lives at least as long as a request of it whose end hasn't been
 * told. */
void chat_answers_cancel(struct chat_answers *a)
{
    mutex_lock(&a->lock);
    for (int i = 0; i < a->n; i++) {
        if (a->answers[i].generate != NULL && !a->answers[i].ended) {
            generate_cancel(a->answers[i].generate);
        }
    }
    mutex_unlock(&a->lock);
}

void chat_answers_close(struct chat_answers *a)
{
    if (a == NULL) {
        return;
    }
    for (int i = 0; i < a->n; i++) {
        struct answer *one = &a->answers[i];
        generate_close(one->generate);
        chat_parser_close(one->parser);
        buffer_done(&one->echo);
        inbox_done(&one->in);
        inbox_done(&one->out);
    }
    mutex_done(&a->lock);
    free(a);
}

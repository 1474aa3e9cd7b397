/* See local_model.h: the same engine and API as a device, without its network. */
#include "node/local_model.h"

#include "api/api.h"
#include "backend/backend.h"
#include "chat/model.h"
#include "engine/engine.h"
#include "kernels/kernels.h"
#include "os/cpu.h"
#include "os/log.h"
#include "os/memory.h"
#include "plan/context.h"
#include "stage/inprocess.h"
#include "stage/source.h"

#include <event2/event.h>
#include <event2/thread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How often a request looks at its stop flag while nothing comes. */
#define LOOK_MS 50
/* Bytes of a number in the KV cache. */
#define KV_ELEMENT 2
/* The one that answers, and what is remembered of the one before. */
#define SESSIONS 2

struct local_model {
    struct source *source;
    struct chat_model *text;
    struct engine *engine;
    struct event_base *base;
    struct api *api;
    const char *id;
    int context;
};

static int model_count(void *arg)
{
    (void)arg;
    return 1;
}

static void model_at(void *arg, int index, struct api_model *ret)
{
    struct local_model *m = arg;
    (void)index;
    *ret = (struct api_model){
        .id = m->id, .engine = m->engine, .text = m->text, .context = m->context, .ready = true
    };
}

/* As long as fits into this machine's memory. */
static int fit_context(const struct source *s, int *ret, struct error *e)
{
    const struct program *p = source_program(s);
    size_t n = (size_t)p->n_layers;
    uint64_t *bytes = calloc(n, 3 * sizeof *bytes), usable = memory_usable();
    struct split_need weights;
    if (!bytes)
        return fail(e, FAIL_NOMEM, "memory for a plan");
    const struct source_state state = { KV_ELEMENT, SESSIONS };
    int r = source_need(s, &state, bytes, bytes + n, &weights, e);
    usable = usable > PLAN_RESERVE ? usable - PLAN_RESERVE : 0;
    if (!r) {
        const struct context_need need = { .weights = &weights,
                                           .token_bytes = bytes + n,
                                           .layer_bytes = bytes + 2 * n,
                                           .most = p->context < CONTEXT_MOST ? p->context
                                                                             : CONTEXT_MOST };
        r = context_by_memory(&need, &usable, 1, ret, e);
    }
    free(bytes);
    return r;
}

static int open_engine(struct local_model *m, const struct local_model_options *o, struct error *e)
{
    struct executor *x = NULL;
    struct placement_plan plan;
    const struct program *p = source_program(m->source);
    const struct kernels *kernels = kernels_choose(o->isa, e);
    if (!kernels)
        return FAIL_ARG;
    m->context = o->context < p->context ? (int)o->context : p->context;
    if (o->context == 0 && fit_context(m->source, &m->context, e))
        return FAIL_LIMIT;
    plan_single(p->n_layers, 0, &plan);
    const struct inprocess_options in = { .backend = &backend_cpu,
                                          .program = p,
                                          .source = source_weights(m->source),
                                          .plan = &plan,
                                          .kernels = kernels,
                                          .threads = (int)(o->threads ? o->threads : cpu_cores()),
                                          .max_rows = 512,
                                          .max_sessions = SESSIONS,
                                          .max_context = m->context,
                                          .state_tokens = (uint64_t)m->context,
                                          .on_progress = o->on_progress,
                                          .arg = o->arg };
    int r = inprocess_open(&x, &in, e);
    if (!r)
        r = source_loaded(m->source, e);
    if (!r)
        r = chat_model_open(&m->text, source_gguf(m->source), p->vocab, e);
    if (!r && !chat_model_vocab(m->text))
        r = fail(e, FAIL_UNSUPPORTED, "%s has no vocabulary", o->path);
    if (!r) {
        const struct engine_options options = { .executor = x,
                                                .vocab = p->vocab,
                                                .is_eog = chat_model_eog(m->text),
                                                .max_requests = 1,
                                                .max_queue = 1 };
        return engine_open(&m->engine, &options, e); /* closes x if it fails */
    }
    if (x)
        x->ops->close(x);
    return r;
}

int local_model_open(struct local_model **ret, const struct local_model_options *o, struct error *e)
{
    struct local_model *m = calloc(1, sizeof(*m));
    if (!m)
        return fail(e, FAIL_NOMEM, "a model");
    m->id = o->path;
    event_set_log_callback(log_libevent);
    int r = source_open(&m->source, o->path, e);
    if (!r && *source_notes(m->source))
        log_warn("node", "%s: %s", m->id, source_notes(m->source));
    if (!r)
        r = open_engine(m, o, e);
    if (!r && (evthread_use_pthreads() || !(m->base = event_base_new())))
        r = fail(e, FAIL_NOMEM, "an event loop");
    if (!r)
        r = api_open(
            &m->api,
            &(struct api_options){ .base = m->base,
                                   .provider = { .count = model_count, .at = model_at, .arg = m } },
            e);
    if (r) {
        local_model_close(m);
        return r;
    }
    *ret = m;
    return r;
}

int local_model_context(const struct local_model *m)
{
    return m->context;
}

void local_model_close(struct local_model *m)
{
    if (!m)
        return;
    engine_close(m->engine);
    api_close(m->api);
    chat_model_release(m->text);
    source_close(m->source);
    if (m->base)
        event_base_free(m->base);
    free(m);
}

/* The answer's way back; lives on the stack of one request. */
struct reply {
    struct responder responder;
    int (*on_data)(void *arg, struct bytes data);
    void *arg;
    long status;
    bool ended;
};

static void reply_begin(struct responder *r, int status, const char *content_type, bool stream,
                        const char *headers)
{
    (void)content_type;
    (void)stream;
    (void)headers;
    ((struct reply *)r)->status = status;
}

static int reply_write(struct responder *r, struct bytes data)
{
    struct reply *reply = (struct reply *)r;
    return reply->on_data(reply->arg, data) ? FAIL_CLOSED : 0;
}

static void reply_end(struct responder *r)
{
    ((struct reply *)r)->ended = true;
}

static const struct responder_ops reply_ops = { reply_begin, reply_write, reply_end };

static void on_look(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    (void)arg; /* it only turns the loop */
}

int local_model_post(struct local_model *m, const struct local_model_request *r, long *status,
                     struct error *e)
{
    struct reply reply = { .responder = { .ops = &reply_ops },
                           .on_data = r->on_data,
                           .arg = r->arg };
    struct event *look = event_new(m->base, -1, EV_PERSIST, on_look, NULL);
    const struct timeval period = { .tv_usec = LOOK_MS * 1000 };
    if (!look || event_add(look, &period)) {
        if (look)
            event_free(look);
        return fail(e, FAIL_NOMEM, "a timer");
    }
    bool told = false;
    api_handle(
        m->api,
        &(struct api_request){ .method = "POST", .path = r->path, .body = bytes_text(r->body) },
        &reply.responder);
    while (!reply.ended) {
        if (atomic_load(r->stop) && !told && reply.responder.closed) {
            told = true;
            reply.responder.closed(reply.responder.closed_arg);
        }
        if (!reply.ended)
            event_base_loop(m->base, EVLOOP_ONCE);
    }
    event_free(look);
    *status = reply.status;
    return atomic_load(r->stop) ? fail(e, FAIL_CANCELLED, "stopped") : 0;
}

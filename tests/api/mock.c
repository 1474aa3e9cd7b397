/* A model made of scripts, behind the real engine, and a client on the server's event loop. */
#include "tests/api/mock.h"

#include "tests/test.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

#include "chat/model.h"
#include "chat/template.h"
#include "engine/executor.h"
#include "os/clock.h"
#include "os/process.h"
#include "os/thread.h"
#include "base/utf8.h"
#include "token/vocab.h"

#define MAX_SESSIONS 256
#define WAIT_NS (10 * CLOCK_NS_PER_S)

struct mock {
    struct executor x; /* first */
    struct mutex lock;
    struct condition changed;
    bool open, closed;
    int32_t *history[MAX_SESSIONS]; /* (MOCK_CONTEXT) */
    float *logits;                  /* (x.max_rows, MOCK_VOCAB) of the step under way */
    uint64_t id;
    int n_wanted;
    bool under_way, broken;
};

/* Where the script's '>' stands; 0 when there is none. */
static int script_at(const int32_t *ids, int n)
{
    int i = n - 1;
    while (i > 0 && ids[i] != '>') {
        i--;
    }
    return i > 0 ? i : 0;
}

static int script_of(const int32_t *ids, int n)
{
    int i = script_at(ids, n);
    return i > 0 ? ids[i - 1] : 0;
}

static int script_next(const int32_t *ids, int n)
{
    static const char *const texts[] = { ['h'] = "Hello, world!",
                                         ['e'] = "a\xf0\x9f\x98\x80"
                                                 "b" };
    int script = script_of(ids, n), at = n - script_at(ids, n) - 1;
    if (script == 'l') {
        return 'a' + at % 10;
    }
    const char *text = script == 'h' || script == 'e' ? texts[script] : script != 0 ? "?" : "";
    return at < (int)strlen(text) ? (unsigned char)text[at] : MOCK_END;
}

static void take_command(struct mock *m, const struct step_command *c)
{
    assert_true(c->session < MAX_SESSIONS && c->other < MAX_SESSIONS);
    if (c->op == STEP_CREATE || c->op == STEP_FORK) {
        if (m->history[c->session] == NULL) {
            m->history[c->session] = calloc(MOCK_CONTEXT, sizeof(int32_t));
        }
    }
    if (c->op == STEP_FORK) {
        memcpy(m->history[c->session], m->history[c->other], MOCK_CONTEXT * sizeof(int32_t));
    }
}

static int mock_submit(struct executor *x, const struct step *s, uint64_t deadline_ns,
                       struct error *e)
{
    struct mock *m = (struct mock *)x;
    for (int i = 0; i < s->n_commands; i++) {
        take_command(m, &s->commands[i]);
    }
    m->n_wanted = 0;
    for (int i = 0, row = 0; i < s->n_runs; i++) {
        int32_t *history = m->history[s->runs[i].session];
        for (int k = 0; k < s->runs[i].count; k++, row++) {
            int position = s->runs[i].first + k;
            history[position] = s->ids[row];
            m->broken |= position > 0 && history[position] == '>' && history[position - 1] == 'b';
            if (!s->wanted[row]) {
                continue;
            }
            float *logits = m->logits + (size_t)m->n_wanted++ * MOCK_VOCAB;
            int script = script_of(history, position + 1);
            for (int t = 0; t < MOCK_VOCAB; t++) {
                logits[t] = script == 'n' ? NAN : (float)(t % 3) * 0.125f;
            }
            if (script == 'r') {
                logits['>'] = -INFINITY; /* it would begin another script */
            }
            if (script != 'n' && script != 'r') {
                logits[script_next(history, position + 1)] = 30.0f;
            }
        }
    }
    m->id = s->id;
    m->under_way = true;
    return 0;
}

static int mock_collect(struct executor *x, struct step_result *ret, uint64_t deadline_ns,
                        struct error *e)
{
    struct mock *m = (struct mock *)x;
    mutex_lock(&m->lock);
    uint64_t now = clock_now_ns();
    while (!m->open && !m->closed && now < deadline_ns) {
        condition_wait(&m->changed, &m->lock, deadline_ns - now);
        now = clock_now_ns();
    }
    bool open = m->open, closed = m->closed;
    mutex_unlock(&m->lock);
    if (closed) {
        return fail(e, FAIL_CLOSED, "closed");
    }
    if (!open) {
        return fail(e, FAIL_TIMEOUT, "the gate is closed");
    }
    if (m->broken) {
        return fail(e, FAIL_CLOSED, "device mock is lost");
    }
    m->under_way = false;
    *ret = (struct step_result){ .id = m->id, .logits = m->logits, .n_wanted = m->n_wanted };
    return 0;
}

static void mock_shutdown(struct executor *x)
{
    struct mock *m = (struct mock *)x;
    mutex_lock(&m->lock);
    m->closed = true;
    condition_signal(&m->changed);
    mutex_unlock(&m->lock);
}

static void mock_close(struct executor *x)
{
    struct mock *m = (struct mock *)x;
    for (int i = 0; i < MAX_SESSIONS; i++) {
        free(m->history[i]);
    }
    free(m->logits);
    condition_done(&m->changed);
    mutex_done(&m->lock);
    free(m);
}

static const struct executor_ops mock_ops = { mock_submit, mock_collect, mock_shutdown,
                                              mock_close };

struct executor *mock_executor(struct mock **ret)
{
    struct mock *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->x = (struct executor){ .ops = &mock_ops,
                              .vocab = MOCK_VOCAB,
                              .depth = 1,
                              .max_rows = 64,
                              .max_context = MOCK_CONTEXT };
    m->logits = calloc(64 * MOCK_VOCAB, sizeof(float));
    m->open = true;
    mutex_init(&m->lock);
    condition_init(&m->changed);
    *ret = m;
    return &m->x;
}

void mock_gate(struct mock *m, bool open)
{
    mutex_lock(&m->lock);
    m->open = open;
    condition_signal(&m->changed);
    mutex_unlock(&m->lock);
}

/* --- vocabulary: the bytes, spelt as byte-level BPE does --- */

struct spelling {
    uint8_t text[MOCK_END][UTF8_MAX];
    size_t size[MOCK_END];
};

static struct bytes spell(void *arg, int32_t id)
{
    const struct spelling *s = arg;
    return id < MOCK_END ? bytes_of(s->text[id], s->size[id])
                         : bytes_text(id == MOCK_END ? "<|end|>" : "<extra>");
}

static struct bytes no_merge(void *arg, int32_t i)
{
    return bytes_text("");
}

static int32_t type_of(void *arg, int32_t id)
{
    return id < MOCK_END    ? VOCAB_TOKEN_NORMAL
           : id == MOCK_END ? VOCAB_TOKEN_CONTROL
                            : VOCAB_TOKEN_USER_DEFINED;
}

struct vocab *mock_vocab(bool adds_eos)
{
    struct spelling s;
    uint32_t next = 256;
    for (uint32_t i = 0; i < MOCK_END; i++) {
        bool shown = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174;
        s.size[i] = (size_t)utf8_write(shown ? i : next++, s.text[i]);
    }
    struct vocab_source source = { .model = bytes_text("gpt2"),
                                   .pre = bytes_text("gpt-2"),
                                   .n_tokens = MOCK_VOCAB + 1,
                                   .add_eos = adds_eos ? VOCAB_YES : VOCAB_NO,
                                   .token_text = spell,
                                   .merge_text = no_merge,
                                   .type = type_of,
                                   .arg = &s,
                                   .add_bos = VOCAB_NO };
    source.role_given[VOCAB_BOS] = source.role_given[VOCAB_EOS] = true;
    source.role[VOCAB_BOS] = source.role[VOCAB_EOS] = MOCK_END;
    struct vocab *v = NULL;
    struct error e = { 0 };
    if (vocab_open(&v, &source, &e) != 0) {
        fprintf(stderr, "%s\n", e.text);
    }
    assert_non_null(v);
    return v;
}

/* --- the rig --- */

static const char template[] =
    "{% for m in messages %}{% if m.content == 'refuse me' %}{{ raise_exception('no such words') }}"
    "{% endif %}{% if m.content == 'stretch' %}{% set x = 'a' * 2000000 %}{% for i in range(12) %}"
    "{% if not x.isalpha() %}!{% endif %}{% endfor %}{% endif %}"
    "{{ m.role }}:{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}";

static int provide_count(void *arg)
{
    return 3;
}

static void provide_at(void *arg, int index, struct api_model *ret)
{
    struct rig *r = arg;
    *ret = (struct api_model){ .id = "Mock-1",
                               .engine = r->engine,
                               .text = r->text,
                               .context = MOCK_CONTEXT,
                               .ready = r->engine != NULL,
                               .created_s = 1234 };
    if (index == 1) {
        *ret = (struct api_model){ .id = "far", .elsewhere = true, .ready = true };
    } else if (index == 2) {
        *ret = (struct api_model){ .id = "late", .context = 99, .why = "it is being loaded" };
    }
}

static int provide_forward(void *arg, const struct api_request *request,
                           struct responder *responder, struct error *e)
{
    struct rig *r = arg;
    r->forwarded++;
    responder->ops->begin(responder, 200, "text/plain", false, NULL);
    responder->ops->write(responder, request->body);
    responder->ops->end(responder);
    return 0;
}

void rig_speak(struct rig *r, struct vocab *vocab)
{
    struct chat_template *parsed = NULL;
    struct error e = { 0 };
    chat_model_release(r->text);
    assert_int_equal(chat_template_parse(&parsed, bytes_text(template), NULL, &e), 0);
    assert_int_equal(chat_model_of(&r->text, vocab, parsed, &e), 0);
}

void rig_open(struct rig *r, struct server_options options, int keepalive_ms)
{
    struct error e = { 0 };
    uint8_t is_eog[MOCK_VOCAB] = { 0 };
    is_eog[MOCK_END] = 1;
    *r = (struct rig){ 0 };
    process_ignore_broken_pipes();
    r->base = event_base_new();
    rig_speak(r, mock_vocab(false));
    const struct engine_options engine = { .executor = mock_executor(&r->mock),
                                           .vocab = MOCK_VOCAB,
                                           .is_eog = is_eog,
                                           .max_requests = 4,
                                           .max_queue = 4,
                                           .step_timeout_ns = 60 * CLOCK_NS_PER_S };
    assert_int_equal(engine_open(&r->engine, &engine, &e), 0);
    const struct api_options api = { .base = r->base,
                                     .keepalive_ms = keepalive_ms,
                                     .provider = { .count = provide_count,
                                                   .at = provide_at,
                                                   .forward = provide_forward,
                                                   .arg = r } };
    assert_int_equal(api_open(&r->api, &api, &e), 0);
    options.base = r->base;
    options.api = r->api;
    assert_int_equal(server_open(&r->server, &options, &e), 0);
}

void rig_close(struct rig *r)
{
    server_close(r->server);
    engine_close(r->engine);
    api_close(r->api);
    chat_model_release(r->text);
    event_base_free(r->base);
}

/* --- the client --- */

void client_open(struct client *c, struct rig *r)
{
    evutil_socket_t pair[2];
    assert_int_equal(evutil_socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    evutil_make_socket_nonblocking(pair[0]);
    evutil_make_socket_nonblocking(pair[1]);
    *c = (struct client){ .rig = r, .fd = pair[0] };
    buffer_init(&c->in, 64u << 20);
    assert_int_equal(server_adopt(r->server, pair[1]), 0);
}

void client_close(struct client *c)
{
    if (c->fd >= 0) {
        evutil_closesocket(c->fd);
    }
    c->fd = -1;
    buffer_done(&c->in);
}

static void turn(struct rig *r)
{
    struct timeval t = { .tv_usec = 2000 };
    event_base_loopexit(r->base, &t);
    event_base_loop(r->base, EVLOOP_ONCE);
}

static void receive(struct client *c)
{
    char data[65536];
    for (;;) {
        ssize_t n = recv(c->fd, data, sizeof data, 0);
        if (n <= 0) {
            c->closed |= n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
            return;
        }
        assert_int_equal(buffer_append(&c->in, bytes_of(data, (size_t)n)), 0);
    }
}

void client_send(struct client *c, const char *text)
{
    size_t left = strlen(text);
    uint64_t deadline = clock_deadline(WAIT_NS);
    while (left > 0 && !c->closed && clock_now_ns() < deadline) {
        ssize_t n = send(c->fd, text, left, 0);
        if (n > 0) {
            text += n;
            left -= (size_t)n;
        } else if (errno != EAGAIN && errno != EWOULDBLOCK) {
            return;
        }
        turn(c->rig);
    }
}

void client_post(struct client *c, const char *path, const char *body)
{
    char head[512];
    snprintf(head, sizeof head,
             "POST %s HTTP/1.1\r\nHost: localhost:8420\r\nContent-Type: application/json\r\n"
             "Content-Length: %zu\r\n\r\n",
             path, strlen(body));
    client_send(c, head);
    client_send(c, body);
}

bool client_wait(struct client *c, const char *text)
{
    uint64_t deadline = clock_deadline(WAIT_NS);
    while (clock_now_ns() < deadline) {
        receive(c);
        if (text != NULL && strstr(buffer_cstr(&c->in), text) != NULL) {
            return true;
        }
        if (c->closed) {
            return text == NULL;
        }
        turn(c->rig);
    }
    return false;
}

/* Takes the chunks apart; 0 when they aren't all there. */
static size_t unchunk(const char *in, struct buffer *body)
{
    const char *at = in;
    for (;;) {
        char *end = NULL;
        unsigned long n = strtoul(at, &end, 16);
        if (end == at || strncmp(end, "\r\n", 2) != 0 || strlen(end + 2) < n + 2) {
            return 0;
        }
        buffer_append(body, bytes_of(end + 2, n));
        at = end + 2 + n + 2;
        if (n == 0) {
            return (size_t)(at - in);
        }
    }
}

int client_answer(struct client *c, char **body)
{
    static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
    size_t skip = sizeof interim - 1;
    *body = NULL;
    assert_true(client_wait(c, "\r\n\r\n"));
    while (strncmp((char *)c->in.data, interim, skip) == 0) {
        memmove(c->in.data, c->in.data + skip, c->in.size - skip + 1);
        c->in.size -= skip;
        assert_true(client_wait(c, "\r\n\r\n"));
    }
    char *head_end = strstr((char *)c->in.data, "\r\n\r\n") + 4;
    size_t head = (size_t)(head_end - (char *)c->in.data), used = 0;
    int status = (int)strtol((char *)c->in.data + 9, NULL, 10);
    char *length = strstr((char *)c->in.data, "Content-Length: ");
    struct buffer content;
    buffer_init(&content, 64u << 20);
    if (length != NULL && length < head_end) {
        size_t n = strtoul(length + 16, NULL, 10);
        while (c->in.size < head + n && !c->closed) {
            turn(c->rig);
            receive(c);
        }
        buffer_append(&content, bytes_of(c->in.data + head, n));
        used = head + n;
    } else {
        assert_true(client_wait(c, "0\r\n\r\n"));
        used = head + unchunk((char *)c->in.data + head, &content);
        assert_true(used > head);
    }
    memmove(c->in.data, c->in.data + used, c->in.size - used + 1);
    c->in.size -= used;
    *body = strdup(buffer_cstr(&content));
    buffer_done(&content);
    return status;
}

bool rig_wait_active(struct rig *r, int n)
{
    uint64_t deadline = clock_deadline(WAIT_NS);
    struct engine_stats s = { 0 };
    do {
        turn(r);
        engine_stats(r->engine, &s);
    } while ((s.active + s.queued != n || (n == 0 && api_active(r->api) != 0)) &&
             clock_now_ns() < deadline);
    return s.active + s.queued == n;
}

/* A client of the server with a model behind the real engine: whatever it sends, it is answered or
 * closed, and nothing of it is left.
 *
 * Input: the first byte says in what pieces the bytes come (bits 0-1), whether the client stays for
 * its answers (bit 2), and whether the rest is raw bytes or bodies (bit 3). Bodies are apart by
 * BETWEEN; the first byte of each chooses the request line and how its length is told, so that the
 * handlers are reached with several requests on one connection. */
#include "fuzz/fuzz.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/server.h"
#include "base/attributes.h"
#include "chat/model.h"
#include "chat/template.h"
#include "engine/engine.h"
#include "os/clock.h"
#include "os/process.h"
#include "tests/api/mock.h"

#define BETWEEN 0x1e
#define CONTEXT 64
#define ROWS 16
#define TURN_US 1000
/* What a client that stays waits for, and what the end of all work may take after a close. */
#define STAY_NS (CLOCK_NS_PER_S / 5)
#define END_NS (10 * CLOCK_NS_PER_S)

/* --- a model that says its alphabet --- */

struct speaker {
    struct executor x; /* first */
    float logits[ROWS][MOCK_VOCAB];
    uint64_t id;
    int n_wanted;
};

static int speaker_submit(struct executor *x, const struct step *s, uint64_t deadline_ns,
                          struct error *e)
{
    struct speaker *m = (struct speaker *)x;
    m->id = s->id;
    m->n_wanted = 0;
    for (int row = 0; row < s->n_rows; row++) {
        if (s->wanted[row]) {
            float *logits = m->logits[m->n_wanted++];
            memset(logits, 0, sizeof m->logits[0]);
            /* After a 'z' comes the end. */
            logits[s->ids[row] == 'z' ? MOCK_END : 'a' + (s->ids[row] + 1) % 26] = 20.0f;
        }
    }
    return 0;
}

static int speaker_collect(struct executor *x, struct step_result *ret, uint64_t deadline_ns,
                           struct error *e)
{
    struct speaker *m = (struct speaker *)x;
    *ret = (struct step_result){ .id = m->id, .logits = m->logits[0], .n_wanted = m->n_wanted };
    return 0;
}

static void speaker_end(struct executor *x)
{
}

static const struct executor_ops speaker_ops = { speaker_submit, speaker_collect, speaker_end,
                                                 speaker_end };
static struct speaker speaker = { .x = { .ops = &speaker_ops,
                                         .vocab = MOCK_VOCAB,
                                         .depth = 1,
                                         .max_rows = ROWS,
                                         .max_context = CONTEXT,
                                         .can_truncate = true } };

/* --- the device --- */

static struct event_base *base;
static struct api *api;
static struct server *server;
static struct engine *engine;
static struct chat_model *text;

static int provide_count(void *arg)
{
    return 3;
}

static void provide_at(void *arg, int index, struct api_model *ret)
{
    const struct api_model models[] = {
        { .id = "m", .engine = engine, .text = text, .context = CONTEXT, .created_s = 1234 },
        { .id = "far", .elsewhere = true },
        { .id = "waiting", .why = "it waits" },
    };
    *ret = models[index];
}

/* Begins a stream that only ends when the client goes away. */
static void on_closed(void *arg)
{
    struct responder *r = arg;
    r->ops->end(r);
}

static int provide_forward(void *arg, const struct api_request *request,
                           struct responder *responder, struct error *e)
{
    responder->closed = on_closed;
    responder->closed_arg = responder;
    responder->ops->begin(responder, 200, "text/plain", true, NULL);
    responder->ops->write(responder, request->body);
    return 0;
}

static void open_device(void)
{
    struct error e = { 0 };
    uint8_t is_eog[MOCK_VOCAB] = { [MOCK_END] = 1 };
    process_ignore_broken_pipes();
    base = event_base_new();
    struct chat_template *template = NULL;
    static const char source[] =
        "{% for m in messages %}{{ m.role }}:{{ m.content }}{% for c in m.tool_calls %}"
        "{{ c.function.name }}{% endfor %}{% endfor %}{{ tools|length if tools }}>";
    if (chat_template_parse(&template, bytes_text(source), NULL, &e) != 0 ||
        chat_model_of(&text, mock_vocab(false), template, &e) != 0) {
        abort();
    }
    const struct engine_options model = { .executor = &speaker.x,
                                          .vocab = MOCK_VOCAB,
                                          .is_eog = is_eog,
                                          .max_requests = 4,
                                          .max_queue = 4,
                                          .step_timeout_ns = 60 * CLOCK_NS_PER_S };
    const struct api_options o = {
        .base = base,
        .provider = { .count = provide_count, .at = provide_at, .forward = provide_forward }
    };
    static const char *const origins[] = { "app://*", "https://a.example" };
    static const char *const hosts[] = { "host.example" };
    const struct allow allow = { origins, 2, hosts, 1 };
    if (engine_open(&engine, &model, &e) != 0 || api_open(&api, &o, &e) != 0 ||
        server_open(&server, &(struct server_options){ .base = base, .api = api, .allow = allow },
                    &e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        abort();
    }
}

/* --- the client --- */

/* One turn of the loop; with wait it may last until something happens, or TURN_US. */
static void turn(evutil_socket_t fd, bool wait)
{
    char drop[65536];
    if (wait) {
        const struct timeval t = { .tv_usec = TURN_US };
        event_base_loopexit(base, &t);
    }
    event_base_loop(base, wait ? EVLOOP_ONCE : EVLOOP_NONBLOCK);
    while (fd >= 0 && recv(fd, drop, sizeof drop, 0) > 0) {
    }
}

static void feed(evutil_socket_t fd, struct bytes data, size_t piece)
{
    while (data.size > 0) {
        ssize_t sent = send(fd, data.data, data.size < piece ? data.size : piece, 0);
        if (sent <= 0) {
            break;
        }
        data = bytes_of(data.data + sent, data.size - (size_t)sent);
        turn(fd, false);
    }
}

static void put_request(struct buffer *out, struct bytes body)
{
    static const char *const lines[] = {
        "POST /v1/chat/completions", "POST /v1/completions", "GET /v1/models",
        "GET /v1/models/m",          "GET /api/status",      "GET /health",
        "OPTIONS /v1/completions",   "DELETE /v1/models/m"
    };
    uint8_t how = body.size > 0 ? body.data[0] : 0;
    body = body.size > 0 ? bytes_of(body.data + 1, body.size - 1) : body;
    char head[160];
    snprintf(head, sizeof head, "%s HTTP/1.1\r\nHost: localhost\r\n",
             lines[how % ARRAY_LEN(lines)]);
    buffer_text(out, head);
    if (how & 0x10) { /* in two chunks */
        size_t half = body.size / 2;
        buffer_text(out, "Transfer-Encoding: chunked\r\n\r\n");
        for (int i = 0; i < 2; i++) {
            struct bytes part =
                i == 0 ? bytes_of(body.data, half) : bytes_of(body.data + half, body.size - half);
            if (part.size > 0) {
                snprintf(head, sizeof head, "%zx\r\n", part.size);
                buffer_text(out, head);
                buffer_append(out, part);
                buffer_text(out, "\r\n");
            }
        }
        buffer_text(out, "0\r\n\r\n");
    } else {
        snprintf(head, sizeof head, "Content-Length: %zu\r\n\r\n", body.size);
        buffer_text(out, head);
        buffer_append(out, body);
    }
}

static void put_requests(struct buffer *out, struct bytes rest)
{
    for (;;) {
        const uint8_t *end = rest.size > 0 ? memchr(rest.data, BETWEEN, rest.size) : NULL;
        size_t n = end != NULL ? (size_t)(end - rest.data) : rest.size;
        put_request(out, bytes_of(rest.data, n));
        if (end == NULL) {
            return;
        }
        rest = bytes_of(end + 1, rest.size - n - 1);
    }
}

void fuzz_one(const uint8_t *data, size_t size)
{
    static const size_t pieces[] = { 1, 7, 1000, 1u << 20 };
    evutil_socket_t pair[2];
    struct buffer built;
    if (base == NULL) {
        open_device();
    }
    if (size == 0 || evutil_socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) {
        return;
    }
    evutil_make_socket_nonblocking(pair[0]);
    evutil_make_socket_nonblocking(pair[1]);
    if (server_adopt(server, pair[1]) != 0) {
        abort();
    }
    struct bytes sent = bytes_of(data + 1, size - 1);
    buffer_init(&built, 1u << 20);
    if (data[0] & 8) {
        put_requests(&built, sent);
        sent = buffer_bytes(&built);
    }
    feed(pair[0], sent, pieces[data[0] % 4]);
    uint64_t deadline = clock_deadline(data[0] & 4 ? STAY_NS : 0);
    while (api_active(api) > 0 && clock_now_ns() < deadline) {
        turn(pair[0], true);
    }
    evutil_closesocket(pair[0]);
    buffer_done(&built);
    deadline = clock_deadline(END_NS);
    while (server_connections(server) + api_active(api) > 0) {
        turn(-1, true);
        if (clock_now_ns() > deadline) {
            fprintf(stderr, "%d connections, %d requests are left\n", server_connections(server),
                    api_active(api));
            abort();
        }
    }
}

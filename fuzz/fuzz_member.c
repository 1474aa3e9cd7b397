/* Control messages of a proven member that means harm, to a head and to a member: orders, reports,
 * lists, tickets, requests and their bytes, in any order.
 *
 * Input: the first byte says whether this device is the head (bit 0); then messages apart by
 * BETWEEN, each a byte that chooses the sender and a frame without its length. In orders to load,
 * the texts "self" and "head" stand for the ids that would be right there, and the sha256 "here"
 * for the one model of this device. */
#include "fuzz/fuzz.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "backend/backend.h"
#include "cluster/internal.h"
#include "cluster/part.h"
#include "tools/synth/synth.h"
#include "kernels/kernels.h"
#include "os/clock.h"
#include "os/file.h"
#include "os/log.h"
#include "peer/internal.h"
#include "peer/link.h"
#include "peer/stream_internal.h"

#define BETWEEN 0x1e
#define MAX_MESSAGES 16
#define MOST_LOOKS 10000 /* a second */

/* Keys and the model; made once, gone at the end. */
static char home[] = "/tmp/shoal-fuzz-XXXXXX";
static struct event_base *base;

static bool remove_list(void *folder, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", (const char *)folder, name);
    unlink(path);
    return true;
}

static void remove_home(void)
{
    static const char *const names[] = { "m.gguf", "cluster.key", "device.key", "device.lock",
                                         "head" };
    char path[128];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", home, names[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/chunks", home);
    file_list(path, remove_list, path, NULL);
    rmdir(path);
    rmdir(home);
}

static void make_home(void)
{
    struct synth_spec spec;
    struct error e = { 0 };
    struct gguf_writer *w = NULL;
    char path[128];
    log_set_level(LOG_ERROR);
    base = event_base_new();
    if (mkdtemp(home) == NULL || synth_preset(&spec, "tiny", "llama", &e) != 0) {
        abort();
    }
    atexit(remove_home);
    snprintf(path, sizeof path, "%s/m.gguf", home);
    spec.vocab = SYNTH_MIN_VOCAB;
    if (gguf_writer_open(&w, path, &e) != 0 || synth_write(w, &spec, &e) != 0) {
        abort();
    }
    gguf_writer_close(w);
}

static void answer_request(void *arg, const struct cluster_request *request,
                           struct cluster_reply *reply)
{
    cluster_reply_begin(reply, 200, "text/plain");
    cluster_reply_write(reply, request->body);
    cluster_reply_end(reply);
}

static struct cluster *open_device(bool head)
{
    struct error e = { 0 };
    struct cluster *c = NULL;
    const struct cluster_options o = { .base = base,
                                       .home = home,
                                       .models_dir = home,
                                       .name = "fuzz",
                                       .join = head ? NULL : "127.0.0.1:1",
                                       .threads = 1,
                                       .backend = &backend_cpu,
                                       .kernels = kernels_choose(NULL, &e),
                                       .isa = "any",
                                       .context = 64,
                                       .on_request = answer_request };
    if (cluster_open(&c, &o, &e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        abort();
    }
    return c;
}

/* Puts what only this run knows in place of a name for it. */
static void replace(json_t *object, const char *key, const char *name, const char *value)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (text != NULL && strcmp(text, name) == 0) {
        json_object_set_new(object, key, json_string(value));
    }
}

static void complete_order(const struct cluster *c, const struct device *from, json_t *m)
{
    json_t *rank = NULL, *model = json_object_get(m, "model");
    size_t i = 0;
    replace(m, "head", "head", from->id);
    if (json_is_object(model) && c->models.n > 0) {
        const char *sha = json_string_value(json_object_get(model, "sha256"));
        if (sha != NULL && strcmp(sha, "here") == 0) {
            json_object_set_new(model, "size", json_integer((json_int_t)c->models.files[0].size));
        }
        replace(model, "sha256", "here", c->models.files[0].sha256);
    }
    json_array_foreach(json_object_get(m, "ranks"), i, rank)
    {
        replace(rank, "device", "self", c->self->id);
    }
}

/* What comes over the link for requests. */
static bool travels(const struct message *m)
{
    static const char *const types[] = { "",      "request",   "request_end", "cancel",
                                         "reply", "reply_end", "log" };
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        if (strcmp(m->type, types[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool take(struct cluster *c, struct peer *from, struct bytes frame)
{
    struct message m;
    struct error e = { 0 };
    if (message_parse(frame, &m, &e) != 0) {
        return false;
    }
    if (strcmp(m.type, "load") == 0) {
        complete_order(c, peer_user(from), m.body);
    }
    bool good = true;
    if (strcmp(m.type, "hello") == 0) { /* as a link that is open does */
        good = device_events.take_facts(c, from, json_object_get(m.body, "facts"), &e) == 0;
    } else if (strcmp(m.type, "connect") != 0) { /* that dials whatever address an order named */
        struct link *l = travels(&m) ? link_for_requests(from) : NULL;
        enum peer_verdict verdict =
            l != NULL ? streams_message(l, &m, &e) : peers_dispatch(c->peers, from, &m, &e);
        good = verdict != PEER_VIOLATION;
        if (verdict != PEER_DONE && e.text[0] == '\0') {
            abort();
        }
    }
    if (!good && e.text[0] == '\0') {
        abort();
    }
    message_done(&m);
    return good; /* else the link would end */
}

/* A member that said hello, with both its links, on which nothing comes or leaves; the head where
 * it is believed to be it. */
static struct peer *add_member(struct cluster *c, const char *id, bool head)
{
    struct error e = { 0 };
    struct peer *p = peers_add(c->peers, id, "127.0.0.1:1");
    struct device *d = device_of(c, p);
    if (d == NULL || link_dial(c->peers, "127.0.0.1:1", id, &e) != 0) {
        abort();
    }
    link_open(c->peers->links, p);
    if (link_dial_requests(p, &e) != 0) {
        abort();
    }
    link_open(c->peers->links, p);
    d->head = head;
    return p;
}

/* A request of this device's own, whose reply must come in order and end once. */
struct asked {
    struct cluster_forward *forward;
    bool begun, over;
};

static void asked_begin(void *arg, int status, const char *type)
{
    struct asked *a = arg;
    if (a->begun || a->over || status < 100 || strlen(type) >= STREAM_MAX_TYPE) {
        abort();
    }
    a->begun = true;
}

static void asked_write(void *arg, struct bytes data)
{
    const struct asked *a = arg;
    if (!a->begun || a->over || data.size > MESSAGE_DATA_MAX) {
        abort();
    }
}

static void asked_over(struct asked *a)
{
    if (a->over) {
        abort();
    }
    a->over = true;
}

static void asked_end(void *arg)
{
    asked_over(arg);
}

static void asked_failed(void *arg, const struct error *error)
{
    if (error->text[0] == '\0') {
        abort();
    }
    asked_over(arg);
}

static void ask(struct cluster *c, struct asked *a)
{
    const struct cluster_sink sink = { asked_begin, asked_write, asked_end, asked_failed, a };
    const struct cluster_request q = { "POST", "/v1/completions", bytes_text("{}") };
    struct error e = { 0 };
    if (cluster_forward(c, &q, &sink, &a->forward, &e) != 0) {
        abort();
    }
}

/* Until each part's thread has opened its file or given up, so that the next message finds what it
 * would find a moment later. */
static void settle(struct cluster *c)
{
    bool waits = true;
    for (int i = 0; i < MOST_LOOKS && waits; i++) {
        json_t *parts = NULL, *part = NULL;
        size_t k = 0;
        parts_poll(c);
        parts = parts_report(c);
        waits = false;
        json_array_foreach(parts, k, part)
        {
            waits = waits || json_integer_value(json_object_get(part, "total")) == 0;
        }
        json_decref(parts);
        if (waits) {
            clock_sleep(CLOCK_NS_PER_MS / 10);
        }
    }
}

void fuzz_one(const uint8_t *data, size_t size)
{
    if (base == NULL) {
        make_home();
        cluster_close(open_device(true)); /* makes the keys, which a member must have */
    }
    if (size == 0) {
        return;
    }
    struct cluster *c = open_device(data[0] & 1);
    struct peer *senders[2] = { add_member(c, "aa", !(data[0] & 1)), add_member(c, "bb", false) };
    struct asked asked = { .over = (data[0] & 1) != 0 };
    if (!asked.over) {
        ask(c, &asked);
    }
    struct bytes rest = bytes_of(data + 1, size - 1);
    bool more = true;
    for (int i = 0; i < MAX_MESSAGES && more && rest.size > 1; i++) {
        const uint8_t *end = memchr(rest.data, BETWEEN, rest.size);
        size_t n = end != NULL ? (size_t)(end - rest.data) : rest.size;
        more = n > 1 && take(c, senders[rest.data[0] & 1], bytes_of(rest.data + 1, n - 1));
        rest = end != NULL ? bytes_of(end + 1, rest.size - n - 1) : bytes_of(rest.data, 0);
        peers_dispatch_local(c->peers);
        settle(c);
    }
    json_decref(cluster_status(c));
    json_decref(device_events.facts(c));
    cluster_close(c);
    if (!asked.over) {
        abort();
    }
}

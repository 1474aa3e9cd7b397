/* Control links over the event loop. */
#include "cluster/link.h"

#include <stdlib.h>

#include "cluster/data.h"
#include "cluster/part.h"
#include "cluster/security.h"
#include "os/clock.h"
#include "os/log.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/util.h>
#include <stdio.h>
#include <string.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

/* Bytes that may wait for a peer which doesn't read: more means that it never will. */
#define LINK_MAX_WAITING (64u << 20)
/* Links that have not proved anything yet: strangers can't take all descriptors. */
#define LINK_MAX_UNPROVEN 64
/* A refused peer gets our record, so that both ends can name both versions, and this long. */
#define LINGER_NS SECOND_NS
/* A refusal that repeats is shown this often. */
#define REFUSAL_NS (30 * SECOND_NS)
enum link_state { LINK_TLS, LINK_PROOF, LINK_HELLO, LINK_OPEN, LINK_LINGER, LINK_DEAD };

struct link {
    struct cluster *owner;
    struct bufferevent *bev;
    enum link_state state;
    bool client;
    struct link_proof proof;
    char address[ADDRESS_TEXT]; /* as dialled or accepted */
    char expect[DEVICE_ID_TEXT];
    char peer[DEVICE_ID_TEXT];
    struct device *device; /* once open */
    uint64_t opened_ns, heard_ns, ping_at;
    uint64_t rtt_ns;
    struct link *next;
};

/* --- ending --- */

/* Frees the connection now and the struct at the next tick: callers up the stack may still hold
 * it. */
static void link_end(struct link *l, const char *why)
{
    if (l->state == LINK_DEAD) {
        return;
    }
    struct cluster *c = l->owner;
    struct device *d = l->device;
    bool open = l->state == LINK_OPEN;
    l->state = LINK_DEAD;
    bufferevent_free(l->bev);
    l->bev = NULL;
    l->device = NULL;
    if (open && d != NULL && d->link == l) {
        d->link = NULL;
        device_lost(c, d, why);
    } else if (!open && l->expect[0] != '\0' && (d = device_find(c, l->expect)) != NULL) {
        data_device_lost(c, d, why);
    }
}

/* One line in the log; the same again only after a while (a device that joins tries each second).
 */
static void show_refusal(struct link *l, const char *why)
{
    struct cluster *c = l->owner;
    char text[ERROR_TEXT], host[ADDRESS_TEXT] = "";
    int port = 0;
    address_parse(l->address, 1, host, &port, NULL);
    snprintf(text, sizeof text, "%s: %s", l->client ? l->address : host, why);
    uint64_t now = c->time.now_ns;
    if (c->closing || (strcmp(text, c->refusal) == 0 && now - c->refusal_ns < REFUSAL_NS)) {
        return;
    }
    snprintf(c->refusal, sizeof c->refusal, "%s", text);
    c->refusal_ns = now;
    log_warn("cluster", "link %s %s refused: %s", l->client ? "to" : "from", l->address, why);
}

/* A peer that isn't one of us, or can't be: one line in the log. */
static void link_refuse(struct link *l, const char *why)
{
    if (l->client && l->state == LINK_PROOF) {
        security_try_other(l->owner);
    }
    show_refusal(l, why);
    link_end(l, why);
}

static void reap(struct cluster *c)
{
    struct link **at = &c->links;
    while (*at != NULL) {
        struct link *l = *at;
        if (l->state == LINK_DEAD) {
            *at = l->next;
            free(l);
        } else {
            at = &l->next;
        }
    }
}

/* --- sending --- */

static void send_frame(struct link *l, struct buffer *frame, int code, const struct error *e)
{
    if (code != 0) {
        log_error("cluster", "message to %s: %s", l->address, e->text);
    } else if (bufferevent_write(l->bev, frame->data, frame->size) != 0 ||
               link_waiting(l) > LINK_MAX_WAITING) {
        link_end(l, "it does not take what it is sent");
    }
    buffer_done(frame);
}

void link_send(struct link *l, json_t *body)
{
    if (l == NULL || l->state == LINK_DEAD) {
        json_decref(body);
        return;
    }
    struct buffer frame;
    struct error e = { 0 };
    buffer_init(&frame, MESSAGE_MAX + 64);
    int code = message_encode(body, &frame, &e);
    send_frame(l, &frame, code, &e);
}

void link_send_data(struct link *l, uint32_t stream, struct bytes data)
{
    if (l == NULL || l->state == LINK_DEAD) {
        return;
    }
    struct buffer frame;
    struct error e = { 0 };
    buffer_init(&frame, MESSAGE_MAX + 64);
    int code = message_encode_data(stream, data, &frame, &e);
    send_frame(l, &frame, code, &e);
}

size_t link_waiting(const struct link *l)
{
    return l != NULL && l->bev != NULL ? evbuffer_get_length(bufferevent_get_output(l->bev)) : 0;
}

/* --- opening: proof, hello --- */

static int send_proof(struct link *l, struct error *e)
{
    uint8_t record[HANDSHAKE_BYTES];
    int code = security_prove(l->owner, link_ssl(l), l->client, &l->proof, record, e);
    if (code == 0) {
        bufferevent_write(l->bev, record, sizeof record);
    }
    return code;
}

static void take_proof(struct link *l)
{
    uint8_t record[HANDSHAKE_BYTES];
    struct error e = { 0 };
    bufferevent_read(l->bev, record, sizeof record);
    int code = security_check(l->owner, link_ssl(l), l->client, &l->proof, record, &e);
    if (code == FAIL_UNSUPPORTED && !l->client && send_proof(l, NULL) == 0) {
        show_refusal(l, e.text);
        l->state = LINK_LINGER;
        l->opened_ns = l->owner->time.now_ns;
        return;
    }
    memcpy(l->peer, l->proof.peer, sizeof l->peer);
    if (code == 0 && l->expect[0] != '\0' && strcmp(l->expect, l->peer) != 0) {
        code = fail(&e, FAIL_AUTH, "another device answers at this address");
    }
    if (code == 0 && !l->client) {
        code = send_proof(l, &e);
    }
    if (code != 0) {
        link_refuse(l, e.text);
        return;
    }
    l->state = LINK_HELLO;
    if (l->proof.by == HANDSHAKE_BY_INVITATION && !l->client) {
        char key[SECURITY_KEY_TEXT];
        security_key_text(l->owner, key);
        link_send(l, json_pack("{s:s, s:s}", "type", "cluster_key", "key", key));
    }
    /* The one that came says who it is; the other answers once it has taken that. */
    if (l->client) {
        link_send(l, device_hello(l->owner));
    }
}

/* Two links between the same devices: the one whose opener has the smaller id stays; of two by the
 * same opener the newer, since the opener gave up the older. Both ends decide alike. */
static bool keep_old(const struct link *old, const struct link *new)
{
    if (old->client == new->client) {
        return false;
    }
    const char *self = old->owner->self->id;
    const char *opener = old->client ? self : old->peer;
    const char *other = old->client ? old->peer : self;
    return strcmp(opener, other) < 0;
}

/* The peer hears why, before the link ends. */
static void link_turn_away(struct link *l, const char *why)
{
    link_send(l, json_pack("{s:s, s:s}", "type", "refused", "text", why));
    if (l->state != LINK_DEAD) {
        l->state = LINK_LINGER;
        l->opened_ns = l->owner->time.now_ns;
    }
}

/* Two processes with one device key would throw each other out for ever: while one is here the
 * other is refused, and both are told. */
static int turn_away_twin(struct link *l, const struct device *d)
{
    char why[ERROR_TEXT], label[DEVICE_LABEL];
    device_label(d, label);
    log_limited(LOG_WARN, "cluster", "second device with one key", l->address,
                "link %s %s refused: a second device with the key of %s: was its home copied? "
                "Remove device.key from the copy",
                l->client ? "to" : "from", l->address, label);
    snprintf(why, sizeof why,
             "another device with this device's key is in the cluster already, as %s: was this "
             "home copied? Remove device.key here, and it becomes a device of its own",
             label);
    if (d->link != NULL) {
        link_send(d->link, json_pack("{s:s, s:s}", "type", "twin", "address", l->address));
    }
    link_turn_away(l, why);
    return 0;
}

static int take_hello(struct link *l, const json_t *m, struct error *e)
{
    struct cluster *c = l->owner;
    struct device *d = device_add(c, l->peer);
    int64_t run = 0;
    if (d == NULL) {
        return fail(e, FAIL_LIMIT, "the cluster has %d devices already", CLUSTER_MAX_DEVICES);
    }
    int code = message_integer(m, "run", 1, INT64_MAX, &run, e);
    if (code == 0 && (d->self || d->link != NULL) && run != d->run) {
        return turn_away_twin(l, d);
    }
    if (code == 0 && d->self) {
        code = fail(e, FAIL_STATE, "this is the device itself");
    }
    code = code ? code : device_take_hello(c, d, m, e);
    if (code != 0) {
        return code;
    }
    if (d->link != NULL && keep_old(d->link, l)) {
        return fail(e, FAIL_STATE, "there is another link to this device");
    }
    if (d->link != NULL) {
        link_end(d->link, "it came back over a new link");
    }
    char host[ADDRESS_TEXT];
    int port = 0;
    if (address_parse(l->address, 1, host, &port, NULL) == 0) {
        address_join(host, d->peer_port, d->address);
    }
    l->device = d;
    d->link = l;
    l->state = LINK_OPEN;
    if (!l->client) {
        link_send(l, device_hello(c));
    }
    device_joined(c, d);
    if (l->state == LINK_OPEN) {
        data_device_ready(c, d);
    }
    return 0;
}

static int take_opening(struct link *l, const struct message *m, struct error *e)
{
    if (strcmp(m->type, "hello") == 0) {
        return take_hello(l, m->body, e);
    }
    if (strcmp(m->type, "refused") == 0) {
        const char *why = "";
        int code = message_text(m->body, "text", ERROR_TEXT - 1, &why, e);
        return code ? code : fail(e, FAIL_AUTH, "%s", why);
    }
    if (strcmp(m->type, "cluster_key") == 0 && l->client &&
        l->proof.by == HANDSHAKE_BY_INVITATION) {
        const char *key = "";
        int code = message_text(m->body, "key", SECURITY_KEY_TEXT - 1, &key, e);
        return code ? code : security_take_key(l->owner, key, e);
    }
    return fail(e, FAIL_FORMAT, "message '%s' before hello", m->type);
}

/* --- messages --- */

static int take_pong(struct link *l, const json_t *m, struct error *e)
{
    int64_t sent = 0;
    int code = message_integer(m, "sent", 0, INT64_MAX, &sent, e);
    l->rtt_ns = code == 0 ? clock_now_ns() - (uint64_t)sent : l->rtt_ns;
    return code;
}

static int take_message(struct link *l, struct bytes frame, struct error *e)
{
    struct message m;
    int code = message_parse(frame, &m, e);
    if (code != 0) {
        return code;
    }
    if (l->state == LINK_HELLO) {
        code = take_opening(l, &m, e);
    } else if (strcmp(m.type, "pong") == 0) {
        code = take_pong(l, m.body, e);
    } else if (strcmp(m.type, "hello") == 0) {
        code = device_take_hello(l->owner, l->device, m.body, e);
    } else {
        if (strcmp(m.type, "ping") == 0) {
            json_t *sent = json_object_get(m.body, "sent");
            link_send(l,
                      json_pack("{s:s, s:O}", "type", "pong", "sent", sent ? sent : json_null()));
        }
        code = l->state == LINK_OPEN ? dispatch(l->owner, l->device, &m, e) : 0;
    }
    message_done(&m);
    return code;
}

/* One frame, if it is all there. False when there is no more to do now. */
static bool next_frame(struct link *l)
{
    struct evbuffer *in = bufferevent_get_input(l->bev);
    uint8_t head[MESSAGE_HEAD];
    size_t size = 0;
    struct error e = { 0 };
    if (evbuffer_copyout(in, head, sizeof head) < (ev_ssize_t)sizeof head) {
        return false;
    }
    int code = message_size(head, &size, &e);
    if (code == 0 && evbuffer_get_length(in) < sizeof head + size) {
        return false;
    }
    if (code == 0) {
        evbuffer_drain(in, sizeof head);
        const uint8_t *data = evbuffer_pullup(in, (ev_ssize_t)size);
        code = data ? take_message(l, bytes_of(data, size), &e)
                    : fail(&e, FAIL_NOMEM, "memory for a message");
    }
    if (code != 0) {
        if (l->state == LINK_OPEN) {
            link_end(l, e.text);
        } else if (l->state != LINK_DEAD) {
            link_refuse(l, e.text);
        }
        return false;
    }
    if (l->state == LINK_DEAD) {
        return false;
    }
    evbuffer_drain(bufferevent_get_input(l->bev), size);
    return true;
}

static void on_read(struct bufferevent *bev, void *arg)
{
    struct link *l = arg;
    if (l->state == LINK_DEAD) {
        return;
    }
    l->heard_ns = l->owner->time.now_ns;
    if (l->state == LINK_LINGER) {
        evbuffer_drain(bufferevent_get_input(bev), SIZE_MAX);
        return;
    }
    if (l->state == LINK_PROOF) {
        if (evbuffer_get_length(bufferevent_get_input(bev)) < HANDSHAKE_BYTES) {
            return;
        }
        take_proof(l);
    }
    while ((l->state == LINK_HELLO || l->state == LINK_OPEN) && next_frame(l)) {
    }
}

static void why_ended(const struct link *l, short what, char *text, size_t size)
{
    unsigned long ssl = bufferevent_get_openssl_error(l->bev);
    /* A peer that dies does not end its TLS session. */
    bool eof = (what & BEV_EVENT_EOF) || ERR_GET_REASON(ssl) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
    if (eof) {
        bool proof = l->state == LINK_PROOF && l->client;
        snprintf(text, size, "connection closed%s",
                 proof
                     ? " during the proof of membership: wrong cluster key, or an invitation that "
                       "is used or expired"
                     : "");
    } else if (ssl != 0) {
        snprintf(text, size, "TLS error %lx", ssl);
    } else {
        snprintf(text, size, "%s", evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
    }
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    struct link *l = arg;
    struct error e = { 0 };
    if (l->state == LINK_DEAD) {
        return;
    }
    if (what & BEV_EVENT_CONNECTED) {
        l->state = LINK_PROOF;
        l->heard_ns = l->owner->time.now_ns;
        /* The one that came proves itself first: a stranger hears nothing from us. */
        if (l->client && send_proof(l, &e) != 0) {
            link_refuse(l, e.text);
        }
        return;
    }
    char why[160];
    why_ended(l, what, why, sizeof why);
    if (l->state == LINK_OPEN || l->state == LINK_LINGER) {
        link_end(l, why);
    } else {
        link_refuse(l, why);
    }
    (void)bev;
}

/* --- making links --- */

static struct link *link_new(struct cluster *c, evutil_socket_t fd, bool client)
{
    struct link *l = calloc(1, sizeof *l);
    struct ssl_st *ssl = l != NULL ? security_ssl(c, client) : NULL;
    if (ssl == NULL) {
        free(l);
        return NULL;
    }
    l->owner = c;
    l->client = client;
    l->opened_ns = l->heard_ns = c->time.now_ns;
    l->bev = bufferevent_openssl_socket_new(
        c->base, fd, ssl, client ? BUFFEREVENT_SSL_CONNECTING : BUFFEREVENT_SSL_ACCEPTING,
        BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
    if (l->bev == NULL) {
        security_ssl_free(ssl);
        free(l);
        return NULL;
    }
    bufferevent_openssl_set_allow_dirty_shutdown(l->bev, 1);
    bufferevent_setcb(l->bev, on_read, NULL, on_event, l);
    bufferevent_setwatermark(l->bev, EV_READ, 0, MESSAGE_MAX + MESSAGE_HEAD);
    bufferevent_enable(l->bev, EV_READ | EV_WRITE);
    l->next = c->links;
    c->links = l;
    return l;
}

int link_dial(struct cluster *c, const char *address, const char *expect, struct error *e)
{
    char host[ADDRESS_TEXT];
    int port = 0;
    int code = address_parse(address, CLUSTER_DEFAULT_PEER_PORT, host, &port, e);
    if (code != 0) {
        return code;
    }
    struct link *l = link_new(c, -1, true);
    if (l == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a link");
    }
    address_join(host, port, l->address);
    snprintf(l->expect, sizeof l->expect, "%s", expect ? expect : "");
    if (bufferevent_socket_connect_hostname(l->bev, NULL, AF_UNSPEC, host, port) != 0 &&
        l->state != LINK_DEAD) {
        link_refuse(l, "the address can't be reached");
    }
    return 0;
}

void link_accept(struct cluster *c, evutil_socket_t fd, const char *from, uint64_t since_ns)
{
    int unproven = 0;
    for (const struct link *l = c->links; l != NULL; l = l->next) {
        unproven += l->state == LINK_TLS || l->state == LINK_PROOF;
    }
    struct link *l = unproven < LINK_MAX_UNPROVEN ? link_new(c, fd, false) : NULL;
    if (l == NULL) {
        evutil_closesocket(fd);
        return;
    }
    l->opened_ns = since_ns;
    snprintf(l->address, sizeof l->address, "%s", from);
}

bool link_dialing(const struct cluster *c, const char *device_id)
{
    for (const struct link *l = c->links; l != NULL; l = l->next) {
        if (l->client && l->state < LINK_OPEN &&
            strcmp(l->expect, device_id ? device_id : "") == 0) {
            return true;
        }
    }
    return false;
}

/* --- facts --- */

struct ssl_st *link_ssl(const struct link *l)
{
    return bufferevent_openssl_get_ssl(l->bev);
}

void link_own_host(const struct link *l, char host[static ADDRESS_TEXT])
{
    struct sockaddr_storage a;
    ev_socklen_t size = sizeof a;
    host[0] = '\0';
    if (l == NULL || l->bev == NULL ||
        getsockname(bufferevent_getfd(l->bev), (struct sockaddr *)&a, &size) != 0) {
        return;
    }
    const void *from = a.ss_family == AF_INET6
                           ? (const void *)&((const struct sockaddr_in6 *)&a)->sin6_addr
                           : (const void *)&((const struct sockaddr_in *)&a)->sin_addr;
    if (evutil_inet_ntop(a.ss_family, from, host, ADDRESS_TEXT) == NULL) {
        host[0] = '\0';
    }
    if (strncmp(host, "::ffff:", 7) == 0 && strchr(host, '.') != NULL) {
        memmove(host, host + 7, ADDRESS_TEXT - 7);
    }
}

bool link_is_local(const struct link *l)
{
    char own[ADDRESS_TEXT], peer[ADDRESS_TEXT];
    int port = 0;
    link_own_host(l, own);
    if (own[0] == '\0' || address_parse(l->address, 1, peer, &port, NULL) != 0) {
        return false;
    }
    return address_is_loopback(l->address) || strcmp(own, peer) == 0;
}

json_t *link_json(const struct link *l)
{
    return json_pack("{s:s, s:s, s:s, s:f, s:b}", "peer", l->peer, "name",
                     l->device ? l->device->name : "", "address", l->address, "round_trip_ms",
                     (double)l->rtt_ns / 1e6, "local", (int)link_is_local(l));
}

/* --- time --- */

static void tick_one(struct link *l, uint64_t now)
{
    char why[64];
    if (l->state == LINK_LINGER && (link_waiting(l) == 0 || now - l->opened_ns > LINGER_NS)) {
        link_end(l, "refused");
    } else if (l->state < LINK_OPEN && now - l->opened_ns > HANDSHAKE_NS) {
        link_refuse(l, "no answer in time");
    } else if (l->state == LINK_OPEN && now - l->heard_ns > SILENT_NS) {
        snprintf(why, sizeof why, "silent for %.1f s", (double)(now - l->heard_ns) / 1e9);
        link_end(l, why);
    } else if (l->state == LINK_OPEN && now >= l->ping_at) {
        l->ping_at = now + PING_NS;
        link_send(l, json_pack("{s:s, s:I, s:I, s:o}", "type", "ping", "sent",
                               (json_int_t)clock_now_ns(), "usable",
                               (json_int_t)l->owner->self->memory_usable, "parts",
                               parts_report(l->owner)));
    }
}

void links_tick(struct cluster *c)
{
    for (struct link *l = c->links; l != NULL; l = l->next) {
        tick_one(l, c->time.now_ns);
    }
    reap(c);
}

void links_close(struct cluster *c)
{
    for (struct link *l = c->links; l != NULL; l = l->next) {
        link_end(l, "shutting down");
    }
    reap(c);
}

/* Control links over the event loop. */
#include "peer/link.h"

#include <stdlib.h>

#include "os/clock.h"
#include "os/log.h"
#include "peer/pool.h"
#include "peer/resolve.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

/* Bytes that may wait for a peer which doesn't read: more means that it never will. */
#define LINK_MAX_WAITING (64u << 20)
/* Accepted links that have not proved anything yet: strangers can't take all descriptors. */
#define LINK_MAX_UNPROVEN 64
/* A refused peer gets our record, so that both ends can name both versions, and this long. */
#define LINGER_NS SECOND_NS

/* A link for requests that carries none is ended by its opener. */
#define IDLE_NS (30 * SECOND_NS)
/* The owner of a link hears that it drained when less waits. */
#define LOW_WATER (128u << 10)

struct link {
    struct peers *owner;
    struct bufferevent *bev;
    enum link_state state;
    bool client;
    bool requests; /* see link_dial_requests */
    struct link_proof proof;
    char address[ADDRESS_TEXT]; /* as dialled or accepted */
    char expect[PEER_ID_TEXT];
    char id[PEER_ID_TEXT]; /* of the peer, once it is proved */
    struct peer *peer;     /* once open */
    struct peer *held;     /* see hold */
    int64_t number;
    uint64_t opened_ns, heard_ns, ping_at;
    uint64_t rtt_ns;
    char why[160]; /* it ended */
    struct link *next;
};

/* --- ending --- */

/* The entry of the device that the link is, or may become one, to stays as long as the link. */
static void hold(struct link *l, const char *id)
{
    struct peer *p = peers_find(l->owner, id);
    if (p != NULL && l->held == NULL) {
        l->held = p;
        p->uses++;
    }
}

static void link_free(struct link *l)
{
    if (l->held != NULL) {
        l->held->uses--;
    }
    free(l);
}

void link_end(struct link *l, const char *why)
{
    if (l->state == LINK_ENDED) {
        return;
    }
    l->state = LINK_ENDED;
    snprintf(l->why, sizeof l->why, "%s", why);
    if (l->peer != NULL && l->peer->link == l) {
        l->peer->link = NULL;
        l->peer->seen_ns = l->owner->now_ns;
    }
    bufferevent_free(l->bev);
    l->bev = NULL;
    event_active(l->owner->ended, 0, 0);
}

static void linger(struct link *l)
{
    if (l->state != LINK_ENDED) {
        l->state = LINK_LINGER;
        l->opened_ns = l->owner->now_ns;
    }
}

static void show_refusal(const struct link *l, const char *why)
{
    if (!l->owner->closing) {
        log_limited(LOG_WARN, "cluster", l->client ? "link refused here" : "link refused",
                    l->address, "link %s %s refused: %s", l->client ? "to" : "from", l->address,
                    why);
    }
}

void link_turn_away(struct link *l, const char *why)
{
    link_send(l, json_pack("{s:s, s:s}", "type", "refused", "text", why));
    snprintf(l->why, sizeof l->why, "%s", why);
    linger(l);
}

void link_refused_by_peer(struct link *l, const char *why)
{
    if (strcmp(why, LINK_SPARE) != 0) {
        show_refusal(l, why);
    }
    link_end(l, why);
}

void link_refuse(struct link *l, const char *why)
{
    if (l->client && l->state == LINK_PROOF) {
        security_try_other(l->owner);
    }
    show_refusal(l, why);
    if (l->state == LINK_HELLO || l->state == LINK_CHOSEN) {
        link_turn_away(l, why);
    } else {
        link_end(l, why);
    }
}

void links_tell_ended(struct peers *all)
{
    struct link **at = &all->links;
    while (*at != NULL) {
        struct link *l = *at;
        if (l->state != LINK_ENDED) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        all->link_owner->ended(l, l->why);
        link_free(l);
        at = &all->links; /* the owner may have dialled */
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
    if (l == NULL || l->state == LINK_ENDED) {
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
    if (l == NULL || l->state == LINK_ENDED) {
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

/* --- proof --- */

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
        linger(l);
        return;
    }
    memcpy(l->id, l->proof.peer, sizeof l->id);
    if (code == 0 && l->expect[0] != '\0' && strcmp(l->expect, l->id) != 0) {
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
    l->owner->link_owner->proved(l);
}

void link_choose(struct link *l)
{
    hold(l, l->id);
    l->state = LINK_CHOSEN;
    l->number = ++l->owner->links_opened;
}

bool link_is_chosen(const struct peers *all, const char *device_id)
{
    const struct link *l = all->links;
    while (l != NULL && !(l->state == LINK_CHOSEN && strcmp(l->id, device_id) == 0)) {
        l = l->next;
    }
    return l != NULL;
}

void link_open(struct link *l, struct peer *peer)
{
    if (l->state != LINK_CHOSEN) {
        l->number = ++l->owner->links_opened;
    }
    l->state = LINK_OPEN;
    hold(l, l->id);
    l->peer = peer;
    if (!l->requests) {
        peer->link = l;
        peer->joined_once = true;
    }
}

/* --- messages --- */

static enum peer_verdict take_message(struct link *l, struct bytes frame, struct error *e)
{
    struct message m;
    if (message_parse(frame, &m, e) != 0) {
        return PEER_VIOLATION;
    }
    enum peer_verdict verdict = l->owner->link_owner->message(l, &m, e);
    message_done(&m);
    return verdict;
}

static void judge(struct link *l, enum peer_verdict verdict, const struct error *e)
{
    if (verdict == PEER_VIOLATION && l->state == LINK_OPEN) {
        if (l->requests) { /* the end of a control link is told as the loss of its peer */
            log_limited(LOG_WARN, "cluster", "requests ended", l->address,
                        "the link for requests with %s ends: %s", l->address, e->text);
        }
        link_end(l, e->text);
    } else if (verdict == PEER_VIOLATION && l->state < LINK_OPEN) {
        link_refuse(l, e->text);
    } else if (verdict == PEER_REFUSED) {
        log_limited(LOG_WARN, "cluster", "message refused", l->address, "refused from %s: %s",
                    l->address, e->text);
    }
}

/* One frame, if it is all there. False when there is no more to do now. */
static bool next_frame(struct link *l)
{
    struct evbuffer *in = bufferevent_get_input(l->bev);
    uint8_t head[MESSAGE_HEAD];
    size_t size = 0;
    struct error e = { 0 };
    enum peer_verdict verdict = PEER_VIOLATION;
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
        if (data == NULL) {
            fail(&e, FAIL_NOMEM, "memory for a message");
        } else {
            verdict = take_message(l, bytes_of(data, size), &e);
        }
    }
    judge(l, verdict, &e);
    if (l->state == LINK_ENDED || verdict == PEER_VIOLATION) {
        return false;
    }
    evbuffer_drain(bufferevent_get_input(l->bev), size);
    return true;
}

static void on_read(struct bufferevent *bev, void *arg)
{
    struct link *l = arg;
    if (l->state == LINK_ENDED) {
        return;
    }
    l->heard_ns = l->owner->now_ns;
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
    while (l->state >= LINK_HELLO && l->state <= LINK_OPEN && next_frame(l)) {
    }
}

static void on_written(struct bufferevent *bev, void *arg)
{
    struct link *l = arg;
    if (l->state == LINK_OPEN) {
        l->owner->link_owner->drained(l);
    }
    (void)bev;
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
    if (l->state == LINK_ENDED) {
        return;
    }
    if (what & BEV_EVENT_CONNECTED) {
        l->state = LINK_PROOF;
        l->heard_ns = l->owner->now_ns;
        /* The one that came proves itself first: a stranger hears nothing from us. */
        if (l->client && send_proof(l, &e) != 0) {
            link_refuse(l, e.text);
        }
        return;
    }
    char why[160];
    why_ended(l, what, why, sizeof why);
    if (l->state == LINK_LINGER) {
        snprintf(why, sizeof why, "%s", l->why);
    }
    if (l->state != LINK_OPEN && l->state != LINK_LINGER) {
        show_refusal(l, why);
    }
    if (l->client && l->state == LINK_PROOF) {
        security_try_other(l->owner);
    }
    link_end(l, why);
    (void)bev;
}

/* --- making links --- */

static struct link *link_new(struct peers *all, evutil_socket_t fd, bool client)
{
    struct link *l = calloc(1, sizeof *l);
    struct ssl_st *ssl = l != NULL ? security_ssl(all, client) : NULL;
    if (ssl == NULL) {
        free(l);
        return NULL;
    }
    l->owner = all;
    l->client = client;
    l->state = LINK_TLS;
    l->opened_ns = l->heard_ns = all->now_ns;
    l->bev = bufferevent_openssl_socket_new(
        all->base, fd, ssl, client ? BUFFEREVENT_SSL_CONNECTING : BUFFEREVENT_SSL_ACCEPTING,
        BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
    if (l->bev == NULL) {
        security_ssl_free(ssl);
        free(l);
        return NULL;
    }
    bufferevent_openssl_set_allow_dirty_shutdown(l->bev, 1);
    bufferevent_setcb(l->bev, on_read, on_written, on_event, l);
    bufferevent_setwatermark(l->bev, EV_WRITE, LOW_WATER, 0);
    bufferevent_setwatermark(l->bev, EV_READ, 0, MESSAGE_MAX + MESSAGE_HEAD);
    bufferevent_enable(l->bev, EV_READ | EV_WRITE);
    l->next = all->links;
    all->links = l;
    return l;
}

int link_address_of(struct peers *all, const char *address, struct resolved *ret, struct error *e)
{
    char host[ADDRESS_TEXT];
    int port = 0;
    int code = address_parse(address, PEER_DEFAULT_PORT, host, &port, e);
    return code ? code : resolver_get(all->resolver, host, port, all->now_ns, ret, e);
}

static int dial(struct peers *all, const char *address, const char *expect, bool requests,
                struct error *e)
{
    struct resolved to;
    int code = link_address_of(all, address, &to, e);
    if (code != 0) {
        return code;
    }
    struct link *l = link_new(all, -1, true);
    if (l == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a link");
    }
    address_of((const struct sockaddr *)&to.address, l->address);
    snprintf(l->expect, sizeof l->expect, "%s", expect);
    l->requests = requests;
    hold(l, expect);
    if (bufferevent_socket_connect(l->bev, (struct sockaddr *)&to.address, (int)to.size) != 0) {
        link_refuse(l, "the address can't be reached");
    }
    return 0;
}

int link_dial(struct peers *all, const char *address, const char *expect, struct error *e)
{
    return dial(all, address, expect, false, e);
}

int link_dial_requests(struct peer *to, struct error *e)
{
    return dial(to->owner, to->address, to->id, true, e);
}

bool link_is_for_requests(const struct link *l)
{
    return l->requests;
}

void link_set_for_requests(struct link *l)
{
    l->requests = true;
}

struct link *link_for_requests(const struct peer *to)
{
    struct link *l = to->owner->links;
    while (l != NULL &&
           !(l->requests && l->client && l->state <= LINK_OPEN && strcmp(l->expect, to->id) == 0)) {
        l = l->next;
    }
    return l;
}

void link_end_requests(struct peer *p, const char *why)
{
    for (struct link *l = p->owner->links; l != NULL; l = l->next) {
        if (l->requests && strcmp(l->id, p->id) == 0) {
            link_end(l, why);
        }
    }
}

/* One that was accepted and has proved nothing gives way where there are too many of them. */
static void make_room(struct peers *all)
{
    struct pool_place places[LINK_MAX_UNPROVEN];
    struct link *links[LINK_MAX_UNPROVEN];
    int n = 0;
    for (struct link *l = all->links; l != NULL && n < LINK_MAX_UNPROVEN; l = l->next) {
        if (!l->client && (l->state == LINK_TLS || l->state == LINK_PROOF)) {
            places[n] = (struct pool_place){ .since_ns = l->opened_ns };
            address_source(l->address, places[n].source);
            places[n].known = source_is_known(all, places[n].source);
            links[n++] = l;
        }
    }
    if (n == LINK_MAX_UNPROVEN) {
        int i = pool_yields(places, n);
        log_limited(LOG_WARN, "cluster", "too many unproven links", places[i].source,
                    "%d connections have proved nothing: one from %s makes room", n,
                    places[i].source);
        link_end(links[i], "it made room for others");
    }
}

void link_accept(struct peers *all, evutil_socket_t fd, const char *from, uint64_t since_ns)
{
    make_room(all);
    struct link *l = link_new(all, fd, false);
    if (l == NULL) {
        evutil_closesocket(fd);
        return;
    }
    l->opened_ns = since_ns;
    snprintf(l->address, sizeof l->address, "%s", from);
}

bool link_dialing(const struct peers *all, const char *device_id)
{
    for (const struct link *l = all->links; l != NULL; l = l->next) {
        if (l->client && !l->requests && l->state < LINK_OPEN &&
            strcmp(l->expect, device_id) == 0) {
            return true;
        }
    }
    return false;
}

bool link_named(const struct peer *p)
{
    for (const struct link *l = p->owner->links; l != NULL; l = l->next) {
        if (l->peer == p || strcmp(l->expect, p->id) == 0 || strcmp(l->id, p->id) == 0) {
            return true;
        }
    }
    return false;
}

/* --- facts --- */

struct peers *link_peers(const struct link *l)
{
    return l->owner;
}

enum link_state link_state(const struct link *l)
{
    return l->state;
}

bool link_is_client(const struct link *l)
{
    return l->client;
}

const struct link_proof *link_proof(const struct link *l)
{
    return &l->proof;
}

const char *link_peer_id(const struct link *l)
{
    return l->id;
}

struct peer *link_peer(const struct link *l)
{
    return l->peer;
}

const char *link_expected(const struct link *l)
{
    return l->expect;
}

const char *link_address(const struct link *l)
{
    return l->address;
}

int64_t link_number(const struct link *l)
{
    return l->number;
}

struct ssl_st *link_ssl(const struct link *l)
{
    return bufferevent_openssl_get_ssl(l->bev);
}

void link_own_host(const struct link *l, char host[static ADDRESS_TEXT])
{
    struct sockaddr_storage a;
    ev_socklen_t size = sizeof a;
    char text[ADDRESS_TEXT];
    int port = 0;
    host[0] = '\0';
    if (l != NULL && l->bev != NULL &&
        getsockname(bufferevent_getfd(l->bev), (struct sockaddr *)&a, &size) == 0) {
        address_of((const struct sockaddr *)&a, text);
        address_parse(text, 1, host, &port, NULL);
    }
}

static bool is_local(const struct link *l)
{
    char own[ADDRESS_TEXT], peer[ADDRESS_TEXT];
    int port = 0;
    link_own_host(l, own);
    if (own[0] == '\0' || address_parse(l->address, 1, peer, &port, NULL) != 0) {
        return false;
    }
    return address_is_loopback(l->address) || strcmp(own, peer) == 0;
}

void link_measured(struct link *l, uint64_t rtt_ns)
{
    l->rtt_ns = rtt_ns;
}

json_t *link_json(const struct link *l)
{
    return json_pack("{s:s, s:s, s:s, s:f, s:b}", "peer", l->id, "name",
                     l->peer != NULL ? l->peer->name : "", "address", l->address, "round_trip_ms",
                     (double)l->rtt_ns / 1e6, "local", (int)is_local(l));
}

/* --- time --- */

static void tick_one(struct link *l, uint64_t now)
{
    char why[64];
    if (l->state == LINK_LINGER && (link_waiting(l) == 0 || now - l->opened_ns > LINGER_NS)) {
        snprintf(why, sizeof why, "%.60s", l->why[0] != '\0' ? l->why : "refused");
        link_end(l, why);
    } else if (l->state < LINK_OPEN && now - l->opened_ns > HANDSHAKE_NS) {
        show_refusal(l, "no answer in time");
        link_end(l, "no answer in time");
    } else if (l->state == LINK_OPEN && l->requests) {
        /* The control link beside it tells whether the peer is alive. */
        if (now - l->heard_ns > IDLE_NS && link_waiting(l) == 0 && l->client &&
            !l->owner->link_owner->busy(l)) {
            link_end(l, "idle");
        }
    } else if (l->state == LINK_OPEN && now - l->heard_ns > SILENT_NS) {
        snprintf(why, sizeof why, "silent for %.1f s", (double)(now - l->heard_ns) / 1e9);
        link_end(l, why);
    } else if (l->state == LINK_OPEN && now >= l->ping_at) {
        l->ping_at = now + PING_NS;
        link_send(l, json_pack("{s:s, s:I}", "type", "ping", "sent", (json_int_t)clock_now_ns()));
    }
}

void links_tick(struct peers *all)
{
    for (struct link *l = all->links; l != NULL; l = l->next) {
        tick_one(l, all->now_ns);
    }
}

void links_close(struct peers *all)
{
    while (all->links != NULL) {
        struct link *l = all->links;
        all->links = l->next;
        if (l->bev != NULL) {
            bufferevent_free(l->bev);
        }
        link_free(l);
    }
}

/* This device among its peers: opening, what comes over links, the clockwork, closing. */
#include "peer/internal.h"

#include <stdlib.h>

#include "os/clock.h"
#include "os/log.h"
#include "os/process.h"
#include "peer/data.h"
#include "peer/hello.h"
#include "peer/link.h"
#include "peer/listen.h"
#include "peer/members.h"
#include "peer/resolve.h"
#include "peer/security.h"
#include "peer/stream_internal.h"

#include <assert.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>

/* --- this layer's own messages --- */

struct ping {
    int64_t sent; /* the sender's clock; comes back in pong */
};

static const struct message_field ping_fields[] = {
    { MESSAGE_INTEGER(struct ping, sent, 0, INT64_MAX) },
};

struct twin {
    char address[ADDRESS_TEXT];
};

static const struct message_field twin_fields[] = { { MESSAGE_TEXT(struct twin, address) } };

static enum peer_verdict on_ping(void *arg, struct peer *from, const void *fields, struct error *e)
{
    peer_send(from, json_pack("{s:s, s:I}", "type", "pong", "sent",
                              (json_int_t)((const struct ping *)fields)->sent));
    (void)arg;
    (void)e;
    return PEER_DONE;
}

static enum peer_verdict on_pong(void *arg, struct peer *from, const void *fields, struct error *e)
{
    uint64_t now = clock_now_ns(), sent = (uint64_t)((const struct ping *)fields)->sent;
    if (from->link != NULL && sent <= now) {
        link_measured(from->link, now - sent);
    }
    (void)arg;
    (void)e;
    return PEER_DONE;
}

/* Somebody else came with our key and was refused by a device that has a link to us. */
static enum peer_verdict on_twin(void *arg, struct peer *from, const void *fields, struct error *e)
{
    char label[PEER_LABEL];
    log_limited(LOG_WARN, "cluster", "second device with this key", from->name,
                "a second device with this device's key came to %s from %s and was refused: was "
                "this home copied? Remove device.key from the copy",
                peer_label(from, label), ((const struct twin *)fields)->address);
    (void)arg;
    (void)e;
    return PEER_DONE;
}

#define ROW(name, table, kind, handler)                                                            \
    {                                                                                              \
        .type = name, .fields = table, .n_fields = ARRAY_LEN(table), .size = sizeof(kind),         \
        .handle = handler                                                                          \
    }

static const struct peer_message own_messages[] = {
    ROW("ping", ping_fields, struct ping, on_ping),
    ROW("pong", ping_fields, struct ping, on_pong),
    ROW("twin", twin_fields, struct twin, on_twin),
    ROW("members", members_fields, struct members, on_members),
    ROW("ticket_request", ticket_request_fields, struct ticket_request, on_ticket_request),
    ROW("ticket", ticket_answer_fields, struct ticket_answer, on_ticket),
};
#undef ROW

static const struct peer_message *find_type(const struct peer_message *list, size_t n,
                                            const char *type)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i].type, type) == 0) {
            return &list[i];
        }
    }
    return NULL;
}

enum peer_verdict peers_dispatch(struct peers *all, struct peer *from, const struct message *m,
                                 struct error *e)
{
    _Alignas(max_align_t) uint8_t fields[PEER_MESSAGE_STRUCT];
    void *arg = all;
    if (m->body == NULL) {
        fail(e, FAIL_FORMAT, "bytes of a request on a control link");
        return PEER_VIOLATION;
    }
    const struct peer_message *type = find_type(own_messages, ARRAY_LEN(own_messages), m->type);
    if (type == NULL) {
        type = find_type(all->options.messages, (size_t)all->options.n_messages, m->type);
        arg = all->options.arg;
    }
    if (type == NULL) {
        /* A later minor version may say more than we know. */
        char label[PEER_LABEL];
        log_debug("cluster", "message '%s' from %s is unknown and passed over", m->type,
                  peer_label(from, label));
        return PEER_DONE;
    }
    if (type->sender != 0 && !all->options.events->may_send(all->options.arg, from, type->sender)) {
        fail(e, FAIL_AUTH, "message '%s' is not for it to send, or not to this device", m->type);
        return PEER_REFUSED;
    }
    assert(type->size <= sizeof fields);
    memset(fields, 0, type->size);
    if (message_read(m->body, type->fields, type->n_fields, fields, e) != 0) {
        wrap(e, "message '%s'", m->type);
        return PEER_VIOLATION;
    }
    enum peer_verdict verdict = type->handle(arg, from, fields, e);
    if (verdict != PEER_DONE) {
        wrap(e, "message '%s'", m->type);
    }
    return verdict;
}

void peers_dispatch_local(struct peers *all)
{
    while (all->first_local != NULL) {
        struct local_message *m = all->first_local;
        all->first_local = m->next;
        if (all->first_local == NULL) {
            all->last_local = NULL;
        }
        struct message decoded = { .body = m->body };
        const char *type = json_string_value(json_object_get(m->body, "type"));
        struct error e = { 0 };
        snprintf(decoded.type, sizeof decoded.type, "%s", type != NULL ? type : "");
        if (peers_dispatch(all, peers_self(all), &decoded, &e) != PEER_DONE) {
            log_error("cluster", "%s", e.text);
        }
        message_done(&decoded);
        free(m);
    }
}

/* --- links --- */

static enum peer_verdict on_link_message(struct link *l, const struct message *m, struct error *e)
{
    struct peers *all = link_peers(l);
    if (link_state(l) == LINK_OPEN && link_is_for_requests(l)) {
        return streams_message(l, m, e);
    }
    if (link_state(l) == LINK_OPEN) {
        return strcmp(m->type, "hello") == 0 ? hello_again(l, m, e)
                                             : peers_dispatch(all, link_peer(l), m, e);
    }
    bool opened = false;
    enum peer_verdict verdict = hello_take(l, m, &opened, e);
    if (opened && link_is_for_requests(l)) {
        streams_link_ready(l);
    } else if (opened) {
        struct peer *p = link_peer(l);
        p->dial_at = 0;
        all->options.events->joined(all->options.arg, p);
        peers_tell_members(all);
        data_peer_ready(all, p);
    }
    return verdict;
}

static void on_link_ended(struct link *l, const char *why)
{
    struct peers *all = link_peers(l);
    struct peer *p = link_peer(l);
    if (link_is_for_requests(l)) {
        p = p != NULL ? p : peers_find(all, link_expected(l));
        if (p != NULL) {
            streams_link_ended(p, l, why);
        }
        return;
    }
    if (p != NULL) {
        char label[PEER_LABEL];
        log_warn("cluster", "lost %s: %s", peer_label(p, label), why);
        p->dial_at = all->now_ns + RETRY_NS;
        link_end_requests(p, why);
        streams_peer_lost(all, p, why);
        data_peer_lost(all, p, why);
        all->options.events->lost(all->options.arg, p, why);
        return;
    }
    p = link_expected(l)[0] != '\0' ? peers_find(all, link_expected(l)) : NULL;
    /* Another link to it may be open by now, or in the making. */
    if (p != NULL && p->link == NULL && !link_named(p)) {
        data_peer_unreached(all, p, why);
    }
}

static const struct link_owner link_owner = { .proved = hello_begin,
                                              .message = on_link_message,
                                              .busy = streams_busy,
                                              .drained = streams_pump,
                                              .ended = on_link_ended };

static void on_local(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    peers_dispatch_local(arg);
}

static void on_ended(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    links_tell_ended(arg);
    data_tell_failed(arg);
}

/* --- the clockwork --- */

/* FAIL_BUSY is a name that is being looked up: asked again in the next tick. */
static uint64_t dial(struct peers *all, const char *address, const char *expect)
{
    struct error e = { 0 };
    int code = link_dialing(all, expect) ? 0 : link_dial(all, address, expect, &e);
    if (code == FAIL_BUSY) {
        return all->now_ns;
    }
    if (code != 0) {
        log_limited(LOG_WARN, "cluster", "dialling", address, "%s", e.text);
    }
    return all->now_ns + RETRY_NS;
}

static bool join_is_due(const struct peers *all)
{
    bool linked = false, kept = false, kept_linked = true;
    for (int i = 1; i < all->n; i++) {
        const struct peer *p = all->table[i];
        linked = linked || p->link != NULL;
        kept = kept || p->keep;
        kept_linked = kept_linked && (!p->keep || p->link != NULL);
    }
    return all->join_at != 0 && all->now_ns >= all->join_at && !(kept ? kept_linked : linked);
}

static void dial_peers(struct peers *all)
{
    if (join_is_due(all)) {
        const char *address = security_join_address(all, all->join_next);
        if (address == NULL) {
            all->join_next = 0;
            address = security_join_address(all, 0);
        }
        uint64_t next = dial(all, address, "");
        all->join_next += next > all->now_ns;
        all->join_at = next;
    }
    for (int i = 1; i < all->n; i++) {
        struct peer *p = all->table[i];
        if (p->keep && p->link == NULL && p->address[0] != '\0' && all->now_ns >= p->dial_at &&
            !link_named(p)) {
            p->dial_at = dial(all, p->address, p->id);
        }
    }
}

void peers_tick(struct peers *all, uint64_t now_ns)
{
    all->now_ns = now_ns;
    listen_tick(all);
    links_tick(all);
    data_tick(all);
    streams_tick(all);
    links_tell_ended(all);
    data_tell_failed(all);
    dial_peers(all);
}

void peers_mark(const struct peers *all, char mark[static PEER_MARK_TEXT])
{
    security_mark(all, mark);
}

void peers_invited_by(const struct peers *all, char id[static PEER_ID_TEXT])
{
    security_invited_by(all, id);
}

void peers_tell_facts(struct peers *all)
{
    for (int i = 1; i < all->n; i++) {
        if (all->table[i]->link != NULL) {
            hello_send(all->table[i]->link);
        }
    }
}

/* --- life --- */

/* Where this device joins is checked before it tries. */
static int check_join(struct peers *all, struct error *e)
{
    char host[ADDRESS_TEXT];
    int port = 0, code = 0;
    const char *address = security_join_address(all, 0);
    if (address == NULL && all->options.invite != NULL) {
        return fail(e, FAIL_ARG, "the invitation names no address: give --join ADDRESS too");
    }
    for (int i = 0; address != NULL && code == 0; i++) {
        code = address_parse(address, 1, host, &port, e);
        address = security_join_address(all, i + 1);
    }
    all->join_at = security_join_address(all, 0) != NULL ? all->now_ns : 0;
    return code;
}

static int open_all(struct peers *all, struct error *e)
{
    char id[PEER_ID_TEXT];
    int code = security_open(all, id, e);
    code = code ? code : table_open(all, id, all->options.name, e);
    code = code ? code : security_draw(&all->table[0]->run, e);
    if (code != 0) {
        return code;
    }
    all->resolver = resolver_open();
    all->local = event_new(all->base, -1, EV_PERSIST, on_local, all);
    all->ended = event_new(all->base, -1, EV_PERSIST, on_ended, all);
    if (all->resolver == NULL || all->local == NULL || all->ended == NULL) {
        return fail(e, FAIL_NOMEM, "memory for the event loop");
    }
    code = listen_open(all, e);
    if (code == 0) {
        data_listen(all);
        address_join("127.0.0.1", all->table[0]->port, all->table[0]->address);
        code = check_join(all, e);
    }
    return code;
}

int peers_open(struct peers **ret, const struct peers_options *options, struct error *e)
{
    struct peers *all = calloc(1, sizeof *all);
    if (all == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a device");
    }
    /* OpenSSL writes to sockets by write(2): a peer that went must not end the process. */
    process_ignore_broken_pipes();
    all->options = *options;
    all->base = options->base;
    all->now_ns = options->now_ns;
    all->link_owner = &link_owner;
    if (all->options.protocol_version == 0) {
        all->options.protocol_version = HANDSHAKE_VERSION;
    }
    int code = open_all(all, e);
    if (code != 0) {
        peers_close(all);
        return code;
    }
    *ret = all;
    return 0;
}

void peers_stop(struct peers *all)
{
    all->closing = true;
    listen_close(all);
    streams_stop(all);
}

void peers_close(struct peers *all)
{
    if (all == NULL) {
        return;
    }
    peers_stop(all);
    streams_close(all);
    data_close_all(all);
    links_close(all);
    if (all->local != NULL) {
        event_free(all->local);
    }
    if (all->ended != NULL) {
        event_free(all->ended);
    }
    while (all->first_local != NULL) {
        struct local_message *m = all->first_local;
        all->first_local = m->next;
        json_decref(m->body);
        free(m);
    }
    table_free(all);
    resolver_close(all->resolver);
    security_close(all);
    free(all);
}

int peers_port(const struct peers *all)
{
    return all->table[0]->port;
}

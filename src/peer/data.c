/* Data connections: asking for tickets, giving them, connecting, accepting.
 *
 * With a ticket comes the way to the issuer's door for shared memory. Whether both are on one host
 * is not guessed from addresses, behind which a forwarder may stand: the opener knocks, and only a
 * process of the same host (and network namespace) finds the door. What goes over TCP is sealed.
 * A connection counts as a channel once its acceptor has said that the ticket was good: else the
 * opener would wait at an end that nobody holds. */
#include "peer/data.h"

#include <stdlib.h>

#include "base/hex.h"
#include "os/clock.h"
#include "os/log.h"
#include "peer/link.h"
#include "peer/security.h"

#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* Parcels of shared memory taken in one turn of the loop. */
#define DOOR_TURN 16
/* A peer that is alive answers within one turn of its loop. */
#define ANSWER_S 3
/* Tries at a door that others crowd. */
#define SHM_TRIES 8
/* What an acceptor says to a good ticket. */
#define ACCEPTED 'Y'

enum data_state {
    DATA_WAIT_LINK,
    DATA_WAIT_TICKET,
    DATA_OFFERING,   /* shared memory */
    DATA_CONNECTING, /* until the preamble has left */
    DATA_ANSWER,     /* until the acceptor has said that it is good */
    DATA_FAILED,     /* the owner hears of it in the next turn */
    DATA_ISSUED      /* a ticket of ours that was not seen yet */
};

/* Where processes of this host bring shared memory. */
struct data_door {
    int fd;
    struct event *event;
    char token[SHM_TOKEN];
};

/* One connection that we open, or a ticket that we have issued. */
struct data_channel {
    struct peers *owner;
    enum data_state state;
    struct channel_purpose purpose;
    size_t max_message;
    struct peer *peer;
    uint64_t id; /* the ticket's purpose, for DATA_ISSUED */
    uint64_t until;
    int shm_tries;           /* left; 0: by TCP */
    struct shm_offer *offer; /* DATA_OFFERING */
    struct event *answered;  /* DATA_OFFERING, DATA_ANSWER: its answer, or too late */
    struct bufferevent *bev; /* DATA_CONNECTING */
    evutil_socket_t fd;      /* DATA_ANSWER; else -1 */
    struct seal_keys keys;
    struct error failure; /* DATA_FAILED */
    struct data_channel *next;
};

static void close_door(struct peers *all)
{
    if (all->door != NULL) {
        if (all->door->event != NULL) {
            event_free(all->door->event);
        }
        tcp_close(all->door->fd);
        free(all->door);
        all->door = NULL;
    }
}

/* Lets go what its state holds. */
static void release(struct data_channel *d)
{
    if (d->answered != NULL) {
        event_free(d->answered);
        d->answered = NULL;
    }
    shm_offer_close(d->offer);
    d->offer = NULL;
    if (d->bev != NULL) {
        evutil_socket_t fd = bufferevent_getfd(d->bev);
        bufferevent_free(d->bev);
        tcp_close((int)fd);
        d->bev = NULL;
    }
    tcp_close((int)d->fd);
    d->fd = -1;
}

static void entry_free(struct data_channel *d)
{
    struct data_channel **at = &d->owner->data;
    while (*at != d) {
        at = &(*at)->next;
    }
    *at = d->next;
    d->peer->uses--;
    release(d);
    free(d);
}

static struct data_channel *entry_new(struct peer *peer, const struct channel_purpose *p,
                                      size_t max_message)
{
    struct peers *all = peer->owner;
    struct data_channel *d = calloc(1, sizeof *d);
    if (d != NULL) {
        *d = (struct data_channel){ .owner = all,
                                    .peer = peer,
                                    .purpose = *p,
                                    .max_message = max_message,
                                    .until = all->now_ns + CONNECT_NS,
                                    .shm_tries = all->options.seal ? 0 : SHM_TRIES,
                                    .fd = -1,
                                    .next = all->data };
        all->data = d;
        peer->uses++;
    }
    return d;
}

static struct data_channel *entry_find(const struct peers *all, enum data_state state,
                                       const struct peer *peer, const struct channel_purpose *p)
{
    struct data_channel *d = all->data;
    while (d != NULL &&
           !(d->state == state && d->peer == peer && d->purpose.subject == p->subject &&
             d->purpose.epoch == p->epoch && d->purpose.index == p->index)) {
        d = d->next;
    }
    return d;
}

static void entry_opened(struct data_channel *d, struct channel *channel)
{
    struct peers *all = d->owner;
    struct channel_purpose p = d->purpose;
    entry_free(d);
    all->options.channels->opened(all->options.arg, &p, channel, NULL);
}

/* The owner is told in a turn of its own; nobody, of a ticket. */
static void entry_fail(struct data_channel *d, const char *why)
{
    char label[PEER_LABEL];
    if (d->state == DATA_ISSUED) {
        entry_free(d);
        return;
    }
    release(d);
    d->state = DATA_FAILED;
    fail(&d->failure, FAIL_CLOSED, "data channel to %s: %s", peer_label(d->peer, label), why);
    event_active(d->owner->ended, 0, 0);
}

void data_tell_failed(struct peers *all)
{
    for (struct data_channel *d = all->data; d != NULL;) {
        if (d->state != DATA_FAILED) {
            d = d->next;
            continue;
        }
        struct channel_purpose p = d->purpose;
        struct error e = d->failure;
        entry_free(d);
        all->options.channels->opened(all->options.arg, &p, NULL, &e);
        d = all->data; /* the owner may have forgotten others */
    }
}

/* A connected socket as a channel; takes fd also on failure. */
static int make_channel(struct channel **ret, evutil_socket_t fd, size_t max_message,
                        const struct seal_keys *keys, struct error *e)
{
    struct channel *plain = NULL;
    const struct channel_options options = { .max_message = max_message != 0
                                                                ? max_message + SEAL_OVERHEAD
                                                                : 0 };
    int code = tcp_from_fd(&plain, (int)fd, &options, e);
    return code ? code : channel_seal(ret, plain, keys, e);
}

/* --- opening --- */

static void ask_ticket(struct data_channel *d)
{
    const struct ticket_request r = { d->purpose.subject, d->purpose.epoch, d->purpose.index,
                                      d->shm_tries > 0 };
    d->state = DATA_WAIT_TICKET;
    peer_send(d->peer, ticket_request_json(&r));
}

void peer_channel_open(struct peer *to, const struct channel_purpose *p, size_t max_message)
{
    struct peers *all = to->owner;
    struct data_channel *d = entry_new(to, p, max_message);
    struct error e = { 0 };
    if (d == NULL) {
        /* Without memory for a note of it there is none to tell of it later; the owner's deadline
         * for its channels is what is left. */
        log_error("cluster", "no memory for a data channel");
    } else if (to->link != NULL) {
        ask_ticket(d);
    } else if (!link_dialing(all, to->id) && link_dial(all, to->address, to->id, &e) != 0) {
        entry_fail(d, e.text);
    }
}

void data_peer_ready(struct peers *all, struct peer *p)
{
    for (struct data_channel *d = all->data; d != NULL; d = d->next) {
        if (d->state == DATA_WAIT_LINK && d->peer == p) {
            ask_ticket(d);
        }
    }
}

static void on_accepted(evutil_socket_t fd, short what, void *arg)
{
    struct data_channel *d = arg;
    struct channel *channel = NULL;
    struct error e = { 0 };
    char answer = 0;
    ssize_t n = (what & EV_READ) != 0 ? recv((int)fd, &answer, 1, MSG_DONTWAIT) : 0;
    if (n != 1 || answer != ACCEPTED) {
        entry_fail(d,
                   (what & EV_TIMEOUT) != 0 ? "no answer to the ticket" : "the ticket was refused");
        return;
    }
    d->fd = -1; /* the channel's from here on */
    if (make_channel(&channel, fd, d->max_message, &d->keys, &e) != 0) {
        entry_fail(d, e.text);
    } else {
        entry_opened(d, channel);
    }
}

/* The preamble has left. */
static void on_written(struct bufferevent *bev, void *arg)
{
    const struct timeval limit = { ANSWER_S, 0 };
    struct data_channel *d = arg;
    d->fd = bufferevent_getfd(bev);
    bufferevent_disable(bev, EV_READ | EV_WRITE);
    bufferevent_setfd(bev, -1);
    bufferevent_free(bev);
    d->bev = NULL;
    d->state = DATA_ANSWER;
    d->answered = event_new(d->owner->base, d->fd, EV_READ, on_accepted, d);
    if (d->answered == NULL || event_add(d->answered, &limit) != 0) {
        entry_fail(d, "no memory for an event");
    }
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    if (!(what & BEV_EVENT_CONNECTED)) {
        entry_fail(arg, evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
    }
    (void)bev;
}

static int connect_data(struct data_channel *d, const uint8_t ticket[static TICKET_BYTES],
                        struct error *e)
{
    struct resolved to;
    uint8_t preamble[PREAMBLE_BYTES];
    int code = security_preamble(link_ssl(d->peer->link), ticket, preamble, &d->keys, e);
    code = code ? code : link_address_of(d->owner, d->peer->address, &to, e);
    if (code != 0) {
        return code;
    }
    d->bev = bufferevent_socket_new(d->owner->base, -1, BEV_OPT_DEFER_CALLBACKS);
    if (d->bev == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a connection");
    }
    d->state = DATA_CONNECTING;
    bufferevent_setcb(d->bev, NULL, on_written, on_event, d);
    bufferevent_enable(d->bev, EV_WRITE);
    bufferevent_write(d->bev, preamble, sizeof preamble);
    return bufferevent_socket_connect(d->bev, (struct sockaddr *)&to.address, (int)to.size) == 0
               ? 0
               : fail(e, FAIL_IO, "the address can't be reached");
}

/* --- opening over shared memory --- */

static void show_no_shm(const struct data_channel *d, const char *why)
{
    char label[PEER_LABEL];
    log_debug("cluster", "no shared memory with %s: %s", peer_label(d->peer, label), why);
}

/* The ticket may be spent: another one is asked for. */
static void on_answer(evutil_socket_t fd, short what, void *arg)
{
    struct data_channel *d = arg;
    struct channel *channel = NULL;
    struct error e = { 0 };
    struct shm_offer *offer = d->offer;
    d->offer = NULL;
    release(d);
    if (shm_offer_finish(&channel, offer, d->keys.recv_key, &e) == 0) {
        entry_opened(d, channel);
    } else {
        show_no_shm(d, e.text);
        d->shm_tries = 0;
        ask_ticket(d);
    }
    (void)fd;
    (void)what;
}

/* False when it has to be TCP. */
static bool offer_shm(struct data_channel *d, const char *token,
                      const uint8_t ticket[static TICKET_BYTES])
{
    _Static_assert(sizeof d->keys.recv_key == SHM_ANSWER, "a key serves as answer");
    const struct timeval limit = { ANSWER_S, 0 };
    const struct channel_options options = { .max_message = d->max_message };
    uint8_t preamble[PREAMBLE_BYTES];
    struct error e = { 0 };
    /* Nothing is sealed, since memory does not leave the host: the keys only prove the peer. */
    int code = security_preamble(link_ssl(d->peer->link), ticket, preamble, &d->keys, &e);
    code = code ? code : shm_offer(&d->offer, token, preamble, &options, &e);
    if (code == FAIL_BUSY && --d->shm_tries > 0) {
        /* By the time that it answers it has looked at its door, too. */
        ask_ticket(d);
        return true;
    }
    if (code == 0) {
        d->answered = event_new(d->owner->base, shm_offer_fd(d->offer), EV_READ, on_answer, d);
        if (d->answered != NULL && event_add(d->answered, &limit) == 0) {
            d->state = DATA_OFFERING;
            return true;
        }
        fail(&e, FAIL_NOMEM, "memory for an event");
    }
    release(d);
    show_no_shm(d, e.text);
    return false;
}

/* --- tickets --- */

/* A ticket for a purpose that was checked; an earlier one for it is worth nothing any more. */
static int issue(struct peer *to, const struct channel_purpose *p, size_t max_message,
                 char text[static TICKET_HEX + 1], struct error *e)
{
    uint8_t ticket[TICKET_BYTES];
    struct data_channel *d = entry_find(to->owner, DATA_ISSUED, to, p);
    if (d != NULL) {
        entry_free(d);
    }
    d = entry_new(to, p, max_message);
    if (d == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a data channel");
    }
    d->state = DATA_ISSUED;
    d->id = ++to->owner->next_ticket;
    int code = security_issue(to->owner, link_ssl(to->link), d->id, ticket, e);
    if (code != 0) {
        entry_free(d);
        return code;
    }
    hex_format(text, ticket, TICKET_BYTES);
    return 0;
}

static struct channel_purpose purpose_of(int64_t subject, int64_t epoch, int index)
{
    return (struct channel_purpose){ subject, (uint32_t)epoch, index };
}

enum peer_verdict on_ticket_request(void *arg, struct peer *from, const void *fields,
                                    struct error *e)
{
    struct peers *all = arg;
    const struct ticket_request *r = fields;
    const struct channel_purpose p = purpose_of(r->subject, r->epoch, r->index);
    struct ticket_answer a = { r->subject, r->epoch, r->index, "", "", "" };
    struct error why = { 0 };
    size_t max_message = 0;
    if (from->link == NULL) {
        return PEER_DONE;
    }
    int code = all->options.channels->awaits(all->options.arg, from, &p, &max_message, &why);
    code = code ? code : issue(from, &p, max_message, a.ticket, &why);
    if (code != 0) {
        snprintf(a.error, sizeof a.error, "%s", why.text);
    } else if (all->door != NULL && r->shm) {
        memcpy(a.shm, all->door->token, sizeof a.shm);
    }
    peer_send(from, ticket_answer_json(&a));
    (void)e;
    return PEER_DONE;
}

enum peer_verdict on_ticket(void *arg, struct peer *from, const void *fields, struct error *e)
{
    const struct ticket_answer *a = fields;
    const struct channel_purpose p = purpose_of(a->subject, a->epoch, a->index);
    struct data_channel *d = entry_find(arg, DATA_WAIT_TICKET, from, &p);
    uint8_t ticket[TICKET_BYTES];
    struct error why = { 0 };
    if (d == NULL || from->link == NULL) {
        return PEER_DONE; /* given up a moment ago */
    }
    if (a->error[0] != '\0' || !hex_parse(ticket, sizeof ticket, bytes_text(a->ticket))) {
        entry_fail(d, a->error[0] != '\0' ? a->error : "the ticket is malformed");
    } else if ((a->shm[0] == '\0' || d->shm_tries == 0 || !offer_shm(d, a->shm, ticket)) &&
               connect_data(d, ticket, &why) != 0) {
        entry_fail(d, why.text);
    }
    (void)e;
    return PEER_DONE;
}

/* --- accepting --- */

/* What an open ticket is for; it is used up. */
static int redeem(struct peers *all, const uint8_t preamble[static PREAMBLE_BYTES],
                  struct channel_purpose *purpose, size_t *max_message, struct ticket_grant *grant,
                  struct error *e)
{
    int code = security_redeem(all, bytes_of(preamble, PREAMBLE_BYTES), grant, e);
    for (struct data_channel *d = code == 0 ? all->data : NULL; d != NULL; d = d->next) {
        if (d->state == DATA_ISSUED && d->id == grant->purpose) {
            *purpose = d->purpose;
            *max_message = d->max_message;
            entry_free(d);
            return 0;
        }
    }
    return code ? code : fail(e, FAIL_NOT_FOUND, "what it was for is gone");
}

void data_accept(struct peers *all, evutil_socket_t fd, const char *from)
{
    static const char accepted = ACCEPTED;
    uint8_t preamble[PREAMBLE_BYTES];
    struct ticket_grant grant;
    struct channel_purpose p;
    struct error e = { 0 };
    struct channel *channel = NULL;
    size_t max_message = 0;
    int code = tcp_read_all((int)fd, preamble, sizeof preamble, clock_now_ns(), &e);
    code = code ? code : redeem(all, preamble, &p, &max_message, &grant, &e);
    code = code ? code : tcp_write_all((int)fd, bytes_of(&accepted, 1), clock_now_ns(), &e);
    if (code != 0) {
        log_limited(LOG_WARN, "cluster", "data connection refused", from,
                    "data connection from %s refused: %s", from, e.text);
        evutil_closesocket(fd);
    } else if (make_channel(&channel, fd, max_message, &grant.keys, &e) != 0) {
        log_warn("cluster", "data connection: %s", e.text);
    } else {
        all->options.channels->came(all->options.arg, &p, channel);
    }
}

static void take_parcel(struct peers *all, struct shm_parcel *parcel)
{
    struct ticket_grant grant;
    struct channel_purpose p;
    struct error e = { 0 };
    struct channel *channel = NULL;
    size_t max_message = 0;
    if (redeem(all, parcel->preamble, &p, &max_message, &grant, &e) != 0) {
        log_limited(LOG_WARN, "cluster", "shared memory refused", "", "shared memory refused: %s",
                    e.text);
        shm_refuse(parcel);
        return;
    }
    const struct channel_options options = { .max_message = max_message };
    if (shm_join(&channel, parcel, grant.keys.send_key, &options, &e) != 0) {
        log_debug("cluster", "shared memory: %s", e.text);
    } else {
        all->options.channels->came(all->options.arg, &p, channel);
    }
}

static void on_door(evutil_socket_t fd, short what, void *arg)
{
    struct shm_parcel parcel;
    for (int i = 0; i < DOOR_TURN; i++) {
        int code = shm_take(&parcel, (int)fd, NULL);
        if (code == 0) {
            take_parcel(arg, &parcel);
        } else if (code != FAIL_FORMAT) {
            return;
        }
    }
    (void)what;
}

void data_listen(struct peers *all)
{
    struct error e = { 0 };
    if (all->options.seal) {
        return;
    }
    struct data_door *door = calloc(1, sizeof *door);
    int code = door != NULL ? shm_listen(&door->fd, door->token, &e)
                            : fail(&e, FAIL_NOMEM, "memory for the door");
    if (code == 0) {
        all->door = door;
        door->event = event_new(all->base, door->fd, EV_READ | EV_PERSIST, on_door, all);
        if (door->event != NULL && event_add(door->event, NULL) == 0) {
            return;
        }
        close_door(all);
        door = NULL;
        fail(&e, FAIL_NOMEM, "memory for an event");
    }
    log_debug("cluster", "data channels within this host go over TCP: %s", e.text);
    free(door);
}

/* --- giving up --- */

void data_peer_lost(struct peers *all, struct peer *p, const char *why)
{
    for (struct data_channel *d = all->data, *next; d != NULL; d = next) {
        next = d->next;
        if (d->peer == p && d->state != DATA_FAILED) {
            entry_fail(d, why);
        }
    }
}

void data_peer_unreached(struct peers *all, struct peer *p, const char *why)
{
    for (struct data_channel *d = all->data; d != NULL; d = d->next) {
        if (d->peer == p && d->state == DATA_WAIT_LINK) {
            entry_fail(d, why);
        }
    }
}

void peers_channels_forget(struct peers *all, int64_t subject, uint32_t epoch)
{
    for (struct data_channel *d = all->data, *next; d != NULL; d = next) {
        next = d->next;
        if (d->purpose.subject == subject && d->purpose.epoch == epoch) {
            entry_free(d);
        }
    }
}

void data_tick(struct peers *all)
{
    for (struct data_channel *d = all->data, *next; d != NULL; d = next) {
        next = d->next;
        if (all->now_ns >= d->until && d->state != DATA_FAILED) {
            entry_fail(d, "not opened in time");
        }
    }
}

void data_close_all(struct peers *all)
{
    close_door(all);
    while (all->data != NULL) {
        entry_free(all->data);
    }
}

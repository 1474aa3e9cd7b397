/* Data connections: asking for tickets, giving them, connecting, accepting.
 *
 * With a ticket comes the way to the issuer's door for shared memory. Whether both are on one host
 * is not guessed from addresses: the opener knocks, and only a process of the same host (and
 * network namespace) finds the door. Where that fails, the channel goes over TCP. */
#include "cluster/data.h"

#include <stdlib.h>

#include "cluster/link.h"
#include "cluster/part.h"
#include "cluster/security.h"
#include "os/clock.h"
#include "os/log.h"
#include "secure/text.h"
#include "transport/transport.h"

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>

/* Parcels of shared memory taken in one turn of the loop. */
#define DOOR_TURN 16
/* A peer that is alive takes shared memory within one turn of its loop. */
#define SHM_ANSWER_S 3
/* Tries at a door that others crowd. */
#define SHM_TRIES 8

enum data_state { DATA_WAIT_LINK, DATA_WAIT_TICKET, DATA_OFFERING, DATA_CONNECTING, DATA_ISSUED };

/* Where processes of this host bring shared memory. */
struct data_door {
    int fd;
    struct event *event;
    char token[SHM_TOKEN];
};

/* One connection that we open, or a ticket that we have issued and not seen yet. */
struct data_channel {
    struct cluster *owner;
    enum data_state state;
    struct data_purpose purpose;
    struct device *device;
    data_done done; /* NULL for DATA_ISSUED */
    uint64_t id;    /* the ticket's purpose, for DATA_ISSUED */
    uint64_t until;
    int shm_tries;           /* left; 0: by TCP */
    struct shm_offer *offer; /* DATA_OFFERING */
    struct event *answered;  /* DATA_OFFERING: its answer, or too late */
    struct bufferevent *bev; /* DATA_CONNECTING */
    struct seal_keys keys;
    struct data_channel *next;
};

static void close_door(struct cluster *c)
{
    if (c->door != NULL) {
        if (c->door->event != NULL) {
            event_free(c->door->event);
        }
        tcp_close(c->door->fd);
        free(c->door);
        c->door = NULL;
    }
}

static void offer_end(struct data_channel *d)
{
    if (d->answered != NULL) {
        event_free(d->answered);
        d->answered = NULL;
    }
    shm_offer_close(d->offer);
    d->offer = NULL;
}

static void entry_free(struct data_channel *d)
{
    struct data_channel **at = &d->owner->data;
    while (*at != d) {
        at = &(*at)->next;
    }
    *at = d->next;
    offer_end(d);
    if (d->bev != NULL) {
        evutil_socket_t fd = bufferevent_getfd(d->bev);
        bufferevent_free(d->bev);
        if (fd >= 0) {
            evutil_closesocket(fd);
        }
    }
    free(d);
}

static struct data_channel *entry_new(struct cluster *c, struct device *device,
                                      const struct data_purpose *p)
{
    struct data_channel *d = calloc(1, sizeof *d);
    if (d != NULL) {
        *d = (struct data_channel){ .owner = c,
                                    .device = device,
                                    .purpose = *p,
                                    .until = c->time.now_ns + CONNECT_NS,
                                    .shm_tries = c->options.seal ? 0 : SHM_TRIES,
                                    .next = c->data };
        c->data = d;
    }
    return d;
}

static struct data_channel *entry_find(const struct cluster *c, enum data_state state,
                                       const struct device *device, const struct data_purpose *p)
{
    struct data_channel *d = c->data;
    while (d != NULL &&
           !(d->state == state && d->device == device && d->purpose.placement == p->placement &&
             d->purpose.epoch == p->epoch && d->purpose.link == p->link)) {
        d = d->next;
    }
    return d;
}

/* Ends an entry of ours with a channel or an error. */
static void entry_done(struct data_channel *d, struct channel *channel, const struct error *e)
{
    struct cluster *c = d->owner;
    struct data_purpose p = d->purpose;
    data_done done = d->done;
    entry_free(d);
    if (done != NULL) {
        done(c, &p, channel, e);
    }
}

static void entry_fail(struct data_channel *d, const char *why)
{
    struct error e = { 0 };
    char label[DEVICE_LABEL];
    fail(&e, FAIL_CLOSED, "data channel to %s: %s", device_label(d->device, label), why);
    entry_done(d, NULL, &e);
}

/* A connected socket as a channel; takes fd also on failure. */
static int make_channel(struct channel **ret, evutil_socket_t fd, const struct seal_keys *keys,
                        struct error *e)
{
    struct channel *plain = NULL;
    int code = tcp_from_fd(&plain, fd, NULL, e);
    if (code != 0 || keys->cipher == SEAL_PLAIN) {
        *ret = plain;
        return code;
    }
    return channel_seal(ret, plain, keys, e);
}

/* --- opening --- */

static void ask_ticket(struct data_channel *d)
{
    d->state = DATA_WAIT_TICKET;
    link_send(d->device->link,
              data_request_json(&d->purpose, d->owner->options.seal, d->shm_tries > 0));
}

void data_open(struct cluster *c, struct device *to, const struct data_purpose *p, data_done done)
{
    struct data_channel *d = entry_new(c, to, p);
    struct error e = { 0 };
    if (d == NULL) {
        fail(&e, FAIL_NOMEM, "memory for a data channel");
        done(c, p, NULL, &e);
        return;
    }
    d->done = done;
    if (to->link != NULL) {
        ask_ticket(d);
    } else if (!link_dialing(c, to->id) && link_dial(c, to->address, to->id, &e) != 0) {
        /* A link that was refused at once has already ended the entry. */
        data_device_lost(c, to, e.text);
    }
}

void data_device_ready(struct cluster *c, struct device *device)
{
    for (struct data_channel *d = c->data; d != NULL; d = d->next) {
        if (d->state == DATA_WAIT_LINK && d->device == device) {
            ask_ticket(d);
        }
    }
}

/* The preamble has left: the socket becomes a channel. */
static void on_written(struct bufferevent *bev, void *arg)
{
    struct data_channel *d = arg;
    struct channel *channel = NULL;
    struct error e = { 0 };
    evutil_socket_t fd = bufferevent_getfd(bev);
    bufferevent_disable(bev, EV_READ | EV_WRITE);
    bufferevent_setfd(bev, -1);
    bufferevent_free(bev);
    d->bev = NULL;
    int code = make_channel(&channel, fd, &d->keys, &e);
    entry_done(d, channel, code != 0 ? &e : NULL);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    if (!(what & BEV_EVENT_CONNECTED)) {
        entry_fail(arg, evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
    }
    (void)bev;
}

static void connect_data(struct data_channel *d, const uint8_t ticket[static TICKET_BYTES],
                         bool seal)
{
    char host[ADDRESS_TEXT];
    int port = 0;
    uint8_t preamble[PREAMBLE_BYTES];
    struct error e = { 0 };
    int code = security_preamble(link_ssl(d->device->link), ticket, seal, preamble, &d->keys, &e);
    code = code ? code : address_parse(d->device->address, 1, host, &port, &e);
    if (code == 0 &&
        (d->bev = bufferevent_socket_new(d->owner->base, -1, BEV_OPT_DEFER_CALLBACKS)) == NULL) {
        code = fail(&e, FAIL_NOMEM, "memory for a connection");
    }
    if (code != 0) {
        entry_fail(d, e.text);
        return;
    }
    d->state = DATA_CONNECTING;
    bufferevent_setcb(d->bev, NULL, on_written, on_event, d);
    bufferevent_enable(d->bev, EV_WRITE);
    bufferevent_write(d->bev, preamble, sizeof preamble);
    if (bufferevent_socket_connect_hostname(d->bev, NULL, AF_UNSPEC, host, port) != 0) {
        entry_fail(d, "the address can't be reached");
    }
}

/* --- opening over shared memory --- */

static void show_no_shm(const struct data_channel *d, const char *why)
{
    char label[DEVICE_LABEL];
    log_debug("cluster", "no shared memory with %s: %s", device_label(d->device, label), why);
}

/* The ticket may be spent: another one is asked for. */
static void on_answer(evutil_socket_t fd, short what, void *arg)
{
    struct data_channel *d = arg;
    struct channel *channel = NULL;
    struct error e = { 0 };
    struct shm_offer *offer = d->offer;
    d->offer = NULL;
    offer_end(d);
    if (shm_offer_finish(&channel, offer, d->keys.recv_key, &e) == 0) {
        entry_done(d, channel, NULL);
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
    const struct timeval limit = { SHM_ANSWER_S, 0 };
    uint8_t preamble[PREAMBLE_BYTES];
    struct error e = { 0 };
    /* Nothing is sealed, since memory does not leave the host: the keys only prove the peer. */
    int code = security_preamble(link_ssl(d->device->link), ticket, true, preamble, &d->keys, &e);
    code = code ? code : shm_offer(&d->offer, token, preamble, NULL, &e);
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
    offer_end(d);
    show_no_shm(d, e.text);
    return false;
}

/* --- tickets --- */

/* A ticket for a purpose that was checked; an earlier one for it is worth nothing any more. */
static int issue(struct cluster *c, struct device *to, const struct data_purpose *p,
                 struct data_ticket *r, struct error *e)
{
    uint8_t ticket[TICKET_BYTES];
    struct data_channel *d = entry_find(c, DATA_ISSUED, to, p);
    if (d != NULL) {
        entry_free(d);
    }
    d = entry_new(c, to, p);
    if (d == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a data channel");
    }
    d->state = DATA_ISSUED;
    d->id = ++c->next_ticket;
    int code = security_issue(c, link_ssl(to->link), d->id, r->seal, ticket, e);
    if (code != 0) {
        entry_free(d);
        return code;
    }
    hex_format(r->ticket, ticket, TICKET_BYTES);
    return 0;
}

int on_ticket_request(struct cluster *c, struct device *from, const json_t *m, struct error *e)
{
    struct data_purpose p = { 0 };
    int code = data_purpose_parse(m, &p, e);
    if (code != 0 || from->link == NULL) {
        return code;
    }
    bool forced = c->options.seal || message_flag(m, "seal");
    struct data_ticket r = { .seal = forced || !link_is_local(from->link) };
    struct error why = { 0 };
    code = part_expects(c, from, p.placement, p.epoch, p.link, &why);
    code = code ? code : issue(c, from, &p, &r, &why);
    if (code != 0) {
        snprintf(r.error, sizeof r.error, "%s", why.text);
    } else if (c->door != NULL && !forced && message_flag(m, "shm")) {
        memcpy(r.shm, c->door->token, sizeof r.shm);
    }
    link_send(from->link, data_ticket_json(&p, &r));
    return 0;
}

int on_ticket(struct cluster *c, struct device *from, const json_t *m, struct error *e)
{
    struct data_purpose p = { 0 };
    struct data_ticket r;
    uint8_t ticket[TICKET_BYTES];
    int code = data_purpose_parse(m, &p, e);
    code = code ? code : data_ticket_parse(m, &r, e);
    struct data_channel *d = code == 0 ? entry_find(c, DATA_WAIT_TICKET, from, &p) : NULL;
    if (d == NULL) {
        return code;
    }
    if (r.error[0] != '\0' || !hex_parse(ticket, sizeof ticket, bytes_text(r.ticket))) {
        entry_fail(d, r.error[0] != '\0' ? r.error : "the ticket is malformed");
    } else if (r.shm[0] == '\0' || d->shm_tries == 0 || !offer_shm(d, r.shm, ticket)) {
        connect_data(d, ticket, r.seal);
    }
    return 0;
}

/* --- accepting --- */

/* The purpose of an open ticket, which is used up. */
static int redeem(struct cluster *c, const uint8_t preamble[static PREAMBLE_BYTES],
                  struct data_purpose *purpose, struct ticket_grant *grant, struct error *e)
{
    int code = security_redeem(c, bytes_of(preamble, PREAMBLE_BYTES), grant, e);
    for (struct data_channel *d = code == 0 ? c->data : NULL; d != NULL; d = d->next) {
        if (d->state == DATA_ISSUED && d->id == grant->purpose) {
            *purpose = d->purpose;
            entry_free(d);
            return 0;
        }
    }
    return code ? code : fail(e, FAIL_NOT_FOUND, "its placement is gone");
}

void data_accept(struct cluster *c, evutil_socket_t fd)
{
    uint8_t preamble[PREAMBLE_BYTES];
    struct ticket_grant grant;
    struct data_purpose p;
    struct error e = { 0 };
    struct channel *channel = NULL;
    int code = tcp_read_all(fd, preamble, sizeof preamble, clock_now_ns(), &e);
    code = code ? code : redeem(c, preamble, &p, &grant, &e);
    if (code != 0) {
        log_warn("cluster", "data connection refused: %s", e.text);
        evutil_closesocket(fd);
    } else if (make_channel(&channel, fd, &grant.keys, &e) != 0) {
        log_warn("cluster", "data connection: %s", e.text);
    } else {
        part_channel(c, p.placement, p.epoch, p.link, channel);
    }
}

static void take_parcel(struct cluster *c, struct shm_parcel *parcel)
{
    struct ticket_grant grant;
    struct data_purpose p;
    struct error e = { 0 };
    struct channel *channel = NULL;
    if (redeem(c, parcel->preamble, &p, &grant, &e) != 0) {
        log_warn("cluster", "shared memory refused: %s", e.text);
        shm_refuse(parcel);
    } else if (shm_join(&channel, parcel, grant.keys.send_key, NULL, &e) != 0) {
        log_debug("cluster", "shared memory: %s", e.text);
    } else {
        part_channel(c, p.placement, p.epoch, p.link, channel);
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

void data_listen(struct cluster *c)
{
    struct error e = { 0 };
    if (c->options.seal) {
        return;
    }
    struct data_door *door = calloc(1, sizeof *door);
    int code = door != NULL ? shm_listen(&door->fd, door->token, &e)
                            : fail(&e, FAIL_NOMEM, "memory for the door");
    if (code == 0) {
        c->door = door;
        door->event = event_new(c->base, door->fd, EV_READ | EV_PERSIST, on_door, c);
        if (door->event != NULL && event_add(door->event, NULL) == 0) {
            return;
        }
        close_door(c);
        door = NULL;
        fail(&e, FAIL_NOMEM, "memory for an event");
    }
    log_debug("cluster", "data channels within this host go over TCP: %s", e.text);
    free(door);
}

/* --- giving up --- */

void data_device_lost(struct cluster *c, struct device *device, const char *why)
{
    /* done may end other entries, so the list is read afresh after each. */
    for (struct data_channel *d = c->data; d != NULL;) {
        if (d->device != device) {
            d = d->next;
            continue;
        }
        if (d->done != NULL) {
            entry_fail(d, why);
        } else {
            entry_free(d);
        }
        d = c->data;
    }
}

void data_forget(struct cluster *c, int64_t placement, uint32_t epoch)
{
    for (struct data_channel *d = c->data, *next; d != NULL; d = next) {
        next = d->next;
        if (d->purpose.placement == placement && d->purpose.epoch == epoch) {
            entry_free(d);
        }
    }
}

void data_tick(struct cluster *c)
{
    uint64_t now = c->time.now_ns;
    for (struct data_channel *d = c->data; d != NULL;) {
        if (now < d->until) {
            d = d->next;
            continue;
        }
        if (d->done != NULL) {
            entry_fail(d, "not opened in time");
        } else {
            entry_free(d);
        }
        d = c->data;
    }
}

void data_close_all(struct cluster *c)
{
    close_door(c);
    while (c->data != NULL) {
        entry_free(c->data);
    }
}

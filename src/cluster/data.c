/* Data connections: asking for tickets, giving them, connecting, accepting. */
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

#define TICKET_HEX (2 * TICKET_BYTES)

enum data_state { DATA_WAIT_LINK, DATA_WAIT_TICKET, DATA_CONNECTING, DATA_ISSUED };

/* One connection that we open, or a ticket that we have issued and not seen yet. */
struct data_channel {
    struct cluster *owner;
    enum data_state state;
    struct data_purpose purpose;
    struct device *device;
    data_done done; /* NULL for DATA_ISSUED */
    uint64_t id;    /* the ticket's purpose, for DATA_ISSUED */
    uint64_t until;
    struct bufferevent *bev; /* DATA_CONNECTING */
    struct seal_keys keys;
    struct data_channel *next;
};

static void entry_free(struct data_channel *d)
{
    struct data_channel **at = &d->owner->data;
    while (*at != d) {
        at = &(*at)->next;
    }
    *at = d->next;
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
                                    .until = clock_now_ns() + CONNECT_NS,
                                    .next = c->data };
        c->data = d;
    }
    return d;
}

/* Ends an entry of ours with an error. */
static void entry_fail(struct data_channel *d, const char *why)
{
    struct cluster *c = d->owner;
    struct data_purpose p = d->purpose;
    data_done done = d->done;
    struct error e = { 0 };
    char label[DEVICE_LABEL];
    fail(&e, ERR_CLOSED, "data channel to %s: %s", device_label(d->device, label), why);
    entry_free(d);
    if (done != NULL) {
        done(c, &p, NULL, &e);
    }
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
              json_pack("{s:s, s:I, s:I, s:i, s:b}", "type", "ticket_request", "placement",
                        (json_int_t)d->purpose.placement, "epoch", (json_int_t)d->purpose.epoch,
                        "link", d->purpose.link, "seal", (int)d->owner->options.seal));
}

void data_open(struct cluster *c, struct device *to, const struct data_purpose *p, data_done done)
{
    struct data_channel *d = entry_new(c, to, p);
    struct error e = { 0 };
    if (d == NULL) {
        fail(&e, ERR_NOMEM, "memory for a data channel");
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
    struct cluster *c = d->owner;
    struct channel *channel = NULL;
    struct error e = { 0 };
    struct data_purpose p = d->purpose;
    data_done done = d->done;
    evutil_socket_t fd = bufferevent_getfd(bev);
    bufferevent_disable(bev, EV_READ | EV_WRITE);
    bufferevent_setfd(bev, -1);
    bufferevent_free(bev);
    d->bev = NULL;
    int code = make_channel(&channel, fd, &d->keys, &e);
    entry_free(d);
    done(c, &p, channel, code != 0 ? &e : NULL);
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
        code = fail(&e, ERR_NOMEM, "memory for a connection");
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

/* --- tickets --- */

static int read_purpose(const json_t *m, struct data_purpose *ret, struct error *e)
{
    int64_t epoch = 0;
    int code = message_integer(m, "placement", 1, INT64_MAX, &ret->placement, e);
    code = code ? code : message_integer(m, "epoch", 1, UINT32_MAX, &epoch, e);
    code = code ? code : message_int(m, "link", 0, WIRE_MAX_LINKS - 1, &ret->link, e);
    ret->epoch = (uint32_t)epoch;
    return code;
}

static void send_ticket(struct device *to, const struct data_purpose *p, const char *ticket,
                        bool seal, const char *error)
{
    link_send(to->link,
              json_pack("{s:s, s:I, s:I, s:i, s:s, s:b, s:s}", "type", "ticket", "placement",
                        (json_int_t)p->placement, "epoch", (json_int_t)p->epoch, "link", p->link,
                        "ticket", ticket, "seal", (int)seal, "error", error));
}

int on_ticket_request(struct cluster *c, struct device *from, const json_t *m, struct error *e)
{
    struct data_purpose p = { 0 };
    int code = read_purpose(m, &p, e);
    if (code != 0 || from->link == NULL) {
        return code;
    }
    bool seal = c->options.seal || message_flag(m, "seal") || !link_is_local(from->link);
    uint8_t ticket[TICKET_BYTES];
    char text[TICKET_HEX + 1] = "";
    struct error why = { 0 };
    struct data_channel *d = NULL;
    code = part_expects(c, from, p.placement, p.epoch, p.link, &why);
    if (code == 0 && (d = entry_new(c, from, &p)) == NULL) {
        code = fail(&why, ERR_NOMEM, "memory for a data channel");
    }
    if (code == 0) {
        d->state = DATA_ISSUED;
        d->id = ++c->next_ticket;
        code = security_issue(c, link_ssl(from->link), d->id, seal, ticket, &why);
    }
    if (code == 0) {
        hex_format(text, ticket, TICKET_BYTES);
    } else if (d != NULL) {
        entry_free(d);
    }
    send_ticket(from, &p, text, seal, why.text);
    return 0;
}

int on_ticket(struct cluster *c, struct device *from, const json_t *m, struct error *e)
{
    struct data_purpose p = { 0 };
    const char *text = "", *error = "";
    uint8_t ticket[TICKET_BYTES];
    int code = read_purpose(m, &p, e);
    code = code ? code : message_text(m, "ticket", TICKET_HEX, &text, e);
    code = code ? code : message_text(m, "error", ERROR_TEXT - 1, &error, e);
    struct data_channel *d = code == 0 ? c->data : NULL;
    while (d != NULL && !(d->state == DATA_WAIT_TICKET && d->device == from &&
                          d->purpose.placement == p.placement && d->purpose.epoch == p.epoch &&
                          d->purpose.link == p.link)) {
        d = d->next;
    }
    if (d == NULL) {
        return code;
    }
    if (error[0] != '\0' || !hex_parse(ticket, sizeof ticket, bytes_text(text))) {
        entry_fail(d, error[0] != '\0' ? error : "the ticket is malformed");
        return 0;
    }
    connect_data(d, ticket, message_flag(m, "seal"));
    return 0;
}

/* --- accepting --- */

void data_accept(struct cluster *c, evutil_socket_t fd)
{
    uint8_t preamble[PREAMBLE_BYTES];
    struct ticket_grant grant;
    struct error e = { 0 };
    struct data_channel *d = NULL;
    int code = tcp_read_all(fd, preamble, sizeof preamble, clock_now_ns(), &e);
    code = code ? code : security_redeem(c, bytes_of(preamble, sizeof preamble), &grant, &e);
    for (d = code == 0 ? c->data : NULL; d != NULL; d = d->next) {
        if (d->state == DATA_ISSUED && d->id == grant.purpose) {
            break;
        }
    }
    if (d == NULL) {
        log_warn("cluster", "data connection refused: %s",
                 code != 0 ? e.text : "its placement is gone");
        evutil_closesocket(fd);
        return;
    }
    struct data_purpose p = d->purpose;
    struct channel *channel = NULL;
    entry_free(d);
    if (make_channel(&channel, fd, &grant.keys, &e) != 0) {
        log_warn("cluster", "data connection: %s", e.text);
        return;
    }
    part_channel(c, p.placement, p.epoch, p.link, channel);
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

void data_forget(struct cluster *c, int64_t placement)
{
    for (struct data_channel *d = c->data, *next; d != NULL; d = next) {
        next = d->next;
        if (d->purpose.placement == placement) {
            entry_free(d);
        }
    }
}

void data_tick(struct cluster *c)
{
    uint64_t now = clock_now_ns();
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
    while (c->data != NULL) {
        entry_free(c->data);
    }
}

/* Accepting peers: a control connection or a data connection, told by the first bytes. */
#include "peer/listen.h"

#include <stdlib.h>

#include "os/log.h"
#include "peer/data.h"
#include "peer/link.h"
#include "peer/pool.h"
#include "secure/listener.h"
#include "transport/transport.h"

#include <event2/event.h>
#include <event2/listener.h>
#include <string.h>

/* Connections that have not said anything yet. */
#define MAX_GUESTS 64
/* A preamble that comes in pieces is looked at again after this. */
#define PIECE_WAIT_US 20000

struct guest {
    struct peers *owner;
    evutil_socket_t fd;
    struct event *event;
    char from[ADDRESS_TEXT];
    uint64_t since_ns;
    struct guest *next;
};

/* Takes the guest out of the list; its descriptor stays open. */
static void guest_free(struct guest *g)
{
    struct guest **at = &g->owner->guests;
    while (*at != g) {
        at = &(*at)->next;
    }
    *at = g->next;
    if (g->event != NULL) {
        event_free(g->event);
    }
    free(g);
}

static void on_guest(evutil_socket_t fd, short what, void *arg)
{
    struct guest *g = arg;
    struct peers *all = g->owner;
    enum listener_kind kind = LISTENER_UNKNOWN;
    (void)what;
    if (listener_peek(&kind, fd, NULL) != 0) {
        guest_free(g);
        evutil_closesocket(fd);
    } else if (kind == LISTENER_TLS) {
        char from[ADDRESS_TEXT];
        uint64_t since = g->since_ns;
        memcpy(from, g->from, sizeof from);
        guest_free(g);
        link_accept(all, fd, from, since);
    } else if (kind == LISTENER_DATA) {
        char from[ADDRESS_TEXT];
        memcpy(from, g->from, sizeof from);
        guest_free(g);
        data_accept(all, fd, from);
    } else {
        /* Half a preamble: the socket stays readable, so only time is waited for. */
        const struct timeval pause = { 0, PIECE_WAIT_US };
        event_free(g->event);
        g->event = event_new(all->base, fd, EV_TIMEOUT, on_guest, g);
        if (g->event == NULL || event_add(g->event, &pause) != 0) {
            guest_free(g);
            evutil_closesocket(fd);
        }
    }
}

/* One that said nothing gives way where there are `most` of them. */
static void make_room(struct peers *all, int most)
{
    struct pool_place places[MAX_GUESTS];
    struct guest *guests[MAX_GUESTS];
    int n = 0;
    for (struct guest *g = all->guests; g != NULL && n < MAX_GUESTS; g = g->next) {
        places[n] = (struct pool_place){ .since_ns = g->since_ns };
        address_source(g->from, places[n].source);
        places[n].known = source_is_known(all, places[n].source);
        guests[n++] = g;
    }
    if (n < most) {
        return;
    }
    int i = pool_yields(places, n);
    evutil_socket_t fd = guests[i]->fd;
    log_limited(LOG_WARN, "cluster", "too many silent connections", places[i].source,
                "%d connections say nothing: one from %s makes room", n, places[i].source);
    guest_free(guests[i]);
    evutil_closesocket(fd);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                      int size, void *arg)
{
    struct peers *all = arg;
    (void)listener;
    (void)size;
    make_room(all, MAX_GUESTS);
    struct guest *g = calloc(1, sizeof *g);
    if (g != NULL) {
        g->event = event_new(all->base, fd, EV_READ, on_guest, g);
    }
    if (g == NULL || g->event == NULL || event_add(g->event, NULL) != 0) {
        if (g != NULL && g->event != NULL) {
            event_free(g->event);
        }
        free(g);
        evutil_closesocket(fd);
        return;
    }
    g->owner = all;
    g->fd = fd;
    g->since_ns = all->now_ns;
    address_of(address, g->from);
    g->next = all->guests;
    all->guests = g;
}

/* Descriptors or memory have ended: the port rests until the next tick instead of being asked again
 * at once and for ever, and one that says nothing gives its descriptor back. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
    struct peers *all = arg;
    log_limited(LOG_WARN, "cluster", "no connection can be accepted", "",
                "no connection can be accepted at the peer port: %s",
                evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
    evconnlistener_disable(listener);
    all->listener_rests = true;
    make_room(all, 1);
}

int listen_open(struct peers *all, struct error *e)
{
    int fd = -1;
    int code = tcp_listen(&fd, NULL, all->options.port, e);
    if (code == FAIL_BUSY) {
        return fail(
            e, code,
            "peer port %d is taken (another shoal up?): give another one by --port N (peers "
            "then use N + 1) or --peer-port N",
            all->options.port);
    }
    int port = code == 0 ? tcp_local_port(fd, e) : code;
    if (port < 0) {
        return port;
    }
    evutil_make_socket_nonblocking(fd);
    all->listener = evconnlistener_new(all->base, on_accept, all,
                                       LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
    if (all->listener == NULL) {
        evutil_closesocket(fd);
        return fail(e, FAIL_NOMEM, "memory for the peer port");
    }
    evconnlistener_set_error_cb(all->listener, on_accept_error);
    peers_self(all)->port = port;
    return 0;
}

void listen_tick(struct peers *all)
{
    if (all->listener_rests && all->listener != NULL) {
        all->listener_rests = evconnlistener_enable(all->listener) != 0;
    }
    for (struct guest *g = all->guests, *next; g != NULL; g = next) {
        next = g->next;
        if (all->now_ns - g->since_ns > HANDSHAKE_NS) {
            evutil_socket_t fd = g->fd;
            guest_free(g);
            evutil_closesocket(fd);
        }
    }
}

void listen_close(struct peers *all)
{
    if (all->listener != NULL) {
        evconnlistener_free(all->listener);
        all->listener = NULL;
    }
    while (all->guests != NULL) {
        evutil_socket_t fd = all->guests->fd;
        guest_free(all->guests);
        evutil_closesocket(fd);
    }
}

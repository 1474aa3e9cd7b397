/* Accepting peers: a control connection or a data connection, told by the first bytes. */
#include "cluster/listen.h"

#include <stdlib.h>

#include "cluster/data.h"
#include "cluster/link.h"
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
    struct cluster *owner;
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
    event_free(g->event);
    free(g);
}

static void on_guest(evutil_socket_t fd, short what, void *arg)
{
    struct guest *g = arg;
    struct cluster *c = g->owner;
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
        link_accept(c, fd, from, since);
    } else if (kind == LISTENER_DATA) {
        guest_free(g);
        data_accept(c, fd);
    } else {
        /* Half a preamble: the socket stays readable, so only time is waited for. */
        const struct timeval pause = { 0, PIECE_WAIT_US };
        event_free(g->event);
        g->event = evtimer_new(c->base, on_guest, g);
        event_assign(g->event, c->base, fd, EV_TIMEOUT, on_guest, g);
        event_add(g->event, &pause);
    }
}

static void address_of(const struct sockaddr *a, char text[static ADDRESS_TEXT])
{
    char host[ADDRESS_TEXT] = "unknown";
    int port = 0;
    if (a->sa_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)a;
        evutil_inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
        port = ntohs(v4->sin_port);
    } else if (a->sa_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)a;
        evutil_inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
        port = ntohs(v6->sin6_port);
    }
    bool mapped = strncmp(host, "::ffff:", 7) == 0 && strchr(host, '.') != NULL;
    address_join(mapped ? host + 7 : host, port, text);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                      int size, void *arg)
{
    struct cluster *c = arg;
    int n = 0;
    (void)listener;
    (void)size;
    for (const struct guest *g = c->guests; g != NULL; g = g->next) {
        n++;
    }
    struct guest *g = n < MAX_GUESTS ? calloc(1, sizeof *g) : NULL;
    if (g != NULL) {
        g->event = event_new(c->base, fd, EV_READ, on_guest, g);
    }
    if (g == NULL || g->event == NULL) {
        free(g);
        evutil_closesocket(fd);
        return;
    }
    g->owner = c;
    g->fd = fd;
    g->since_ns = c->time.now_ns;
    address_of(address, g->from);
    g->next = c->guests;
    c->guests = g;
    event_add(g->event, NULL);
}

int listen_open(struct cluster *c, struct error *e)
{
    int fd = -1;
    int code = tcp_listen(&fd, NULL, c->options.peer_port, e);
    if (code == FAIL_BUSY) {
        return fail(
            e, code,
            "peer port %d is taken (another shoal up?): give another one by --port N (peers "
            "then use N + 1) or --peer-port N",
            c->options.peer_port);
    }
    int port = code == 0 ? tcp_local_port(fd, e) : code;
    if (port < 0) {
        return port;
    }
    evutil_make_socket_nonblocking(fd);
    c->listener = evconnlistener_new(c->base, on_accept, c,
                                     LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
    if (c->listener == NULL) {
        evutil_closesocket(fd);
        return fail(e, FAIL_NOMEM, "memory for the peer port");
    }
    c->self->peer_port = port;
    return 0;
}

void listen_tick(struct cluster *c)
{
    for (struct guest *g = c->guests, *next; g != NULL; g = next) {
        next = g->next;
        if (c->time.now_ns - g->since_ns > HANDSHAKE_NS) {
            evutil_socket_t fd = g->fd;
            guest_free(g);
            evutil_closesocket(fd);
        }
    }
}

void listen_close(struct cluster *c)
{
    if (c->listener != NULL) {
        evconnlistener_free(c->listener);
        c->listener = NULL;
    }
    while (c->guests != NULL) {
        evutil_socket_t fd = c->guests->fd;
        guest_free(c->guests);
        evutil_closesocket(fd);
    }
}

/* The HTTP server: listening, bounds, closing. */
#include "api/server.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <stdlib.h>
#include <string.h>

#include "api/connection.h"
#include "os/clock.h"
#include "os/log.h"

/* How long accepting pauses after it failed, for want of descriptors mostly. */
#define RETRY_S 1
#define BACKLOG 512
/* How long the last answers are waited for in one turn of the loop. */
#define FINISH_TURN_US 20000

struct server {
    struct connections set;
    struct evconnlistener *listeners[2];
    struct event *retry; /* after a failed accept */
    bool paused;         /* the listeners are */
    int port;
};

static void listeners_enable(struct server *s, bool on)
{
    s->paused = !on;
    for (int i = 0; i < 2; i++) {
        if (s->listeners[i] != NULL && on) {
            evconnlistener_enable(s->listeners[i]);
        } else if (s->listeners[i] != NULL) {
            evconnlistener_disable(s->listeners[i]);
        }
    }
}

int server_adopt(struct server *s, evutil_socket_t fd)
{
    int most = s->set.options.max_connections;
    int code = connection_open(&s->set, fd);
    if (code != 0 || s->set.n <= most) {
        return code;
    }
    if (connections_make_room(&s->set)) {
        log_limited(LOG_WARN, "api", "connections taken", "",
                    "all %d connections are taken: the idlest one was closed", most);
    } else { /* all are being answered: nobody else is taken */
        listeners_enable(s, false);
    }
    return code;
}

static void on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *from, int size,
                      void *arg)
{
    server_adopt(arg, fd);
}

static void on_accept_error(struct evconnlistener *l, void *arg)
{
    struct server *s = arg;
    struct timeval pause = { .tv_sec = RETRY_S };
    log_limited(LOG_WARN, "api", "accepting fails", "", "accepting a connection: %s",
                evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
    listeners_enable(s, false);
    event_add(s->retry, &pause);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    struct server *s = arg;
    listeners_enable(s, true);
}

static void on_changed(void *arg)
{
    struct server *s = arg;
    if (s->paused && !evtimer_pending(s->retry, NULL)) {
        listeners_enable(s, true);
    }
}

static int bound_port(struct evconnlistener *l)
{
    struct sockaddr_storage address = { 0 };
    ev_socklen_t size = sizeof address;
    if (getsockname(evconnlistener_get_fd(l), (struct sockaddr *)&address, &size) != 0) {
        return 0;
    }
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

static struct evconnlistener *listen_on(struct server *s, const char *host, int port)
{
    struct sockaddr_storage address = { 0 };
    int size = sizeof address;
    if (evutil_parse_sockaddr_port(host, (struct sockaddr *)&address, &size) != 0) {
        return NULL;
    }
    unsigned flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE;
    if (address.ss_family == AF_INET6) {
        ((struct sockaddr_in6 *)&address)->sin6_port = htons((uint16_t)port);
        flags |= LEV_OPT_BIND_IPV6ONLY;
    } else {
        ((struct sockaddr_in *)&address)->sin_port = htons((uint16_t)port);
    }
    struct evconnlistener *l = evconnlistener_new_bind(s->set.options.base, on_accept, s, flags,
                                                       BACKLOG, (struct sockaddr *)&address, size);
    if (l != NULL) {
        evconnlistener_set_error_cb(l, on_accept_error);
    }
    return l;
}

static void fill_defaults(struct server_options *o)
{
    o->max_connections = o->max_connections > 0 ? o->max_connections : 512;
    o->max_body = o->max_body > 0 ? o->max_body : (size_t)8 << 20;
    o->max_bodies = o->max_bodies > 0 ? o->max_bodies : (size_t)256 << 20;
    o->max_answers = o->max_answers > 0 ? o->max_answers : (size_t)512 << 20;
    o->max_waiting = o->max_waiting > 0 ? o->max_waiting : (size_t)1 << 20;
    o->head_timeout_ms = o->head_timeout_ms > 0 ? o->head_timeout_ms : 15000;
    o->body_timeout_ms = o->body_timeout_ms > 0 ? o->body_timeout_ms : 60000;
    o->idle_timeout_ms = o->idle_timeout_ms > 0 ? o->idle_timeout_ms : 75000;
    o->write_timeout_ms = o->write_timeout_ms > 0 ? o->write_timeout_ms : 30000;
}

int server_open(struct server **ret, const struct server_options *options, struct error *e)
{
    struct server *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return fail(e, FAIL_NOMEM, "memory for the HTTP server");
    }
    s->set = (struct connections){ .options = *options, .changed = on_changed, .arg = s };
    fill_defaults(&s->set.options);
    s->retry = evtimer_new(options->base, on_retry, s);
    if (s->retry == NULL) {
        server_close(s);
        return fail(e, FAIL_NOMEM, "memory for the HTTP server");
    }
    s->listeners[0] = listen_on(s, "127.0.0.1", options->port);
    if (s->listeners[0] == NULL) {
        int why = errno;
        server_close(s);
        return fail(e, why == EADDRINUSE ? FAIL_BUSY : FAIL_IO, "listening on 127.0.0.1:%d: %s",
                    options->port, strerror(why));
    }
    s->port = bound_port(s->listeners[0]);
    s->listeners[1] = listen_on(s, "[::1]", s->port); /* not everywhere, and not needed */
    *ret = s;
    return 0;
}

static void stop_listening(struct server *s)
{
    for (int i = 0; i < 2; i++) {
        if (s->listeners[i] != NULL) {
            evconnlistener_free(s->listeners[i]);
            s->listeners[i] = NULL;
        }
    }
}

void server_finish(struct server *s, int timeout_ms)
{
    uint64_t now = clock_now_ns(), end = now + (uint64_t)timeout_ms * CLOCK_NS_PER_MS;
    if (s == NULL) {
        return;
    }
    stop_listening(s);
    connections_finish(&s->set);
    while (!connections_are_done(&s->set) && now < end) {
        const struct timeval left = { .tv_usec = FINISH_TURN_US };
        event_base_loopexit(s->set.options.base, &left);
        event_base_loop(s->set.options.base, EVLOOP_ONCE);
        now = clock_now_ns();
    }
}

void server_close(struct server *s)
{
    if (s == NULL) {
        return;
    }
    stop_listening(s);
    connections_close(&s->set);
    if (s->retry != NULL) {
        event_free(s->retry);
    }
    free(s);
}

int server_port(const struct server *s)
{
    return s->port;
}

int server_connections(const struct server *s)
{
    return s->set.n;
}

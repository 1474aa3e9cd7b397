/* Raw bytes into a connection of the server: whatever they are, it answers or closes, and keeps
 * nothing. The first byte says in what pieces they come. */
#include "api/server.h"

#include <event2/event.h>
#include <stdlib.h>

#include "os/process.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int provide_count(void *arg)
{
    return 2;
}

static void provide_at(void *arg, int index, struct api_model *ret)
{
    *ret = (struct api_model){ .id = index == 0 ? "waiting" : "far", .elsewhere = index == 1 };
}

/* Begins a stream that only ends when the client goes away. */
static void on_closed(void *arg)
{
    struct responder *r = arg;
    r->ops->end(r);
}

static int provide_forward(void *arg, const struct api_request *request,
                           struct responder *responder, struct error *e)
{
    responder->closed = on_closed;
    responder->closed_arg = responder;
    responder->ops->begin(responder, 200, "text/plain", true, NULL);
    responder->ops->write(responder, request->body);
    return 0;
}

static void feed(struct event_base *base, evutil_socket_t fd, struct bytes data, size_t piece)
{
    char drop[65536];
    while (data.size > 0) {
        size_t n = data.size < piece ? data.size : piece;
        ssize_t sent = send(fd, data.data, n, 0);
        if (sent <= 0) {
            break;
        }
        data = bytes_of(data.data + sent, data.size - (size_t)sent);
        event_base_loop(base, EVLOOP_NONBLOCK);
        while (recv(fd, drop, sizeof drop, 0) > 0) {
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct event_base *base;
    static struct api *api;
    static struct server *server;
    static const size_t pieces[] = { 1, 7, 1000, 1u << 20 };
    if (base == NULL) {
        process_ignore_broken_pipes();
        base = event_base_new();
        const struct api_options o = {
            .base = base,
            .provider = { .count = provide_count, .at = provide_at, .forward = provide_forward }
        };
        if (api_open(&api, &o, NULL) != 0 ||
            server_open(&server, &(struct server_options){ .base = base, .api = api }, NULL) != 0) {
            abort();
        }
    }
    evutil_socket_t pair[2];
    if (size == 0 || evutil_socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) {
        return 0;
    }
    evutil_make_socket_nonblocking(pair[0]);
    evutil_make_socket_nonblocking(pair[1]);
    if (server_adopt(server, pair[1]) != 0) {
        abort();
    }
    feed(base, pair[0], bytes_of(data + 1, size - 1), pieces[data[0] % 4]);
    evutil_closesocket(pair[0]);
    for (int i = 0; i < 10 && server_connections(server) > 0; i++) {
        event_base_loop(base, EVLOOP_NONBLOCK);
    }
    if (server_connections(server) != 0 || api_active(api) != 0) {
        abort();
    }
    return 0;
}

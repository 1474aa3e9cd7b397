/* The API of a device: routes, and the hop between threads. */
#include "api/answer.h"
#include "api/dialects/openai.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/clock.h"

#define KEEPALIVE_MS 5000
/* Threads that read and encode: a large request doesn't hold up the small ones beside it. */
#define WORKERS 2
/* Of a target with its query, NUL included: as long as HTTP lets it be. */
#define API_MAX_PATH 2080

/* What has a path, and what it answers to. */
struct route {
    const char *path;
    bool prefix; /* also everything below it */
    const char *methods;
    const char *method;
    void (*handle)(struct api *a, const struct api_request *q, struct responder *r);
    const struct dialect *dialect; /* instead: a request for answers */
};

static const struct route routes[] = {
    { "/v1/chat/completions", false, "POST, OPTIONS", "POST", .dialect = &dialect_openai_chat },
    { "/v1/completions", false, "POST, OPTIONS", "POST", .dialect = &dialect_openai_text },
    { "/v1/models", false, "GET, HEAD, OPTIONS", "GET", models_list_handle },
    { "/v1/models/", true, "GET, HEAD, OPTIONS", "GET", models_get_handle },
    { "/health", false, "GET, HEAD, OPTIONS", "GET", health_handle },
    { "/api/status", false, "GET, HEAD, OPTIONS", "GET", status_handle },
};

static const struct route *find_route(const char *path, size_t size)
{
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        size_t n = strlen(routes[i].path);
        bool whole = size == n || (routes[i].prefix && size > n);
        if (whole && memcmp(path, routes[i].path, n) == 0) {
            return &routes[i];
        }
    }
    return NULL;
}

/* Also of paths that aren't there: a page then reads why, from the request itself. */
static void reply_options(struct responder *r, const struct route *route)
{
    char headers[256];
    const char *methods = route != NULL ? route->methods : "GET, HEAD, POST, OPTIONS";
    snprintf(headers, sizeof headers, "Allow: %s\r\nAccess-Control-Allow-Methods: %s\r\n", methods,
             methods);
    r->ops->begin(r, 204, NULL, false, headers);
    r->ops->end(r);
}

/* Copies a path with single slashes and none at its end, as clients put base URLs and paths
 * together; its query stays. */
static void clean_path(const char *path, char ret[static API_MAX_PATH])
{
    size_t n = 0, end = strcspn(path, "?#");
    for (size_t i = 0; i < end && n + 1 < API_MAX_PATH; i++) {
        if (path[i] != '/' || n == 0 || ret[n - 1] != '/') {
            ret[n++] = path[i];
        }
    }
    n -= n > 1 && ret[n - 1] == '/';
    snprintf(ret + n, API_MAX_PATH - n, "%s", path + end);
}

/* What was probably meant by a path that isn't there; "" when nothing is near. */
static const char *hint(const char *path, size_t size)
{
    char with[API_MAX_PATH + 4];
    snprintf(with, sizeof with, "/v1%.*s", (int)size, path);
    if (find_route(with, strlen(with)) != NULL) {
        return " Did you forget /v1? The API's base URL ends with it.";
    }
    if (size > 3 && strncmp(path, "/v1/v1", 6) == 0) {
        return " The path begins with /v1 twice: the base URL has one already.";
    }
    if (size <= 4 && (strncmp(path, "/v1", size) == 0)) {
        return " This is shoal: the API's base URL ends with /v1, GET /v1/models lists its models.";
    }
    return "";
}

void api_handle(struct api *a, const struct api_request *original, struct responder *responder)
{
    char path[API_MAX_PATH];
    clean_path(original->path, path);
    const struct api_request clean = { original->method, path, original->body };
    const struct api_request *request = &clean;
    size_t size = strcspn(path, "?#");
    const struct route *route = find_route(path, size);
    struct api_problem p = { 0 };
    if (a->stopped) {
        problem_set(&p, 503, "service_unavailable", NULL, "The server is shutting down.");
        reply_problem(responder, &p);
        return;
    }
    bool options = strcmp(request->method, "OPTIONS") == 0;
    if (route == NULL && !options && unspoken_answer(path, size, responder)) {
        return;
    }
    if (route == NULL && !options) {
        problem_set(&p, 404, "unknown_url", NULL, "Unknown request URL: %.16s %.200s.%s",
                    request->method, request->path, hint(path, size));
        reply_problem(responder, &p);
        return;
    }
    bool head = strcmp(request->method, "HEAD") == 0 && strcmp(route->method, "GET") == 0;
    if (options) {
        reply_options(responder, route);
    } else if (head || strcmp(request->method, route->method) == 0) {
        if (route->dialect != NULL) {
            answer_start(a, route->dialect, request, responder);
        } else {
            route->handle(a, request, responder);
        }
    } else {
        char headers[96];
        snprintf(headers, sizeof headers, "Allow: %s\r\n", route->methods);
        problem_set(&p, 405, "method_not_allowed", NULL, "Not allowed: %.16s %.200s; use %s.",
                    request->method, request->path, route->method);
        reply_json(responder, p.status, problem_json(&p), headers);
    }
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    char drop[256];
    while (recv(fd, drop, sizeof drop, 0) == (ssize_t)sizeof drop) {
    }
    answers_drain(arg);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    answers_keep_alive(arg, clock_now_ns());
}

int api_open(struct api **ret, const struct api_options *options, struct error *e)
{
    struct api *a = calloc(1, sizeof *a);
    if (a == NULL) {
        return fail(e, FAIL_NOMEM, "memory for the API");
    }
    a->options = *options;
    a->wake[0] = a->wake[1] = -1;
    a->ready_end = &a->ready;
    mutex_init(&a->lock);
    int ms = options->keepalive_ms > 0 ? options->keepalive_ms : KEEPALIVE_MS;
    a->options.keepalive_ms = ms;
    /* Looks four times as often as it writes, so that it is late by a quarter at most. */
    struct timeval period = { .tv_sec = ms / 4000, .tv_usec = ms % 4000 * 1000 / 4 };
    if (evutil_socketpair(AF_UNIX, SOCK_STREAM, 0, a->wake) == 0 &&
        evutil_make_socket_nonblocking(a->wake[0]) == 0 &&
        evutil_make_socket_nonblocking(a->wake[1]) == 0) {
        a->wake_event = event_new(options->base, a->wake[0], EV_READ | EV_PERSIST, on_wake, a);
        a->timer = event_new(options->base, -1, EV_PERSIST, on_timer, a);
    }
    if (a->wake_event == NULL || a->timer == NULL || event_add(a->wake_event, NULL) != 0 ||
        event_add(a->timer, &period) != 0) {
        api_close(a);
        return fail(e, FAIL_IO, "starting the API: %s", strerror(errno));
    }
    int code = chat_workers_open(&a->workers, WORKERS, e);
    if (code != 0) {
        api_close(a);
        return code;
    }
    *ret = a;
    return 0;
}

void api_stop(struct api *a)
{
    if (a != NULL) {
        a->stopped = true;
        atomic_store(&a->stopping, true);
        chat_workers_close(a->workers);
        a->workers = NULL;
        answers_drain(a); /* what the engines said last */
        answers_close(a);
    }
}

void api_close(struct api *a)
{
    if (a == NULL) {
        return;
    }
    chat_workers_close(a->workers);
    answers_close(a);
    if (a->wake_event != NULL) {
        event_free(a->wake_event);
    }
    if (a->timer != NULL) {
        event_free(a->timer);
    }
    for (int i = 0; i < 2; i++) {
        if (a->wake[i] >= 0) {
            evutil_closesocket(a->wake[i]);
        }
    }
    mutex_done(&a->lock);
    free(a);
}

int api_active(const struct api *a)
{
    return a->n_answers;
}

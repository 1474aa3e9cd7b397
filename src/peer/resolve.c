/* Look-ups in threads that nobody waits for: see resolve.h. */
#include "peer/resolve.h"

#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/thread.h"

#define NAME_TEXT 80
#define PORT_TEXT 8

struct name {
    char host[NAME_TEXT]; /* "": free */
    bool pending, known;
    uint64_t asked_ns;
    struct resolved to;
    char why[96]; /* of the last look-up, "" when it found something */
};

/* Shared with the look-ups under way; the last one that lets it go frees it. */
struct resolver {
    struct mutex lock;
    int users;
    struct name names[RESOLVE_NAMES];
};

/* What a thread is given. */
struct lookup {
    struct resolver *owner;
    int slot;
    char host[NAME_TEXT];
};

static void let_go(struct resolver *r)
{
    mutex_lock(&r->lock);
    bool last = --r->users == 0;
    mutex_unlock(&r->lock);
    if (last) {
        mutex_done(&r->lock);
        free(r);
    }
}

struct resolver *resolver_open(void)
{
    struct resolver *r = calloc(1, sizeof *r);
    if (r != NULL) {
        mutex_init(&r->lock);
        r->users = 1;
    }
    return r;
}

void resolver_close(struct resolver *r)
{
    if (r != NULL) {
        let_go(r);
    }
}

static int ask(struct name *n, const char *host, int flags)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = flags }, *list = NULL;
    int status = getaddrinfo(host, NULL, &hints, &list);
    if (status == 0 && list != NULL && list->ai_addrlen <= sizeof n->to.address) {
        memcpy(&n->to.address, list->ai_addr, list->ai_addrlen);
        n->to.size = list->ai_addrlen;
        n->known = true;
    }
    if (list != NULL) {
        freeaddrinfo(list);
    }
    snprintf(n->why, sizeof n->why, "%s", status != 0 ? gai_strerror(status) : "");
    return status;
}

static void *look_up(void *arg)
{
    struct lookup *l = arg;
    struct resolver *r = l->owner;
    struct name found = { .host = "" };
    ask(&found, l->host, 0);
    mutex_lock(&r->lock);
    struct name *n = &r->names[l->slot];
    n->pending = false;
    memcpy(n->why, found.why, sizeof n->why);
    if (found.known) {
        n->known = true;
        n->to = found.to;
    }
    mutex_unlock(&r->lock);
    let_go(r);
    free(l);
    return NULL;
}

/* With the lock held. */
static int start(struct resolver *r, int slot, struct error *e)
{
    struct name *n = &r->names[slot];
    struct lookup *l = calloc(1, sizeof *l);
    pthread_attr_t attributes;
    pthread_t thread;
    if (l == NULL) {
        return fail(e, FAIL_NOMEM, "memory for looking a name up");
    }
    *l = (struct lookup){ .owner = r, .slot = slot };
    memcpy(l->host, n->host, sizeof l->host);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int status = pthread_create(&thread, &attributes, look_up, l);
    pthread_attr_destroy(&attributes);
    if (status != 0) {
        free(l);
        return fail(e, FAIL_NOMEM, "a thread for looking a name up");
    }
    n->pending = true;
    r->users++;
    return 0;
}

/* With the lock held; the name's place, or a free one that is now its. */
static int slot_of(struct resolver *r, const char *host)
{
    int empty = -1;
    for (int i = 0; i < RESOLVE_NAMES; i++) {
        if (strcmp(r->names[i].host, host) == 0) {
            return i;
        }
        if (empty < 0 && r->names[i].host[0] == '\0') {
            empty = i;
        }
    }
    if (empty >= 0) {
        r->names[empty] = (struct name){ .known = false };
        snprintf(r->names[empty].host, NAME_TEXT, "%s", host);
    }
    return empty;
}

static int get_named(struct resolver *r, const char *host, uint64_t now_ns, struct name *ret,
                     struct error *e)
{
    int code = 0, slot = slot_of(r, host);
    if (slot < 0) {
        return fail(e, FAIL_LIMIT, "more than %d names of devices", RESOLVE_NAMES);
    }
    struct name *n = &r->names[slot];
    bool stale = n->asked_ns == 0 || now_ns - n->asked_ns > RESOLVE_FRESH_NS || !n->known;
    bool failed = !n->pending && n->asked_ns != 0 && n->why[0] != '\0';
    char why[sizeof n->why];
    memcpy(why, n->why, sizeof why);
    if (stale && !n->pending) {
        n->asked_ns = now_ns;
        code = start(r, slot, e);
    }
    if (n->known) {
        *ret = *n;
        return 0;
    }
    if (code == 0) {
        code = failed ? fail(e, FAIL_NOT_FOUND, "%s: %s", host, why)
                      : fail(e, FAIL_BUSY, "%s: its address is being looked up", host);
    }
    return code;
}

int resolver_get(struct resolver *r, const char *host, int port, uint64_t now_ns,
                 struct resolved *ret, struct error *e)
{
    struct name found = { .host = "" };
    int code = 0;
    if (strlen(host) >= NAME_TEXT) {
        return fail(e, FAIL_LIMIT, "the name %.100s is too long", host);
    }
    if (ask(&found, host, AI_NUMERICHOST) != 0) {
        mutex_lock(&r->lock);
        code = get_named(r, host, now_ns, &found, e);
        mutex_unlock(&r->lock);
    }
    if (code != 0) {
        return code;
    }
    *ret = found.to;
    if (ret->address.ss_family == AF_INET6) {
        ((struct sockaddr_in6 *)(void *)&ret->address)->sin6_port = htons((uint16_t)port);
    } else {
        ((struct sockaddr_in *)(void *)&ret->address)->sin_port = htons((uint16_t)port);
    }
    return 0;
}

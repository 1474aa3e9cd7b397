/* A web server on loopback, in a thread of the test, that does what the test says: honest unless
 * told otherwise. One connection at a time, one request a connection; every wait is bounded. */
#ifndef SHOAL_TESTS_STORE_SERVER_H
#define SHOAL_TESTS_STORE_SERVER_H

#include "base/buffer.h"
#include "os/thread.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SERVER_TEXT 512

/* One request, as it came. */
struct asked {
    int index; /* from 0 */
    char path[SERVER_TEXT];
    bool ranged;
    uint64_t offset;
    char if_range[SERVER_TEXT], authorization[SERVER_TEXT];
};

enum ending { ENDING_CLOSE, ENDING_STALL, ENDING_RESET };

/* What is sent. Filled in as an honest server would, before the test changes it. */
struct answer {
    int status;
    struct bytes content;       /* the whole file */
    uint64_t from;              /* first byte of the body */
    uint64_t send;              /* bytes of the body that are sent */
    enum ending ending;         /* after them */
    int64_t length;             /* as announced; -1: not */
    char range[SERVER_TEXT];    /* Content-Range, "": none */
    char etag[SERVER_TEXT];     /* with quotes, "": none */
    char location[SERVER_TEXT]; /* "": none */
    char more[SERVER_TEXT];     /* whole header lines */
};

typedef void decide_fn(void *arg, const struct asked *q, struct answer *a);

struct server {
    int fd, port;
    struct thread thread;
    atomic_bool stop;
    atomic_int requests;
    atomic_ullong sent;   /* bytes of bodies */
    struct bytes content; /* for the honest answer; borrowed */
    const char *etag;     /* of it */
    decide_fn *decide;    /* NULL: honest */
    void *arg;
    struct asked last; /* read after the download only */
};

/* Starts on a free port. Ended by server_stop(). */
void server_start(struct server *s, struct bytes content, decide_fn *decide, void *arg);
void server_stop(struct server *s);

/* "http://127.0.0.1:PORT" + path. */
void server_url(const struct server *s, const char *path, char ret[static SERVER_TEXT]);

#endif

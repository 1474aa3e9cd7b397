/* Several devices of one process, each with a home of its own, on one event loop. */
#ifndef SHOAL_TESTS_CLUSTER_DEVICES_H
#define SHOAL_TESTS_CLUSTER_DEVICES_H

#include "tests/test.h"

#include "cluster/cluster.h"

#include <event2/event.h>

#define SECOND 1000000000ull
#define MAX_DEVICES 4

struct device_slot {
    char home[256], join[64];
    struct cluster *cluster;
};

struct fixture {
    struct event_base *base;
    char root[128], models[256];
    struct device_slot devices[MAX_DEVICES];
    int requests;
    int write_code; /* of the last reply's pieces */
};

int devices_set_up(void **state);
int devices_tear_down(void **state);

/* Runs the loop until done(arg) or the deadline. */
bool run_until(struct fixture *f, bool (*done)(void *arg), void *arg, uint64_t limit_ns);
/* The deadline in *arg is over. */
bool passed(void *arg);

/* A file of a home into another, as its owner would copy it. */
void copy_file(struct fixture *f, int from, int to, const char *name);
/* The head's cluster key for a member. */
void copy_key(struct fixture *f, int from, int to);

struct cluster_options options_of(struct fixture *f, int i);
/* Joins device 0 where nothing else is said. */
void open_device(struct fixture *f, int i, struct cluster_options *o);
void close_device(struct fixture *f, int i);
/* The first n, device 0 with a model. */
void open_devices(struct fixture *f, const char *split, int n, bool seal);

void add_model(struct fixture *f);
bool head_ready(void *arg);
/* Device 0 has a link. */
bool two_known(void *arg);

#endif

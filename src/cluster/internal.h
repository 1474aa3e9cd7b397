/* What the parts of a running device share. A header for this layer only.
 *
 * owner of everything here: the control thread, which runs the event loop. Times and deadlines are
 * in time.now_ns of the cluster. */
#ifndef SHOAL_CLUSTER_INTERNAL_H
#define SHOAL_CLUSTER_INTERNAL_H

#include "base/buffer.h"
#include "cluster/cluster.h"
#include "cluster/models.h"
#include "cluster/part_table.h"
#include "os/clock.h"
#include "peer/peer.h"
#include "plan/split.h"
#include "stage/rank.h"
#include "stage/wire.h"

#include <stdbool.h>
#include <stdint.h>

#define DEVICE_ID_TEXT PEER_ID_TEXT
#define DEVICE_SHORT PEER_SHORT
#define DEVICE_LABEL PEER_LABEL

/* A home has fewer. */
#define CLUSTER_MAX_DEVICES PEERS_MAX
_Static_assert(PEERS_MAX <= PLAN_MAX_RANKS, "a plan holds every device");
/* --model given more often than this is a mistake. */
#define CLUSTER_MAX_SERVICES 16
/* Models whose parts one device holds at once. */
#define CLUSTER_MAX_PARTS PART_TABLE_SLOTS

#define SECOND_NS 1000000000ull
/* Everything that depends on time looks at it this often; see loop_time. */
#define TICK_NS (SECOND_NS / 4)
/* Devices tell what they do this often. */
#define REPORT_NS SECOND_NS
/* The last step to serving. */
#define CONNECT_NS (15 * SECOND_NS)
/* A backend that computes one segment for longer hangs. */
#define HANG_NS (60 * SECOND_NS)
/* Between two attempts to place a model. */
#define RETRY_NS SECOND_NS
/* Longest wait of a rank for a neighbour within a step. */
#define STEP_TIMEOUT_NS (120 * SECOND_NS)

struct part;
struct service;
struct event;
struct hasher;
struct retired;
struct served;
struct statement;

/* What a rank's device last said about it. */
struct part_report {
    int64_t placement;
    uint32_t epoch;
    unsigned transports; /* of the rank's channels: see part_transports */
    struct rank_facts facts;
};

/* A device of the cluster as this one knows it. */
struct device {
    struct peer *peer;
    const char *id, *name; /* the peer's */
    char isa[32];
    uint64_t memory_total, memory_usable; /* bytes */
    int cores, threads;
    bool self;
    bool head;                 /* the one that is believed to be it: see device.c */
    struct model_file *models; /* owned; paths empty for other devices; bad: it turned out to be
                                * another model than the one that was asked for */
    int n_models;
    struct part_report parts[CLUSTER_MAX_PARTS];
    int n_parts;
};

struct cluster {
    struct cluster_options options; /* texts copied */
    struct event_base *base;
    struct event *tick, *wake;
    struct peers *peers;
    struct device *devices[CLUSTER_MAX_DEVICES]; /* those that said what they have; self first */
    int n_devices;
    struct device *self;
    char head_id[DEVICE_ID_TEXT]; /* whom this device believes to be the head; "": nobody yet */
    struct model_list models;     /* of this device's folder */
    struct models_scan *scan;     /* a look at it that is under way */
    struct hasher *hasher;
    struct statement *statements; /* what this head says of its models' bytes */
    uint64_t worked;              /* steps of this device's ranks at the last look */
    struct part *parts[CLUSTER_MAX_PARTS];
    struct part_table part_table; /* by the same slots */
    struct service *services[CLUSTER_MAX_SERVICES];
    int n_services;
    int64_t next_placement;
    struct retired *retired; /* engines whose requests are still ending */
    struct served *served;   /* what the head told a member about its models */
    struct loop_time time;   /* every deadline here is in its now_ns; turned by each tick */
    uint64_t scan_at;
    uint64_t status_at;
    uint64_t report_at;
    json_t *head_status; /* what the head told last; NULL at the head */
    bool changed;        /* what clients see of a service: members are to be told */
    bool closing;
};

/* --- members (members.c) --- */

extern const struct peer_events device_events;
/* What this device does, to every other. */
void device_report(struct cluster *c);

/* --- devices (device.c) --- */

/* NULL for one that is not known or has said nothing yet. */
struct device *device_find(struct cluster *c, const char *id);
/* The entry of a peer, made where there is none. NULL without memory. */
struct device *device_of(struct cluster *c, struct peer *p);
struct device *device_head(struct cluster *c);
bool device_alive(const struct device *d);
const char *device_label(const struct device *d, char text[static DEVICE_LABEL]);
void device_free(struct device *d);
/* What d last said of its part of a placement; NULL when it said nothing of it, or d is NULL. */
const struct part_report *device_part(const struct device *d, int64_t placement, uint32_t epoch);
/* See peer_send. */
void device_send(struct cluster *c, struct device *d, json_t *body);
/* See peer_address_for. */
void device_address_for(const struct cluster *c, const struct device *d, const struct device *to,
                        char text[static ADDRESS_TEXT]);
/* Forgets what the head told about its models. */
void served_forget(struct cluster *c);

/* The head tells its members the cluster's status (status.c). */
void status_tick(struct cluster *c);

/* --- messages (messages.c) --- */

/* Who may send a message: numbers of struct peer_message. */
enum sender {
    FROM_HEAD = 1, /* the head to its members, and to itself */
    TO_HEAD        /* anybody to the head */
};

/* Of a placement. */
struct placement_id {
    int64_t placement, epoch;
};

/* A message that is read by its handler. */
struct whole_message {
    const json_t *body;
};

extern const struct peer_message cluster_messages[];
extern const int cluster_n_messages;
extern const struct channel_owner cluster_channels;

enum peer_verdict on_report(void *arg, struct peer *from, const void *fields, struct error *e);
enum peer_verdict on_status(void *arg, struct peer *from, const void *fields, struct error *e);
enum peer_verdict on_models(void *arg, struct peer *from, const void *fields, struct error *e);
enum peer_verdict on_load(void *arg, struct peer *from, const void *fields, struct error *e);
enum peer_verdict on_claim(void *arg, struct peer *from, const void *fields, struct error *e);
enum peer_verdict on_unload(void *arg, struct peer *from, const void *fields, struct error *e);
enum peer_verdict on_connect(void *arg, struct peer *from, const void *fields, struct error *e);
enum peer_verdict on_part_state(void *arg, struct peer *from, const void *fields, struct error *e);

#endif

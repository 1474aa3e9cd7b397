/* Control links: mutual TLS, proof of membership, then framed messages. owner: control thread. */
#ifndef SHOAL_CLUSTER_LINK_H
#define SHOAL_CLUSTER_LINK_H

#include "cluster/address.h"
#include "cluster/internal.h"

#include <event2/util.h>

struct link;

/* Connects to an address. expect: the device that must answer, or NULL for any member. The result
 * shows in device_joined or, for an expected device, in device_lost and data_device_lost.
 * FAIL_ARG, FAIL_IO. */
int link_dial(struct cluster *c, const char *address, const char *expect, struct error *e);

/* Takes an accepted connection that speaks TLS. Owns fd. from: its address. since_ns: when it came;
 * its time to prove itself counts from there. */
void link_accept(struct cluster *c, evutil_socket_t fd, const char *from, uint64_t since_ns);

/* Queue a message or data; body is released. A NULL link drops it. */
void link_send(struct link *l, json_t *body);
void link_send_data(struct link *l, uint32_t stream, struct bytes data);

/* Bytes not yet taken by the network. */
size_t link_waiting(const struct link *l);

/* Our own address as the peer sees it, without port; "" when unknown. */
void link_own_host(const struct link *l, char host[static ADDRESS_TEXT]);

/* True when the peer is this machine. */
bool link_is_local(const struct link *l);

/* The TLS object of a live link, borrowed. */
struct ssl_st;
struct ssl_st *link_ssl(const struct link *l);

/* True while a link to the device is being made. */
bool link_dialing(const struct cluster *c, const char *device_id);

/* For status: a new reference. */
json_t *link_json(const struct link *l);

/* Sends heartbeats, drops the silent and the half-open. */
void links_tick(struct cluster *c);
void links_close(struct cluster *c);

#endif

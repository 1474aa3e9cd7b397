/* Addresses of devices as text: "host:port", "[ipv6]:port". Pure. */
#ifndef SHOAL_PEER_ADDRESS_H
#define SHOAL_PEER_ADDRESS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

#define ADDRESS_TEXT 80 /* the longest numeric address, or a host name of a home network */

/* Takes "host", "host:port", "[ipv6]", "[ipv6]:port" or a bare IPv6 address apart. FAIL_ARG names
 * the text; the outputs are then untouched. */
int address_parse(const char *text, int default_port, char host[static ADDRESS_TEXT], int *port,
                  struct error *e);

struct sockaddr;

/* "host:port" of a socket's address in numbers, an IPv4 one within IPv6 as IPv4; "unknown:0" for
 * other families. */
void address_of(const struct sockaddr *a, char ret[static ADDRESS_TEXT]);

/* Whom an address belongs to, as far as others can tell: its host without the port; of IPv6 the
 * network, since one device has any number of addresses in it. */
void address_source(const char *address, char ret[static ADDRESS_TEXT]);

/* Puts brackets round IPv6. */
void address_join(const char *host, int port, char ret[static ADDRESS_TEXT]);

/* True for 127.0.0.0/8, ::1, ::ffff:127.x and localhost, with or without port. */
bool address_is_loopback(const char *text);

#endif

/* Both ends of a channel in this process over a named transport: what splits inside one process
 * (`shoal bench`, `shoal eval`) and tests are joined by. */
#ifndef SHOAL_TRANSPORT_PAIR_H
#define SHOAL_TRANSPORT_PAIR_H

#include "transport/transport.h"

/* Names that transport_pair knows, ending with NULL: "memory", "shm", "tcp", "tcp-sealed" (tcp over
 * loopback, sealed by the cipher that is fastest here and keys that nobody else has). */
extern const char *const transport_pair_names[];

/* Connects two new channels. options may be NULL. FAIL_ARG for a name that isn't known (the text
 * lists those that are), FAIL_UNSUPPORTED where the system lacks the transport, and the errors of
 * opening one. */
int transport_pair(const char *name, struct channel **a, struct channel **b,
                   const struct channel_options *options, struct error *e);

#endif

/* The opening of a link, from the proof of membership to the first message of the owner's: who is
 * it, and is this link the one to keep. owner: control thread. */
#ifndef SHOAL_PEER_HELLO_H
#define SHOAL_PEER_HELLO_H

#include "peer/link.h"

/* The link is proved: says who this device is where that is its turn. */
void hello_begin(struct link *l);

/* A message before the link is open. *opened: it is now. */
enum peer_verdict hello_take(struct link *l, const struct message *m, bool *opened,
                             struct error *e);

/* A hello over an open link: the facts have changed. */
enum peer_verdict hello_again(struct link *l, const struct message *m, struct error *e);

/* This device's facts over an open link. */
void hello_send(struct link *l);

#endif

/* Whom this device follows, kept in HOME/head. owner: control thread. */
#ifndef SHOAL_CLUSTER_HEAD_H
#define SHOAL_CLUSTER_HEAD_H

#include "cluster/internal.h"

/* Reads whom this device followed before, or takes whom its invitation names. */
void head_open(struct cluster *c);

/* From now on that device is the head, also after a restart. */
void head_pin(struct cluster *c, const char *id);

#endif

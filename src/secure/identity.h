/* Who a device is, and the key that makes it a member. */
#ifndef SHOAL_SECURE_IDENTITY_H
#define SHOAL_SECURE_IDENTITY_H

#include "base/error.h"

#include <stdbool.h>

#include <stdint.h>

#define IDENTITY_KEY 32  /* bytes of an Ed25519 public key */
#define IDENTITY_TEXT 65 /* SHA-256 in hex and a NUL */
#define IDENTITY_SHORT 9 /* its first 8 digits and a NUL */
#define CLUSTER_KEY 32   /* bytes */

struct evp_pkey_st;
struct x509_st;

/* A device's own key pair and self-signed certificate. Constant after open; any thread. */
struct identity {
    struct evp_pkey_st *key;
    struct x509_st *certificate;
    uint8_t public_key[IDENTITY_KEY];
    char id[IDENTITY_TEXT];
};

/* Reads HOME/device.key (PEM), or makes it (mode 0600, HOME 0700) on first use. FAIL_FORMAT for a
 * file that holds no Ed25519 key; FAIL_AUTH where others may read it; FAIL_IO, FAIL_NOMEM. */
int identity_open(struct identity **ret, const char *home, struct error *e);

/* NULL is fine. */
void identity_close(struct identity *id);

/* Takes HOME for one running device, until home_release(*hold) or the end of this process: two with
 * one key would throw each other out of their cluster. Commands beside it need no hold. FAIL_BUSY
 * where another process has it; FAIL_IO, FAIL_LIMIT. */
int home_hold(int *hold, const char *home, struct error *e);

/* Whether a device runs in HOME now. */
bool home_is_held(const char *home);

/* -1 is fine. */
void home_release(int hold);

/* The id of the device with this public key: hex of its SHA-256. */
void identity_format(char out[static IDENTITY_TEXT], const uint8_t key[static IDENTITY_KEY]);

/* The first 8 digits of an id, for people. */
void identity_short(char out[static IDENTITY_SHORT], const char *id);

/* HOME/cluster.key: 32 random bytes as hex, mode 0600. load: FAIL_NOT_FOUND where there is none
 * yet, FAIL_FORMAT, FAIL_AUTH where others may read it. create makes a new one, or loads the one
 * that is there. store replaces it (when a joiner is given the cluster's); one that this home made
 * itself is kept as cluster.key.old. */
int cluster_key_load(uint8_t key[static CLUSTER_KEY], const char *home, struct error *e);
int cluster_key_create(uint8_t key[static CLUSTER_KEY], const char *home, struct error *e);
int cluster_key_store(const uint8_t key[static CLUSTER_KEY], const char *home, struct error *e);

/* Whether this home made its key itself: it heads a cluster, which ends for it, and for those who
 * joined it, once the key is replaced. HOME/cluster.own says so. */
bool cluster_key_is_own(const char *home);

#endif

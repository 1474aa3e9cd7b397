/* The first record each side of a control connection sends inside TLS: proof of membership.
 *
 * The proof is a MAC by the cluster key (or by an invitation's) over this TLS session's exporter
 * value, the sender's role and both device keys, so it is worth nothing in any other session or
 * direction. Order: the client sends its record; the server, which now knows the kind of key,
 * checks it and answers with its own; the client checks that. Only then a message is parsed.
 * Pure functions, any thread. */
#ifndef SHOAL_SECURE_HANDSHAKE_H
#define SHOAL_SECURE_HANDSHAKE_H

#include "base/bytes.h"
#include "secure/identity.h"
#include "secure/invitation.h"

#define HANDSHAKE_VERSION 2u /* of the control protocol; raised with every incompatible change */
#define HANDSHAKE_BYTES 56
#define HANDSHAKE_EXPORTER 32

enum handshake_role { HANDSHAKE_CLIENT = 1, HANDSHAKE_SERVER = 2 };
enum handshake_key { HANDSHAKE_BY_CLUSTER = 1, HANDSHAKE_BY_INVITATION = 2 };

struct handshake {
    uint32_t version;
    enum handshake_role role;
    enum handshake_key by;
    uint8_t invitation[INVITATION_ID]; /* zero unless by an invitation */
};

/* See tls_binding. */
struct handshake_binding {
    uint8_t exporter[HANDSHAKE_EXPORTER];
    uint8_t client_key[IDENTITY_KEY];
    uint8_t server_key[IDENTITY_KEY];
};

/* The sender's record. key: 32 bytes, the cluster's or the invitation's. */
void handshake_make(uint8_t out[static HANDSHAKE_BYTES], const struct handshake *h,
                    const struct handshake_binding *binding, const uint8_t key[static CLUSTER_KEY]);

/* Which key a received record claims; nothing in it is to be believed yet. FAIL_FORMAT for what is
 * no record. */
int handshake_peek(struct handshake *ret, struct bytes record, struct error *e);

/* Checks a received record in constant time: FAIL_AUTH for a wrong key, another session, another
 * role. Only then the version: FAIL_UNSUPPORTED names both. On 0 and on FAIL_UNSUPPORTED the peer
 * is a holder of the key. */
int handshake_check(struct bytes record, enum handshake_role sender,
                    const struct handshake_binding *binding, const uint8_t key[static CLUSTER_KEY],
                    struct error *e);

#endif

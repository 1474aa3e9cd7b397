/* Keys and proofs as the links need them: what this layer takes from `secure`. */
#ifndef SHOAL_PEER_SECURITY_H
#define SHOAL_PEER_SECURITY_H

#include "peer/internal.h"
#include "secure/handshake.h"
#include "secure/ticket.h"

struct ssl_st;

/* By which key one link is proved; the server learns it from the client. */
struct link_proof {
    enum handshake_key by;
    uint8_t invitation[INVITATION_ID];
    uint8_t key[CLUSTER_KEY];
    char peer[PEER_ID_TEXT]; /* the peer's id, as soon as its record was checked */
};

/* Reads or makes the keys of the home folder; id becomes the device's. FAIL_AUTH when this device
 * is to join and has neither a cluster key nor an invitation. */
int security_open(struct peers *all, char id[static PEER_ID_TEXT], struct error *e);
void security_close(struct peers *all);

/* A random number above 0. FAIL_IO. */
int security_draw(int64_t *ret, struct error *e);

/* A TLS object for a new link, owned by whoever gets it. NULL without memory. */
struct ssl_st *security_ssl(struct peers *all, bool client);
void security_ssl_free(struct ssl_st *ssl);

/* Our record for a link whose TLS handshake is done. A client chooses the key of *proof, a server
 * has it from security_check. */
int security_prove(struct peers *all, struct ssl_st *ssl, bool client, struct link_proof *proof,
                   uint8_t out[static HANDSHAKE_BYTES], struct error *e);

/* Checks the peer's record; proof->peer becomes its id. A server also learns the rest of *proof,
 * and an invitation is used up. FAIL_AUTH for a proof that fails, FAIL_UNSUPPORTED for a proven
 * peer that speaks another version (both are named). */
int security_check(struct peers *all, struct ssl_st *ssl, bool client, struct link_proof *proof,
                   const uint8_t record[static HANDSHAKE_BYTES], struct error *e);

/* After a refusal: where this device has both an invitation and a cluster key (from an earlier
 * start with the same invitation), the next attempt uses the other one. */
void security_try_other(struct peers *all);

/* See peers_mark, peers_invited_by. */
void security_mark(const struct peers *all, char mark[static PEER_MARK_TEXT]);
void security_invited_by(const struct peers *all, char id[static PEER_ID_TEXT]);

/* The cluster key as text, for a device that was invited; and taking it there. */
#define SECURITY_KEY_TEXT (2 * CLUSTER_KEY + 1)
/* For the message to the invited device. */
void security_key_text(const struct peers *all, char out[static SECURITY_KEY_TEXT]);
/* Stores it in the home folder. FAIL_FORMAT, FAIL_IO. */
int security_take_key(struct peers *all, const char *text, struct error *e);

/* Where this device joins: as it was told, else as its invitation says. NULL beyond the last one.
 */
const char *security_join_address(const struct peers *all, int index);

/* Tickets of data channels, for a live link's TLS object. What goes over TCP is sealed. */
int security_issue(struct peers *all, struct ssl_st *ssl, uint64_t purpose,
                   uint8_t ticket[static TICKET_BYTES], struct error *e);
int security_redeem(struct peers *all, struct bytes preamble, struct ticket_grant *ret,
                    struct error *e);
int security_preamble(struct ssl_st *ssl, const uint8_t ticket[static TICKET_BYTES],
                      uint8_t out[static PREAMBLE_BYTES], struct seal_keys *keys, struct error *e);

#endif

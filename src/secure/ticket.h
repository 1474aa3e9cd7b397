/* Tickets: how a data connection is tied to an authenticated control connection.
 *
 * The device that will accept the data connection issues a ticket for one peer and purpose and
 * sends it to that peer over their control connection. The peer connects and sends a preamble: the
 * ticket's public half and a MAC by keys derived from the whole ticket and the control connection's
 * TLS exporter. So the ticket never travels in the clear, serves once, and the channel's keys are
 * known to these two only. */
#ifndef SHOAL_SECURE_TICKET_H
#define SHOAL_SECURE_TICKET_H

#include "base/bytes.h"
#include "base/error.h"
#include "secure/identity.h"

#define TICKET_BYTES 32  /* 16 name it, 16 stay secret */
#define TICKET_SECRET 32 /* see tls_data_secret */
#define TICKET_TABLE 256 /* open ones; a placement of 16 ranks needs 136 */
#define TICKET_LIFE_NS 30000000000ull
#define PREAMBLE_BYTES 64
#define PREAMBLE_FIRST_BYTE 'S' /* a TLS connection begins with 0x16 */

enum seal_cipher { SEAL_PLAIN, SEAL_AES_128_GCM, SEAL_CHACHA20_POLY1305, SEAL_CIPHER_COUNT };

/* A sealed channel's keys, from the view of one end. */
struct seal_keys {
    enum seal_cipher cipher;
    uint8_t send_key[32], recv_key[32]; /* AES uses the first 16 */
    uint8_t send_iv[12], recv_iv[12];
};

/* The faster cipher on this processor. */
enum seal_cipher seal_cipher_best(void);

/* An open ticket, at its issuer. */
struct ticket {
    uint8_t value[TICKET_BYTES];
    uint8_t secret[TICKET_SECRET];
    uint8_t peer[IDENTITY_KEY];
    uint64_t purpose;
    uint64_t expires_ns;
    bool open;
    bool must_seal;
};

/* Caller's struct, zero-initialised; one thread. */
struct ticket_table {
    struct ticket tickets[TICKET_TABLE];
};

/* What a ticket is for. */
struct ticket_terms {
    uint8_t peer[IDENTITY_KEY]; /* for whom */
    uint8_t secret[TICKET_SECRET];
    uint64_t purpose; /* the issuer's own number, given back by ticket_redeem */
    bool must_seal;   /* a preamble that asks for plain is refused */
};

/* A new ticket, open until now_ns + TICKET_LIFE_NS. FAIL_LIMIT when too many are open, FAIL_IO. */
int ticket_issue(struct ticket_table *t, const struct ticket_terms *terms, uint64_t now_ns,
                 uint8_t out[static TICKET_BYTES], struct error *e);

/* Forgets open tickets of a peer whose control connection ended. */
void ticket_revoke(struct ticket_table *t, const uint8_t peer[static IDENTITY_KEY]);

/* What an accepted data connection is. */
struct ticket_grant {
    uint8_t peer[IDENTITY_KEY];
    uint64_t purpose;
    struct seal_keys keys; /* cipher SEAL_PLAIN: no sealing */
};

/* Checks a received preamble and uses its ticket up. FAIL_FORMAT for what is no preamble; FAIL_AUTH
 * for an unknown, used, expired or wrongly proved ticket: the connection is then closed without an
 * answer. A wrong proof leaves the ticket open, or a stranger could spend it. */
int ticket_redeem(struct ticket_table *t, struct bytes preamble, uint64_t now_ns,
                  struct ticket_grant *ret, struct error *e);

/* The opener's half: its preamble and its keys. secret: tls_data_secret of the control connection
 * that brought the ticket. FAIL_IO. */
int ticket_preamble(uint8_t out[static PREAMBLE_BYTES], struct seal_keys *keys,
                    const uint8_t ticket[static TICKET_BYTES],
                    const uint8_t secret[static TICKET_SECRET], enum seal_cipher cipher,
                    struct error *e);

#endif

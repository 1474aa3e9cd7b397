/* TLS of control connections: 1.3 only, both sides with their self-signed Ed25519 certificate.
 *
 * TLS proves that the peer holds the key of its certificate, nothing more: any such certificate is
 * taken, and the key in it is the peer's identity. Membership is proved next, by handshake.h,
 * before anything of the peer is parsed. */
#ifndef SHOAL_SECURE_TLS_H
#define SHOAL_SECURE_TLS_H

#include <stdbool.h>

#include "secure/handshake.h"
#include "secure/identity.h"

struct ssl_st; /* OpenSSL's SSL */
struct tls;

/* The contexts for both directions; identity is borrowed. FAIL_NOMEM, FAIL_IO. */
int tls_open(struct tls **ret, const struct identity *identity, struct error *e);

/* NULL is fine; connections made before stay valid. */
void tls_close(struct tls *t);

/* A new connection's SSL, for bufferevent_openssl or SSL_set_fd, in connect or accept state. The
 * caller owns it (SSL_free). NULL: no memory. */
struct ssl_st *tls_new(struct tls *t, bool server);

/* The peer's device key, after the TLS handshake. FAIL_AUTH where it has none. */
int tls_peer_key(const struct ssl_st *ssl, uint8_t key[static IDENTITY_KEY], struct error *e);

/* What both ends' handshake records are bound to: the exporter's value and both keys. FAIL_STATE
 * before the TLS handshake is done; FAIL_AUTH. */
int tls_binding(struct ssl_st *ssl, bool server, const struct identity *own,
                struct handshake_binding *ret, struct error *e);

/* The secret that data channels' keys are derived from (ticket.h): the same at both ends of this
 * connection and nowhere else. FAIL_STATE. */
int tls_data_secret(struct ssl_st *ssl, uint8_t secret[static 32], struct error *e);

#endif

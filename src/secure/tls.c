/* TLS: see tls.h. */
#include "secure/tls.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "secure/internal.h"

/* RFC 5705 labels; those of private use begin with EXPORTER. */
#define CONTROL_LABEL "EXPORTER-shoal-control-1"
#define DATA_LABEL "EXPORTER-shoal-data-1"

struct tls {
    SSL_CTX *client, *server;
};

/* Instead of a chain: the certificate must carry an Ed25519 key. That the peer holds it is shown by
 * its signature over the TLS handshake. */
static int accept_device_key(X509_STORE_CTX *store, void *arg)
{
    (void)arg;
    X509 *x = X509_STORE_CTX_get0_cert(store);
    EVP_PKEY *key = x != NULL ? X509_get0_pubkey(x) : NULL;
    bool good = key != NULL && EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519;
    X509_STORE_CTX_set_error(store, good ? X509_V_OK : X509_V_ERR_CERT_REJECTED);
    return good;
}

static int make_context(SSL_CTX **ret, const SSL_METHOD *method, const struct identity *identity,
                        struct error *e)
{
    SSL_CTX *c = SSL_CTX_new(method);
    if (c == NULL || SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) != 1 ||
        SSL_CTX_use_certificate(c, identity->certificate) != 1 ||
        SSL_CTX_use_PrivateKey(c, identity->key) != 1) {
        SSL_CTX_free(c);
        return fail_openssl(e, FAIL_IO, "TLS context");
    }
    SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_cert_verify_callback(c, accept_device_key, NULL);
    /* Every connection proves itself anew: nothing is resumed, no early data. */
    SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(c, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_num_tickets(c, 0);
    SSL_CTX_set_max_early_data(c, 0);
    SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    *ret = c;
    return 0;
}

int tls_open(struct tls **ret, const struct identity *identity, struct error *e)
{
    struct tls *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return fail(e, FAIL_NOMEM, "memory for TLS");
    }
    int code = make_context(&t->client, TLS_client_method(), identity, e);
    code = code == 0 ? make_context(&t->server, TLS_server_method(), identity, e) : code;
    if (code != 0) {
        tls_close(t);
        return code;
    }
    *ret = t;
    return 0;
}

void tls_close(struct tls *t)
{
    if (t != NULL) {
        SSL_CTX_free(t->client);
        SSL_CTX_free(t->server);
        free(t);
    }
}

struct ssl_st *tls_new(struct tls *t, bool server)
{
    SSL *ssl = SSL_new(server ? t->server : t->client);
    if (ssl == NULL) {
        ERR_clear_error();
        return NULL;
    }
    if (server) {
        SSL_set_accept_state(ssl);
    } else {
        SSL_set_connect_state(ssl);
    }
    return ssl;
}

int tls_peer_key(const struct ssl_st *ssl, uint8_t key[static IDENTITY_KEY], struct error *e)
{
    X509 *x = SSL_get0_peer_certificate(ssl);
    EVP_PKEY *public_key = x != NULL ? X509_get0_pubkey(x) : NULL;
    uint8_t raw[IDENTITY_KEY];
    size_t size = sizeof raw;
    if (public_key == NULL || EVP_PKEY_get_base_id(public_key) != EVP_PKEY_ED25519 ||
        EVP_PKEY_get_raw_public_key(public_key, raw, &size) != 1 || size != IDENTITY_KEY) {
        ERR_clear_error();
        return fail(e, FAIL_AUTH, "the peer showed no device key");
    }
    memcpy(key, raw, sizeof raw);
    return 0;
}

static int export_secret(SSL *ssl, const char *label, uint8_t *out, size_t size, struct error *e)
{
    if (!SSL_is_init_finished(ssl)) {
        return fail(e, FAIL_STATE, "the TLS handshake is not done");
    }
    if (SSL_export_keying_material(ssl, out, size, label, strlen(label), NULL, 0, 0) != 1) {
        return fail_openssl(e, FAIL_STATE, "TLS exporter");
    }
    return 0;
}

int tls_binding(struct ssl_st *ssl, bool server, const struct identity *own,
                struct handshake_binding *ret, struct error *e)
{
    struct handshake_binding b;
    int code = export_secret(ssl, CONTROL_LABEL, b.exporter, sizeof b.exporter, e);
    code = code == 0 ? tls_peer_key(ssl, server ? b.client_key : b.server_key, e) : code;
    if (code != 0) {
        return code;
    }
    memcpy(server ? b.server_key : b.client_key, own->public_key, IDENTITY_KEY);
    *ret = b;
    return 0;
}

int tls_data_secret(struct ssl_st *ssl, uint8_t secret[static 32], struct error *e)
{
    return export_secret(ssl, DATA_LABEL, secret, 32, e);
}

/* Keys and proofs of one device. */
#include "cluster/security.h"

#include <stdlib.h>

#include "os/clock.h"
#include "os/log.h"
#include "secure/identity.h"
#include "secure/text.h"
#include "secure/tls.h"

#include <string.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

struct secure_state {
    int hold; /* of the home folder; -1 before it */
    struct identity *identity;
    struct tls *tls;
    uint8_t key[CLUSTER_KEY];
    bool has_key;
    struct invitation invitation;
    bool has_invitation, use_invitation;
    struct ticket_table tickets;
};

/* --- keys --- */

static int open_keys(struct cluster *c, struct secure_state *s, struct error *e)
{
    const struct cluster_options *o = &c->options;
    if (o->invite != NULL) {
        int code = invitation_parse(&s->invitation, bytes_text(o->invite), e);
        if (code != 0) {
            return code;
        }
        s->has_invitation = s->use_invitation = true;
    }
    if (o->join == NULL && o->invite == NULL) {
        s->has_key = true;
        return cluster_key_create(s->key, o->home, e);
    }
    struct error local = { 0 };
    int code = cluster_key_load(s->key, o->home, &local);
    s->has_key = code == 0;
    if (code != 0 && (code != FAIL_NOT_FOUND || !s->has_invitation)) {
        return code != FAIL_NOT_FOUND
                   ? fail(e, code, "%s", local.text)
                   : fail(e, FAIL_AUTH,
                          "no cluster key in %s: give --invite (a member makes one by 'shoal "
                          "invite'), or copy cluster.key from a member",
                          o->home);
    }
    return 0;
}

int security_open(struct cluster *c, char id[static DEVICE_ID_TEXT], struct error *e)
{
    _Static_assert(DEVICE_ID_TEXT == IDENTITY_TEXT, "an id is an identity's");
    struct secure_state *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return fail(e, FAIL_NOMEM, "memory for keys");
    }
    c->secure = s;
    s->hold = -1;
    int code = home_hold(&s->hold, c->options.home, e);
    code = code ? code : identity_open(&s->identity, c->options.home, e);
    code = code ? code : tls_open(&s->tls, s->identity, e);
    code = code ? code : open_keys(c, s, e);
    if (code == 0) {
        memcpy(id, s->identity->id, DEVICE_ID_TEXT);
    }
    return code;
}

int security_draw(int64_t *ret, struct error *e)
{
    unsigned char bytes[8];
    if (RAND_bytes(bytes, sizeof bytes) != 1) {
        return fail(e, FAIL_IO, "random bytes");
    }
    uint64_t n = 0;
    for (size_t i = 0; i < sizeof bytes; i++) {
        n = n << 8 | bytes[i];
    }
    *ret = (int64_t)(n >> 1 | 1);
    return 0;
}

void security_close(struct cluster *c)
{
    struct secure_state *s = c->secure;
    if (s != NULL) {
        tls_close(s->tls);
        identity_close(s->identity);
        home_release(s->hold);
        OPENSSL_cleanse(s, sizeof *s);
        free(s);
        c->secure = NULL;
    }
}

void security_key_text(const struct cluster *c, char out[static SECURITY_KEY_TEXT])
{
    hex_format(out, c->secure->key, CLUSTER_KEY);
}

int security_take_key(struct cluster *c, const char *text, struct error *e)
{
    struct secure_state *s = c->secure;
    uint8_t key[CLUSTER_KEY];
    if (!hex_parse(key, sizeof key, bytes_text(text))) {
        return fail(e, FAIL_FORMAT, "the cluster key is not %d hex digits", 2 * CLUSTER_KEY);
    }
    int code = cluster_key_store(key, c->options.home, e);
    if (code == 0) {
        memcpy(s->key, key, sizeof key);
        s->has_key = true;
        s->use_invitation = false;
        log_info("cluster", "invited: the cluster's key is now in %s", c->options.home);
    }
    OPENSSL_cleanse(key, sizeof key);
    return code;
}

const char *security_invited_to(const struct cluster *c, unsigned turn)
{
    const struct secure_state *s = c->secure;
    unsigned n = s->has_invitation ? (unsigned)s->invitation.n_addresses : 0;
    return n > 0 ? s->invitation.addresses[turn % n] : NULL;
}

void security_try_other(struct cluster *c)
{
    struct secure_state *s = c->secure;
    if (s->has_invitation && s->has_key) {
        s->use_invitation = !s->use_invitation;
    }
}

/* --- proofs --- */

struct ssl_st *security_ssl(struct cluster *c, bool client)
{
    return tls_new(c->secure->tls, !client);
}

void security_ssl_free(struct ssl_st *ssl)
{
    SSL_free(ssl);
}

int security_prove(struct cluster *c, struct ssl_st *ssl, bool client, struct link_proof *proof,
                   uint8_t out[static HANDSHAKE_BYTES], struct error *e)
{
    struct secure_state *s = c->secure;
    struct handshake_binding binding;
    int code = tls_binding(ssl, !client, s->identity, &binding, e);
    if (code != 0) {
        return code;
    }
    if (client) {
        proof->by = s->use_invitation ? HANDSHAKE_BY_INVITATION : HANDSHAKE_BY_CLUSTER;
        memset(proof->invitation, 0, sizeof proof->invitation);
        memcpy(proof->key, s->use_invitation ? s->invitation.key : s->key, CLUSTER_KEY);
        if (s->use_invitation) {
            memcpy(proof->invitation, s->invitation.id, INVITATION_ID);
        }
    }
    struct handshake h = { .version = c->options.protocol_version,
                           .role = client ? HANDSHAKE_CLIENT : HANDSHAKE_SERVER,
                           .by = proof->by };
    memcpy(h.invitation, proof->invitation, sizeof h.invitation);
    handshake_make(out, &h, &binding, proof->key);
    return 0;
}

/* The key that a client's record claims. */
static int claimed_key(struct cluster *c, struct bytes record, struct link_proof *proof,
                       struct error *e)
{
    struct secure_state *s = c->secure;
    struct handshake h;
    int code = handshake_peek(&h, record, e);
    if (code != 0) {
        return code;
    }
    proof->by = h.by;
    memcpy(proof->invitation, h.invitation, sizeof proof->invitation);
    if (h.by == HANDSHAKE_BY_INVITATION) {
        return invitation_find(proof->key, c->options.home, h.invitation, clock_wall_s(), e);
    }
    if (!s->has_key) {
        return fail(e, FAIL_AUTH, "this device has no cluster key yet");
    }
    memcpy(proof->key, s->key, CLUSTER_KEY);
    return 0;
}

int security_check(struct cluster *c, struct ssl_st *ssl, bool client, struct link_proof *proof,
                   const uint8_t record[static HANDSHAKE_BYTES], struct error *e)
{
    struct secure_state *s = c->secure;
    struct handshake_binding binding;
    struct bytes bytes = bytes_of(record, HANDSHAKE_BYTES);
    uint8_t key[IDENTITY_KEY];
    int code = tls_binding(ssl, !client, s->identity, &binding, e);
    code = code ? code : tls_peer_key(ssl, key, e);
    code = code || client ? code : claimed_key(c, bytes, proof, e);
    if (code != 0) {
        return code;
    }
    identity_format(proof->peer, key);
    code = handshake_check(bytes, client ? HANDSHAKE_SERVER : HANDSHAKE_CLIENT, &binding,
                           proof->key, e);
    if (code == 0 && !client && proof->by == HANDSHAKE_BY_INVITATION) {
        code = invitation_redeem(c->options.home, proof->invitation, clock_wall_s(), e);
    }
    return code;
}

/* --- tickets --- */

int security_issue(struct cluster *c, struct ssl_st *ssl, uint64_t purpose, bool must_seal,
                   uint8_t ticket[static TICKET_BYTES], struct error *e)
{
    struct ticket_terms terms = { .purpose = purpose, .must_seal = must_seal };
    int code = tls_peer_key(ssl, terms.peer, e);
    code = code ? code : tls_data_secret(ssl, terms.secret, e);
    return code ? code : ticket_issue(&c->secure->tickets, &terms, c->time.now_ns, ticket, e);
}

int security_redeem(struct cluster *c, struct bytes preamble, struct ticket_grant *ret,
                    struct error *e)
{
    return ticket_redeem(&c->secure->tickets, preamble, c->time.now_ns, ret, e);
}

int security_preamble(struct ssl_st *ssl, const uint8_t ticket[static TICKET_BYTES], bool seal,
                      uint8_t out[static PREAMBLE_BYTES], struct seal_keys *keys, struct error *e)
{
    uint8_t secret[TICKET_SECRET];
    int code = tls_data_secret(ssl, secret, e);
    code = code ? code
                : ticket_preamble(out, keys, ticket, secret, seal ? seal_cipher_best() : SEAL_PLAIN,
                                  e);
    OPENSSL_cleanse(secret, sizeof secret);
    return code;
}

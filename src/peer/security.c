/* Keys and proofs of one device. */
#include "peer/security.h"

#include <stdlib.h>

#include "base/hex.h"
#include "os/clock.h"
#include "os/log.h"
#include "secure/identity.h"
#include "secure/tls.h"

#include <string.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>

struct security {
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

static int open_keys(struct peers *all, struct security *s, struct error *e)
{
    const struct peers_options *o = &all->options;
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

int security_open(struct peers *all, char id[static PEER_ID_TEXT], struct error *e)
{
    _Static_assert(PEER_ID_TEXT == IDENTITY_TEXT, "an id is an identity's");
    struct security *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return fail(e, FAIL_NOMEM, "memory for keys");
    }
    all->security = s;
    s->hold = -1;
    int code = home_hold(&s->hold, all->options.home, e);
    code = code ? code : identity_open(&s->identity, all->options.home, e);
    code = code ? code : tls_open(&s->tls, s->identity, e);
    code = code ? code : open_keys(all, s, e);
    if (code == 0) {
        memcpy(id, s->identity->id, PEER_ID_TEXT);
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

void security_close(struct peers *all)
{
    struct security *s = all->security;
    if (s != NULL) {
        tls_close(s->tls);
        identity_close(s->identity);
        home_release(s->hold);
        OPENSSL_cleanse(s, sizeof *s);
        free(s);
        all->security = NULL;
    }
}

void security_mark(const struct peers *all, char mark[static PEER_MARK_TEXT])
{
    static const char name[] = "shoal: the mark of a cluster";
    uint8_t digest[SHA256_DIGEST_LENGTH];
    unsigned size = sizeof digest;
    mark[0] = '\0';
    if (all->security->has_key &&
        HMAC(EVP_sha256(), all->security->key, CLUSTER_KEY, (const uint8_t *)name, sizeof name - 1,
             digest, &size) != NULL) {
        hex_format(mark, digest, (PEER_MARK_TEXT - 1) / 2);
    }
}

void security_invited_by(const struct peers *all, char id[static PEER_ID_TEXT])
{
    const struct security *s = all->security;
    id[0] = '\0';
    if (s->has_invitation && s->invitation.has_head) {
        hex_format(id, s->invitation.head, INVITATION_HEAD);
    }
}

void security_key_text(const struct peers *all, char out[static SECURITY_KEY_TEXT])
{
    hex_format(out, all->security->key, CLUSTER_KEY);
}

int security_take_key(struct peers *all, const char *text, struct error *e)
{
    struct security *s = all->security;
    uint8_t key[CLUSTER_KEY];
    if (!hex_parse(key, sizeof key, bytes_text(text))) {
        return fail(e, FAIL_FORMAT, "the cluster key is not %d hex digits", 2 * CLUSTER_KEY);
    }
    int code = cluster_key_store(key, all->options.home, e);
    if (code == 0) {
        memcpy(s->key, key, sizeof key);
        s->has_key = true;
        s->use_invitation = false;
        log_info("cluster", "invited: the cluster's key is now in %s", all->options.home);
    }
    OPENSSL_cleanse(key, sizeof key);
    return code;
}

const char *security_join_address(const struct peers *all, int index)
{
    const struct security *s = all->security;
    if (all->options.join != NULL) {
        return index == 0 ? all->options.join : NULL;
    }
    return s->has_invitation && index < s->invitation.n_addresses ? s->invitation.addresses[index]
                                                                  : NULL;
}

void security_try_other(struct peers *all)
{
    struct security *s = all->security;
    if (s->has_invitation && s->has_key) {
        s->use_invitation = !s->use_invitation;
    }
}

/* --- proofs --- */

struct ssl_st *security_ssl(struct peers *all, bool client)
{
    return tls_new(all->security->tls, !client);
}

void security_ssl_free(struct ssl_st *ssl)
{
    SSL_free(ssl);
}

int security_prove(struct peers *all, struct ssl_st *ssl, bool client, struct link_proof *proof,
                   uint8_t out[static HANDSHAKE_BYTES], struct error *e)
{
    struct security *s = all->security;
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
    struct handshake h = { .version = all->options.protocol_version,
                           .role = client ? HANDSHAKE_CLIENT : HANDSHAKE_SERVER,
                           .by = proof->by };
    memcpy(h.invitation, proof->invitation, sizeof h.invitation);
    handshake_make(out, &h, &binding, proof->key);
    return 0;
}

/* The key that a client's record claims. */
static int claimed_key(struct peers *all, struct bytes record, struct link_proof *proof,
                       struct error *e)
{
    struct security *s = all->security;
    struct handshake h;
    int code = handshake_peek(&h, record, e);
    if (code != 0) {
        return code;
    }
    proof->by = h.by;
    memcpy(proof->invitation, h.invitation, sizeof proof->invitation);
    if (h.by == HANDSHAKE_BY_INVITATION) {
        return invitation_find(proof->key, all->options.home, h.invitation, clock_wall_s(), e);
    }
    if (!s->has_key) {
        return fail(e, FAIL_AUTH, "this device has no cluster key yet");
    }
    memcpy(proof->key, s->key, CLUSTER_KEY);
    return 0;
}

int security_check(struct peers *all, struct ssl_st *ssl, bool client, struct link_proof *proof,
                   const uint8_t record[static HANDSHAKE_BYTES], struct error *e)
{
    struct security *s = all->security;
    struct handshake_binding binding;
    struct bytes bytes = bytes_of(record, HANDSHAKE_BYTES);
    uint8_t key[IDENTITY_KEY];
    int code = tls_binding(ssl, !client, s->identity, &binding, e);
    code = code ? code : tls_peer_key(ssl, key, e);
    code = code || client ? code : claimed_key(all, bytes, proof, e);
    if (code != 0) {
        return code;
    }
    identity_format(proof->peer, key);
    code = handshake_check(bytes, client ? HANDSHAKE_SERVER : HANDSHAKE_CLIENT, &binding,
                           proof->key, e);
    if (code == 0 && !table_has_room(all, proof->peer)) {
        /* Before the invitation is spent. */
        code = fail(e, FAIL_LIMIT, "%d devices are linked, the most there may be", PEERS_MAX);
    }
    if (code == 0 && !client && proof->by == HANDSHAKE_BY_INVITATION) {
        code = invitation_redeem(all->options.home, proof->invitation, clock_wall_s(), e);
    }
    return code;
}

/* --- tickets --- */

int security_issue(struct peers *all, struct ssl_st *ssl, uint64_t purpose,
                   uint8_t ticket[static TICKET_BYTES], struct error *e)
{
    struct ticket_terms terms = { .purpose = purpose, .must_seal = true };
    int code = tls_peer_key(ssl, terms.peer, e);
    code = code ? code : tls_data_secret(ssl, terms.secret, e);
    return code ? code : ticket_issue(&all->security->tickets, &terms, all->now_ns, ticket, e);
}

int security_redeem(struct peers *all, struct bytes preamble, struct ticket_grant *ret,
                    struct error *e)
{
    return ticket_redeem(&all->security->tickets, preamble, all->now_ns, ret, e);
}

int security_preamble(struct ssl_st *ssl, const uint8_t ticket[static TICKET_BYTES],
                      uint8_t out[static PREAMBLE_BYTES], struct seal_keys *keys, struct error *e)
{
    uint8_t secret[TICKET_SECRET];
    int code = tls_data_secret(ssl, secret, e);
    code = code ? code : ticket_preamble(out, keys, ticket, secret, seal_cipher_best(), e);
    OPENSSL_cleanse(secret, sizeof secret);
    return code;
}

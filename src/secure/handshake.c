/* Handshake records: see handshake.h.
 *
 *   0  8  magic          16  8  invitation id
 *   8  4  version        24 32  MAC
 *  12  1  role
 *  13  1  kind of key
 *  14  2  zero                                (integers little-endian) */
#include "secure/handshake.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#define MAGIC "SHOALCTL"
#define LABEL "shoal handshake 1"
#define SIGNED 24 /* bytes before the MAC */
#define MAC 32

static void compute_mac(uint8_t out[static MAC], const uint8_t *record, uint8_t role,
                        const struct handshake_binding *b, const uint8_t *key)
{
    uint8_t text[sizeof LABEL - 1 + HANDSHAKE_EXPORTER + 1 + 2 * IDENTITY_KEY + SIGNED];
    size_t n = 0;
    memcpy(text, LABEL, sizeof LABEL - 1);
    n += sizeof LABEL - 1;
    memcpy(text + n, b->exporter, HANDSHAKE_EXPORTER);
    n += HANDSHAKE_EXPORTER;
    text[n++] = role;
    memcpy(text + n, b->client_key, IDENTITY_KEY);
    n += IDENTITY_KEY;
    memcpy(text + n, b->server_key, IDENTITY_KEY);
    n += IDENTITY_KEY;
    memcpy(text + n, record, SIGNED);
    n += SIGNED;
    unsigned size = MAC;
    const uint8_t *done = HMAC(EVP_sha256(), key, CLUSTER_KEY, text, n, out, &size);
    assert(done != NULL && size == MAC);
    (void)done;
    OPENSSL_cleanse(text, sizeof text);
}

void handshake_make(uint8_t out[static HANDSHAKE_BYTES], const struct handshake *h,
                    const struct handshake_binding *binding, const uint8_t key[static CLUSTER_KEY])
{
    memset(out, 0, HANDSHAKE_BYTES);
    memcpy(out, MAGIC, 8);
    for (int i = 0; i < 4; i++) {
        out[8 + i] = (uint8_t)(h->version >> 8 * i);
    }
    out[12] = (uint8_t)h->role;
    out[13] = (uint8_t)h->by;
    memcpy(out + 16, h->invitation, INVITATION_ID);
    compute_mac(out + SIGNED, out, out[12], binding, key);
}

int handshake_peek(struct handshake *ret, struct bytes record, struct error *e)
{
    const uint8_t *r = record.data;
    if (record.size != HANDSHAKE_BYTES) {
        return fail(e, FAIL_FORMAT, "a handshake of %zu bytes, not %d", record.size,
                    HANDSHAKE_BYTES);
    }
    if (memcmp(r, MAGIC, 8) != 0) {
        return fail(e, FAIL_FORMAT, "the peer's first bytes are no shoal handshake");
    }
    if ((r[12] != HANDSHAKE_CLIENT && r[12] != HANDSHAKE_SERVER) ||
        (r[13] != HANDSHAKE_BY_CLUSTER && r[13] != HANDSHAKE_BY_INVITATION) || r[14] != 0 ||
        r[15] != 0) {
        return fail(e, FAIL_FORMAT, "a handshake with role %u and key kind %u", r[12], r[13]);
    }
    *ret =
        (struct handshake){ .role = (enum handshake_role)r[12], .by = (enum handshake_key)r[13] };
    ret->version =
        (uint32_t)r[8] | (uint32_t)r[9] << 8 | (uint32_t)r[10] << 16 | (uint32_t)r[11] << 24;
    memcpy(ret->invitation, r + 16, INVITATION_ID);
    return 0;
}

int handshake_check(struct bytes record, enum handshake_role sender,
                    const struct handshake_binding *binding, const uint8_t key[static CLUSTER_KEY],
                    struct error *e)
{
    struct handshake h;
    int code = handshake_peek(&h, record, e);
    if (code != 0) {
        return code;
    }
    uint8_t mac[MAC];
    compute_mac(mac, record.data, (uint8_t)sender, binding, key);
    bool good = CRYPTO_memcmp(mac, record.data + SIGNED, MAC) == 0 && h.role == sender;
    OPENSSL_cleanse(mac, sizeof mac);
    if (!good) {
        return fail(e, FAIL_AUTH, "the peer does not hold the %s key",
                    h.by == HANDSHAKE_BY_CLUSTER ? "cluster's" : "invitation's");
    }
    if (h.version != HANDSHAKE_VERSION) {
        return fail(e, FAIL_UNSUPPORTED,
                    "the peer speaks protocol version %u, this device version %u: update the older",
                    h.version, HANDSHAKE_VERSION);
    }
    return 0;
}

/* Tickets: see ticket.h. The preamble:
 *
 *   0  8  magic, first byte 'S'     16 16  first half of the ticket
 *   8  4  version                   32 32  MAC of the 32 bytes before
 *  12  1  cipher
 *  13  3  zero                             (integers little-endian) */
#include "secure/ticket.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>

#include "os/cpu.h"
#include "secure/internal.h"

#define MAGIC "SHOALDAT"
#define VERSION 1u
#define HALF 16
#define SIGNED 32
#define INFO "shoal data channel 1"

_Static_assert(PREAMBLE_BYTES == SIGNED + 32, "layout");

/* Everything both ends derive. Opener: the side that connected. */
struct derived {
    uint8_t proof[32];
    uint8_t opener_key[32], issuer_key[32];
    uint8_t opener_iv[12], issuer_iv[12];
};

_Static_assert(sizeof(struct derived) == 120, "no padding: filled as one string of bytes");

enum seal_cipher seal_cipher_best(void)
{
    return cpu_features() & CPU_AES ? SEAL_AES_128_GCM : SEAL_CHACHA20_POLY1305;
}

/* HKDF-SHA256 (RFC 5869) with the ticket as salt. */
static int derive(struct derived *out, const uint8_t *ticket, const uint8_t *secret, uint8_t cipher,
                  struct error *e)
{
    uint8_t info[sizeof INFO];
    memcpy(info, INFO, sizeof INFO);
    info[sizeof INFO - 1] = cipher; /* a key serves one cipher only */
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *c = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
    char digest[] = "SHA256";
    uint8_t ikm[TICKET_SECRET], salt[TICKET_BYTES];
    memcpy(ikm, secret, sizeof ikm);
    memcpy(salt, ticket, sizeof salt);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, ikm, sizeof ikm),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt, sizeof salt),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, sizeof info),
        OSSL_PARAM_construct_end(),
    };
    int good = c != NULL && EVP_KDF_derive(c, (uint8_t *)out, sizeof *out, params) == 1;
    EVP_KDF_CTX_free(c);
    EVP_KDF_free(kdf);
    OPENSSL_cleanse(ikm, sizeof ikm);
    OPENSSL_cleanse(salt, sizeof salt);
    return good ? 0 : fail_openssl(e, FAIL_IO, "deriving a channel's keys");
}

static int prove(uint8_t out[static 32], const uint8_t *preamble, const struct derived *d,
                 struct error *e)
{
    unsigned size = 32;
    return HMAC(EVP_sha256(), d->proof, sizeof d->proof, preamble, SIGNED, out, &size) != NULL
               ? 0
               : fail_openssl(e, FAIL_IO, "proof of a ticket");
}

static void take_keys(struct seal_keys *keys, const struct derived *d, enum seal_cipher cipher,
                      bool opener)
{
    keys->cipher = cipher;
    memcpy(keys->send_key, opener ? d->opener_key : d->issuer_key, sizeof keys->send_key);
    memcpy(keys->recv_key, opener ? d->issuer_key : d->opener_key, sizeof keys->recv_key);
    memcpy(keys->send_iv, opener ? d->opener_iv : d->issuer_iv, sizeof keys->send_iv);
    memcpy(keys->recv_iv, opener ? d->issuer_iv : d->opener_iv, sizeof keys->recv_iv);
}

static void forget(struct ticket *one)
{
    OPENSSL_cleanse(one, sizeof *one); /* also closes it */
}

int ticket_issue(struct ticket_table *t, const struct ticket_terms *terms, uint64_t now_ns,
                 uint8_t out[static TICKET_BYTES], struct error *e)
{
    struct ticket *place = NULL;
    for (int i = 0; i < TICKET_TABLE; i++) {
        struct ticket *one = &t->tickets[i];
        if (one->open && one->expires_ns <= now_ns) {
            forget(one);
        }
        if (!one->open && place == NULL) {
            place = one;
        }
    }
    if (place == NULL) {
        return fail(e, FAIL_LIMIT, "%d tickets for data channels are open", TICKET_TABLE);
    }
    struct ticket fresh = { .purpose = terms->purpose,
                            .expires_ns = now_ns + TICKET_LIFE_NS,
                            .must_seal = terms->must_seal,
                            .open = true };
    int code = secure_random(fresh.value, sizeof fresh.value, e);
    if (code != 0) {
        return code;
    }
    memcpy(fresh.secret, terms->secret, sizeof fresh.secret);
    memcpy(fresh.peer, terms->peer, sizeof fresh.peer);
    *place = fresh;
    memcpy(out, fresh.value, TICKET_BYTES);
    OPENSSL_cleanse(&fresh, sizeof fresh);
    return 0;
}

void ticket_revoke(struct ticket_table *t, const uint8_t peer[static IDENTITY_KEY])
{
    for (int i = 0; i < TICKET_TABLE; i++) {
        if (t->tickets[i].open && memcmp(t->tickets[i].peer, peer, IDENTITY_KEY) == 0) {
            forget(&t->tickets[i]);
        }
    }
}

static struct ticket *find(struct ticket_table *t, const uint8_t *half, uint64_t now_ns)
{
    for (int i = 0; i < TICKET_TABLE; i++) {
        struct ticket *one = &t->tickets[i];
        if (one->open && CRYPTO_memcmp(one->value, half, HALF) == 0) {
            if (one->expires_ns > now_ns) {
                return one;
            }
            forget(one);
        }
    }
    return NULL;
}

int ticket_redeem(struct ticket_table *t, struct bytes preamble, uint64_t now_ns,
                  struct ticket_grant *ret, struct error *e)
{
    const uint8_t *p = preamble.data;
    if (preamble.size != PREAMBLE_BYTES || memcmp(p, MAGIC, 8) != 0) {
        return fail(e, FAIL_FORMAT, "no preamble of a data channel");
    }
    struct ticket *one = find(t, p + 16, now_ns);
    if (one == NULL) {
        return fail(e, FAIL_AUTH, "a data channel with an unknown, used or expired ticket");
    }
    struct derived d = { { 0 } };
    uint8_t proof[32];
    int code = derive(&d, one->value, one->secret, p[12], e);
    code = code == 0 ? prove(proof, p, &d, e) : code;
    if (code == 0 && CRYPTO_memcmp(proof, p + SIGNED, sizeof proof) != 0) {
        code = fail(e, FAIL_AUTH, "a data channel whose ticket is not proved");
    } else if (code == 0 &&
               (p[8] != VERSION || p[9] != 0 || p[10] != 0 || p[11] != 0 ||
                p[12] >= SEAL_CIPHER_COUNT || p[13] != 0 || p[14] != 0 || p[15] != 0)) {
        code =
            fail(e, FAIL_UNSUPPORTED, "a data channel of version %u with cipher %u", p[8], p[12]);
    } else if (code == 0 && one->must_seal && p[12] == SEAL_PLAIN) {
        code = fail(e, FAIL_AUTH, "a data channel without encryption where it is required");
    }
    if (code == 0) {
        memcpy(ret->peer, one->peer, IDENTITY_KEY);
        ret->purpose = one->purpose;
        take_keys(&ret->keys, &d, (enum seal_cipher)p[12], false);
        forget(one);
    }
    OPENSSL_cleanse(&d, sizeof d);
    return code;
}

int ticket_preamble(uint8_t out[static PREAMBLE_BYTES], struct seal_keys *keys,
                    const uint8_t ticket[static TICKET_BYTES],
                    const uint8_t secret[static TICKET_SECRET], enum seal_cipher cipher,
                    struct error *e)
{
    struct derived d;
    uint8_t p[PREAMBLE_BYTES] = MAGIC;
    p[8] = VERSION;
    p[12] = (uint8_t)cipher;
    memcpy(p + 16, ticket, HALF);
    int code = derive(&d, ticket, secret, p[12], e);
    code = code == 0 ? prove(p + SIGNED, p, &d, e) : code;
    if (code == 0) {
        memcpy(out, p, sizeof p);
        take_keys(keys, &d, cipher, true);
    }
    OPENSSL_cleanse(&d, sizeof d);
    return code;
}

/* Sealed channels: each message one AEAD frame.
 *
 * The nonce is the direction's IV with the frame's number added in (as in TLS 1.3, RFC 8446 section
 * 5.3), counted at both ends and not sent: a frame in any other place than its own fails. After
 * REKEY_FRAMES or REKEY_BYTES the direction's key is replaced by a hash of itself, far below the
 * 2^24.5 full records that RFC 8446 section 5.5 allows a key of AES-GCM. Nothing is allocated for a
 * message unless it is larger than those before it. */
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>

#include "secure/ticket.h"
#include "transport/internal.h"

#define REKEY_FRAMES (1u << 20)
#define REKEY_BYTES (1ull << 36)
#define TAG SEAL_OVERHEAD

struct direction {
    EVP_CIPHER_CTX *cipher;
    uint8_t key[32], iv[12];
    uint64_t frame;         /* number of the next one */
    uint64_t frames, bytes; /* under the present key */
};

struct seal_channel {
    struct channel base;
    struct channel *inner;
    struct direction out, in;
    struct transfer frame; /* being sent */
    struct bytes frame_part;
    uint8_t *out_bytes, *in_bytes; /* one frame each; they grow with the largest */
    size_t out_capacity, in_capacity;
};

static struct seal_channel *self(struct channel *ch)
{
    return (struct seal_channel *)(void *)ch;
}

static void frame_nonce(const struct direction *d, uint8_t nonce[static 12])
{
    memcpy(nonce, d->iv, 12);
    for (int i = 0; i < 8; i++) {
        nonce[11 - i] ^= (uint8_t)(d->frame >> 8 * i);
    }
}

static int frame_done(struct direction *d, size_t size, bool sending, struct error *e)
{
    d->frame++;
    d->frames++;
    d->bytes += size;
    if (d->frames < REKEY_FRAMES && d->bytes < REKEY_BYTES) {
        return 0;
    }
    static const uint8_t label[] = "shoal rekey 1";
    uint8_t next[32];
    unsigned n = sizeof next;
    if (HMAC(EVP_sha256(), d->key, sizeof d->key, label, sizeof label - 1, next, &n) == NULL ||
        EVP_CipherInit_ex(d->cipher, NULL, NULL, next, NULL, sending) != 1) {
        return fail(e, FAIL_IO, "replacing the key at frame %llu", (unsigned long long)d->frame);
    }
    memcpy(d->key, next, sizeof next);
    OPENSSL_cleanse(next, sizeof next);
    d->frames = d->bytes = 0;
    return 0;
}

/* Encrypts the parts of t into out_bytes. */
static int seal_frame(struct seal_channel *c, const struct transfer *t, struct error *e)
{
    struct direction *d = &c->out;
    uint8_t nonce[12];
    size_t at = 0;
    int n = 0;
    if (channel_grow(&c->out_bytes, &c->out_capacity, t->total + TAG, e) != 0) {
        return FAIL_NOMEM;
    }
    frame_nonce(d, nonce);
    int good = EVP_EncryptInit_ex(d->cipher, NULL, NULL, NULL, nonce);
    for (int i = 0; i < t->n_parts && good == 1; i++) {
        if (t->parts[i].size > 0) {
            good = EVP_EncryptUpdate(d->cipher, c->out_bytes + at, &n, t->parts[i].data,
                                     (int)t->parts[i].size);
            at += good == 1 ? (size_t)n : 0;
        }
    }
    good = good == 1 ? EVP_EncryptFinal_ex(d->cipher, c->out_bytes + at, &n) : good;
    if (good != 1 || at != t->total ||
        EVP_CIPHER_CTX_ctrl(d->cipher, EVP_CTRL_AEAD_GET_TAG, TAG, c->out_bytes + at) != 1) {
        return fail(e, FAIL_IO, "frame %llu: encryption failed", (unsigned long long)d->frame);
    }
    c->frame_part = bytes_of(c->out_bytes, at + TAG);
    c->frame = (struct transfer){
        .channel = c->inner, .parts = &c->frame_part, .n_parts = 1, .total = at + TAG
    };
    return frame_done(d, at, true, e);
}

static int seal_send_some(struct channel *ch, const struct transfer *t, size_t *done,
                          struct error *e)
{
    struct seal_channel *c = self(ch);
    if (*done == 0) {
        int code = seal_frame(c, t, e);
        if (code != 0) {
            return code;
        }
        *done = 1; /* its number is used up: from here on giving up breaks the channel */
    }
    return c->inner->ops->send_some(c->inner, &c->frame, &c->frame.done, e);
}

/* Decrypts in_bytes (size of them) into out. */
static int open_frame(struct seal_channel *c, size_t size, uint8_t *out, struct error *e)
{
    struct direction *d = &c->in;
    uint8_t nonce[12], last[TAG];
    size_t text = size - TAG;
    int n = 0;
    frame_nonce(d, nonce);
    int good = EVP_DecryptInit_ex(d->cipher, NULL, NULL, NULL, nonce) == 1 &&
               EVP_CIPHER_CTX_ctrl(d->cipher, EVP_CTRL_AEAD_SET_TAG, TAG, c->in_bytes + text) == 1;
    if (good && text > 0) {
        good = EVP_DecryptUpdate(d->cipher, out, &n, c->in_bytes, (int)text) == 1;
    }
    if (!good || EVP_DecryptFinal_ex(d->cipher, last, &n) != 1) {
        memset(out, 0, text); /* nobody shall use what was not authenticated */
        ERR_clear_error();
        return fail(e, FAIL_AUTH,
                    "frame %llu: authentication failed (altered, replayed, out of "
                    "order or by another key)",
                    (unsigned long long)d->frame);
    }
    return frame_done(d, text, false, e);
}

static int seal_recv_some(struct channel *ch, void *in, size_t capacity, size_t *size,
                          struct error *e)
{
    struct seal_channel *c = self(ch);
    size_t n = 0;
    int r = c->inner->ops->announced(c->inner, &n, e);
    if (r == CHANNEL_DONE) {
        r = channel_grow(&c->in_bytes, &c->in_capacity, n, e);
        r = r == 0 ? c->inner->ops->recv_some(c->inner, c->in_bytes, c->in_capacity, &n, e) : r;
    }
    if (r != CHANNEL_DONE) {
        return r;
    }
    if (n < TAG) {
        return fail(e, FAIL_AUTH, "frame %llu: authentication failed (%zu bytes are too few)",
                    (unsigned long long)c->in.frame, n);
    }
    if (n - TAG > capacity) {
        return fail(e, FAIL_LIMIT, "a message of %zu bytes for %zu bytes of memory", n - TAG,
                    capacity);
    }
    r = open_frame(c, n, in, e);
    if (r != 0) {
        return r;
    }
    *size = n - TAG;
    return CHANNEL_DONE;
}

static int seal_announced(struct channel *ch, size_t *size, struct error *e)
{
    struct channel *inner = self(ch)->inner;
    int r = inner->ops->announced(inner, size, e);
    *size = r == CHANNEL_DONE && *size >= TAG ? *size - TAG : 0;
    return r;
}

static int seal_peek(struct channel *ch, struct error *e)
{
    struct channel *inner = self(ch)->inner;
    return inner->ops->peek(inner, e);
}

static int seal_suspend(struct channel *ch, struct error *e)
{
    (void)ch;
    (void)e;
    return 0; /* half a frame stays in in_bytes */
}

static void seal_sleep_begin(struct channel *ch, bool sending, bool receiving,
                             struct channel_sleep *how)
{
    struct channel *inner = self(ch)->inner;
    inner->ops->sleep_begin(inner, sending, receiving, how);
}

static void seal_sleep_end(struct channel *ch)
{
    struct channel *inner = self(ch)->inner;
    inner->ops->sleep_end(inner);
}

static void seal_shutdown(struct channel *ch)
{
    channel_shutdown(self(ch)->inner);
}

static void seal_close(struct channel *ch)
{
    struct seal_channel *c = self(ch);
    c->inner->ops->close(c->inner);
    EVP_CIPHER_CTX_free(c->out.cipher);
    EVP_CIPHER_CTX_free(c->in.cipher);
    free(c->out_bytes);
    free(c->in_bytes);
    OPENSSL_cleanse(c, sizeof *c);
    free(c);
}

#define SEAL_OPS(ops_name)                                                                         \
    {                                                                                              \
        .name = ops_name, .announced = seal_announced, .send_some = seal_send_some,                \
        .recv_some = seal_recv_some, .peek = seal_peek, .suspend = seal_suspend,                   \
        .sleep_begin = seal_sleep_begin, .sleep_end = seal_sleep_end, .shutdown = seal_shutdown,   \
        .close = seal_close                                                                        \
    }
static const struct channel_ops sealed_tcp = SEAL_OPS("sealed tcp");
static const struct channel_ops sealed_memory = SEAL_OPS("sealed memory");
static const struct channel_ops sealed_shm = SEAL_OPS("sealed shm");
#undef SEAL_OPS

static const struct channel_ops *ops_for(const struct channel *inner)
{
    return strcmp(inner->ops->name, "memory") == 0 ? &sealed_memory
           : strcmp(inner->ops->name, "shm") == 0  ? &sealed_shm
                                                   : &sealed_tcp;
}

static int init_direction(struct direction *d, enum seal_cipher cipher, const uint8_t *key,
                          const uint8_t *iv, bool sending)
{
    const EVP_CIPHER *which =
        cipher == SEAL_AES_128_GCM ? EVP_aes_128_gcm() : EVP_chacha20_poly1305();
    memcpy(d->key, key, sizeof d->key);
    memcpy(d->iv, iv, sizeof d->iv);
    d->cipher = EVP_CIPHER_CTX_new();
    return d->cipher != NULL &&
           EVP_CipherInit_ex(d->cipher, which, NULL, NULL, NULL, sending) == 1 &&
           EVP_CIPHER_CTX_ctrl(d->cipher, EVP_CTRL_AEAD_SET_IVLEN, 12, NULL) == 1 &&
           EVP_CipherInit_ex(d->cipher, NULL, NULL, key, iv, sending) == 1;
}

int channel_seal(struct channel **ret, struct channel *inner, const struct seal_keys *keys,
                 struct error *e)
{
    if (keys->cipher == SEAL_PLAIN) {
        *ret = inner;
        return 0;
    }
    if (keys->cipher >= SEAL_CIPHER_COUNT || inner->max_message <= TAG ||
        inner->max_message > INT_MAX) {
        size_t largest = inner->max_message;
        channel_close(inner);
        return fail(e, FAIL_ARG, "sealing a channel of messages up to %zu bytes with cipher %d",
                    largest, (int)keys->cipher);
    }
    struct seal_channel *c = calloc(1, sizeof *c);
    if (c == NULL) {
        channel_close(inner);
        return fail(e, FAIL_NOMEM, "memory for a sealed channel");
    }
    c->base.ops = ops_for(inner);
    c->base.max_message = inner->max_message - TAG;
    c->base.spin_ns = inner->spin_ns;
    atomic_init(&c->base.broken, false);
    c->inner = inner;
    if (!init_direction(&c->out, keys->cipher, keys->send_key, keys->send_iv, true) ||
        !init_direction(&c->in, keys->cipher, keys->recv_key, keys->recv_iv, false)) {
        channel_close(&c->base);
        return fail(e, FAIL_NOMEM, "memory for a sealed channel");
    }
    *ret = &c->base;
    return 0;
}

/* SHA-256: see digest.h. */
#include "store/digest.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "base/hex.h"
#include "os/file.h"

#define FILE_PIECE (1u << 20)

struct digest {
    EVP_MD_CTX *sum;
    EVP_MD_CTX *copy; /* for the text of what came so far */
};

int digest_open(struct digest **ret, struct error *e)
{
    struct digest *d = calloc(1, sizeof *d);
    if (d != NULL) {
        d->sum = EVP_MD_CTX_new();
        d->copy = EVP_MD_CTX_new();
    }
    if (d == NULL || d->sum == NULL || d->copy == NULL ||
        EVP_DigestInit_ex(d->sum, EVP_sha256(), NULL) != 1) {
        digest_close(d);
        return fail(e, FAIL_NOMEM, "memory for a SHA-256");
    }
    *ret = d;
    return 0;
}

void digest_close(struct digest *d)
{
    if (d != NULL) {
        EVP_MD_CTX_free(d->sum);
        EVP_MD_CTX_free(d->copy);
    }
    free(d);
}

void digest_clear(struct digest *d)
{
    int ok = EVP_DigestInit_ex(d->sum, EVP_sha256(), NULL);
    assert(ok == 1);
    (void)ok;
}

void digest_add(struct digest *d, struct bytes more)
{
    int ok = EVP_DigestUpdate(d->sum, more.data, more.size);
    assert(ok == 1);
    (void)ok;
}

void digest_bytes(struct digest *d, uint8_t ret[static DIGEST_BYTES])
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    int ok = EVP_MD_CTX_copy_ex(d->copy, d->sum) == 1 &&
             EVP_DigestFinal_ex(d->copy, sum, &size) == 1 && size == DIGEST_BYTES;
    assert(ok);
    (void)ok;
    memcpy(ret, sum, DIGEST_BYTES);
}

int digest_once(struct bytes data, uint8_t ret[static DIGEST_BYTES], struct error *e)
{
    int ok = EVP_Digest(data.data, data.size, ret, NULL, EVP_sha256(), NULL);
    return ok == 1 ? 0 : fail(e, FAIL_NOMEM, "memory for a SHA-256");
}

void digest_hex(const uint8_t sum[static DIGEST_BYTES], char ret[static DIGEST_TEXT])
{
    hex_format(ret, sum, DIGEST_BYTES);
}

void digest_text(struct digest *d, char ret[static DIGEST_TEXT])
{
    uint8_t sum[DIGEST_BYTES];
    digest_bytes(d, sum);
    digest_hex(sum, ret);
}

int digest_of_text(const char *text, char ret[static DIGEST_TEXT], struct error *e)
{
    struct digest *d = NULL;
    int code = digest_open(&d, e);
    if (code != 0) {
        return code;
    }
    digest_add(d, bytes_text(text));
    digest_text(d, ret);
    digest_close(d);
    return 0;
}

int digest_add_file(struct digest *d, const char *path, uint64_t size,
                    bool (*go_on)(void *arg, uint64_t done), void *arg, struct error *e)
{
    uint8_t *piece = malloc(FILE_PIECE);
    int code = piece != NULL ? 0 : fail(e, FAIL_NOMEM, "memory for reading %s", path);
    for (uint64_t at = 0; code == 0 && at < size;) {
        size_t n = size - at < FILE_PIECE ? (size_t)(size - at) : FILE_PIECE;
        code = file_read_range(path, at, piece, n, e);
        if (code == 0) {
            digest_add(d, bytes_of(piece, n));
            at += n;
        }
        if (code == 0 && go_on != NULL && !go_on(arg, at)) {
            code = fail(e, FAIL_CANCELLED, "%s: cancelled while its SHA-256 was made", path);
        }
    }
    free(piece);
    return code;
}

bool digest_parse(struct bytes text, char ret[static DIGEST_TEXT])
{
    if (text.size != DIGEST_TEXT - 1) {
        return false;
    }
    char out[DIGEST_TEXT];
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (c >= 'A' && c <= 'F') {
            c = (uint8_t)(c - 'A' + 'a');
        }
        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f')) {
            return false;
        }
        out[i] = (char)c;
    }
    out[DIGEST_TEXT - 1] = '\0';
    memcpy(ret, out, DIGEST_TEXT);
    return true;
}

/* Device identity and the cluster key: see identity.h. */
#include "secure/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hex.h"
#include "os/file.h"
#include "os/output.h"
#include "secure/internal.h"

#define PEM_BYTES 4096          /* an Ed25519 key takes 119 */
#define CERTIFICATE_DAYS 36500L /* identity is the key; the certificate's dates mean nothing */

int fail_openssl(struct error *e, int code, const char *what)
{
    char text[160] = "no reason given";
    unsigned long reason = ERR_get_error();
    if (reason != 0) {
        ERR_error_string_n(reason, text, sizeof text);
    }
    ERR_clear_error();
    return fail(e, code, "%s: %s", what, text);
}

int secure_random(uint8_t *out, size_t size, struct error *e)
{
    return RAND_bytes(out, (int)size) == 1 ? 0 : fail_openssl(e, FAIL_IO, "random bytes");
}

int secure_path(char out[static SECURE_PATH], const char *home, const char *name, struct error *e)
{
    int n = snprintf(out, SECURE_PATH, "%s/%s", home, name);
    return n > 0 && n < SECURE_PATH ? 0 : fail(e, FAIL_LIMIT, "the path of %s is too long", name);
}

int secret_read(char *out, size_t size, const char *path, struct error *e)
{
    struct stat s;
    int fd = -1, code = file_open(path, &fd, e);
    if (code != 0) {
        return code;
    }
    if (fstat(fd, &s) != 0) {
        code = fail(e, FAIL_IO, "%s: %s", path, strerror(errno));
    } else if ((s.st_mode & 077) != 0) {
        code = fail(e, FAIL_AUTH, "%s may be read by other users; type: chmod 600 %s", path, path);
    }
    size_t used = 0;
    while (code == 0) {
        ssize_t n = read(fd, out + used, size - used);
        used += n > 0 ? (size_t)n : 0;
        if (used == size) {
            code = fail(e, FAIL_LIMIT, "%s is longer than %zu bytes", path, size - 1);
        } else if (n == 0) {
            out[used] = '\0';
            break;
        } else if (n < 0 && errno != EINTR) {
            code = fail(e, FAIL_IO, "%s: %s", path, strerror(errno));
        }
    }
    close(fd);
    return code;
}

static int key_from_file(EVP_PKEY **ret, const char *path, struct error *e)
{
    char pem[PEM_BYTES];
    int code = secret_read(pem, sizeof pem, path, e);
    if (code != 0) {
        return code;
    }
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    OPENSSL_cleanse(pem, sizeof pem);
    if (key == NULL || EVP_PKEY_get_base_id(key) != EVP_PKEY_ED25519) {
        EVP_PKEY_free(key);
        ERR_clear_error();
        return fail(e, FAIL_FORMAT, "%s holds no Ed25519 key", path);
    }
    *ret = key;
    return 0;
}

static int make_key(EVP_PKEY **ret, const char *home, const char *path, struct error *e)
{
    int code = file_make_directory(home, 0700, e);
    if (code != 0) {
        return code;
    }
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    BIO *bio = BIO_new(BIO_s_mem());
    char *pem = NULL;
    if (key == NULL || bio == NULL ||
        PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1) {
        code = fail_openssl(e, FAIL_IO, "making a device key");
    } else {
        long n = BIO_get_mem_data(bio, &pem);
        code = file_write_atomic(path, bytes_of(pem, (size_t)n), 0600, e);
    }
    BIO_free(bio);
    if (code != 0) {
        EVP_PKEY_free(key);
        return code;
    }
    *ret = key;
    return 0;
}

static int make_certificate(struct identity *id, struct error *e)
{
    X509 *x = X509_new();
    X509_NAME *name = x != NULL ? X509_get_subject_name(x) : NULL;
    if (name == NULL || X509_set_version(x, X509_VERSION_3) != 1 ||
        ASN1_INTEGER_set(X509_get_serialNumber(x), 1) != 1 ||
        X509_gmtime_adj(X509_getm_notBefore(x), -86400L) == NULL ||
        X509_gmtime_adj(X509_getm_notAfter(x), CERTIFICATE_DAYS * 86400L) == NULL ||
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)id->id, 64, -1,
                                   0) != 1 ||
        X509_set_issuer_name(x, name) != 1 || X509_set_pubkey(x, id->key) != 1 ||
        X509_sign(x, id->key, NULL) == 0) {
        X509_free(x);
        return fail_openssl(e, FAIL_NOMEM, "making a device certificate");
    }
    id->certificate = x;
    return 0;
}

int identity_open(struct identity **ret, const char *home, struct error *e)
{
    char path[SECURE_PATH];
    int code = secure_path(path, home, "device.key", e);
    if (code != 0) {
        return code;
    }
    struct identity *id = calloc(1, sizeof *id);
    if (id == NULL) {
        return fail(e, FAIL_NOMEM, "memory for a device key");
    }
    code = key_from_file(&id->key, path, e);
    if (code == FAIL_NOT_FOUND) {
        code = make_key(&id->key, home, path, e);
    }
    size_t size = IDENTITY_KEY;
    if (code == 0 && EVP_PKEY_get_raw_public_key(id->key, id->public_key, &size) != 1) {
        code = fail_openssl(e, FAIL_FORMAT, "device key");
    }
    if (code == 0) {
        identity_format(id->id, id->public_key);
        code = make_certificate(id, e);
    }
    if (code != 0) {
        identity_close(id);
        return code;
    }
    *ret = id;
    return 0;
}

void identity_close(struct identity *id)
{
    if (id != NULL) {
        X509_free(id->certificate);
        EVP_PKEY_free(id->key);
        free(id);
    }
}

int home_hold(int *hold, const char *home, struct error *e)
{
    char path[SECURE_PATH];
    int code = secure_path(path, home, "device.lock", e);
    code = code == 0 ? file_make_directory(home, 0700, e) : code;
    if (code != 0) {
        return code;
    }
    /* Open for writing: file systems of a network lock nothing else. */
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *hold = fd;
        return 0;
    }
    code = fd >= 0 && errno == EWOULDBLOCK
               ? fail(e, FAIL_BUSY,
                      "a device runs in %s already, and one home is one device: stop it, or give "
                      "this one another --home DIR",
                      home)
               : fail(e, FAIL_IO, "%s: %s", path, strerror(errno));
    home_release(fd);
    return code;
}

bool home_is_held(const char *home)
{
    char path[SECURE_PATH];
    int fd =
        secure_path(path, home, "device.lock", NULL) == 0 ? open(path, O_RDWR | O_CLOEXEC) : -1;
    bool held = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    home_release(fd);
    return held;
}

void home_release(int hold)
{
    if (hold >= 0) {
        close(hold);
    }
}

void identity_format(char out[static IDENTITY_TEXT], const uint8_t key[static IDENTITY_KEY])
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256(key, IDENTITY_KEY, digest);
    hex_format(out, digest, sizeof digest);
}

void identity_short(char out[static IDENTITY_SHORT], const char *id)
{
    snprintf(out, IDENTITY_SHORT, "%.8s", id);
}

int cluster_key_load(uint8_t key[static CLUSTER_KEY], const char *home, struct error *e)
{
    char path[SECURE_PATH], text[2 * CLUSTER_KEY + 8];
    int code = secure_path(path, home, "cluster.key", e);
    code = code == 0 ? secret_read(text, sizeof text, path, e) : code;
    if (code != 0) {
        return code;
    }
    bool good = hex_parse(key, CLUSTER_KEY, bytes_of(text, strcspn(text, "\r\n")));
    OPENSSL_cleanse(text, sizeof text);
    return good ? 0 : fail(e, FAIL_FORMAT, "%s is not %d bytes as hex", path, CLUSTER_KEY);
}

static int write_key(const uint8_t key[static CLUSTER_KEY], const char *home, struct error *e)
{
    char path[SECURE_PATH], text[2 * CLUSTER_KEY + 2];
    int code = secure_path(path, home, "cluster.key", e);
    code = code == 0 ? file_make_directory(home, 0700, e) : code;
    if (code != 0) {
        return code;
    }
    hex_format(text, key, CLUSTER_KEY);
    text[2 * CLUSTER_KEY] = '\n';
    code = file_write_atomic(path, bytes_of(text, 2 * CLUSTER_KEY + 1), 0600, e);
    OPENSSL_cleanse(text, sizeof text);
    return code;
}

bool cluster_key_is_own(const char *home)
{
    char path[SECURE_PATH];
    return secure_path(path, home, "cluster.own", NULL) == 0 && file_exists(path);
}

int cluster_key_store(const uint8_t key[static CLUSTER_KEY], const char *home, struct error *e)
{
    char path[SECURE_PATH], old[SECURE_PATH], own[SECURE_PATH];
    int code = secure_path(path, home, "cluster.key", e);
    code = code == 0 ? secure_path(old, home, "cluster.key.old", e) : code;
    code = code == 0 ? secure_path(own, home, "cluster.own", e) : code;
    if (code == 0 && file_exists(own) && file_exists(path)) {
        code = file_rename(path, old, e);
    }
    code = code == 0 ? write_key(key, home, e) : code;
    if (code == 0) {
        file_remove(own);
    }
    return code;
}

int cluster_key_create(uint8_t key[static CLUSTER_KEY], const char *home, struct error *e)
{
    int code = cluster_key_load(key, home, e);
    if (code != FAIL_NOT_FOUND) {
        return code;
    }
    uint8_t fresh[CLUSTER_KEY];
    code = secure_random(fresh, sizeof fresh, e);
    code = code == 0 ? write_key(fresh, home, e) : code;
    char own[SECURE_PATH];
    code = code == 0 ? secure_path(own, home, "cluster.own", e) : code;
    code = code == 0 ? file_write_atomic(own, bytes_text(""), 0600, e) : code;
    if (code == 0) {
        memcpy(key, fresh, sizeof fresh);
    }
    OPENSSL_cleanse(fresh, sizeof fresh);
    return code;
}

/* What the files of secure share. */
#ifndef SHOAL_SECURE_INTERNAL_H
#define SHOAL_SECURE_INTERNAL_H

#include "base/bytes.h"
#include "base/error.h"

#define SECURE_PATH 4096

/* Records what OpenSSL says about its last failure. */
int fail_openssl(struct error *e, int code, const char *what);

/* Random bytes for keys and tickets. FAIL_IO where the system has none. */
int secure_random(uint8_t *out, size_t size, struct error *e);

/* HOME/name. FAIL_LIMIT. */
int secure_path(char out[static SECURE_PATH], const char *home, const char *name, struct error *e);

/* Reads a secret file of at most size - 1 bytes and ends it with a NUL. FAIL_NOT_FOUND; FAIL_AUTH
 * where other users may read it; FAIL_LIMIT, FAIL_IO. */
int secret_read(char *out, size_t size, const char *path, struct error *e);

#endif

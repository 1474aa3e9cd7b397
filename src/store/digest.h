/* SHA-256 of bytes as they come. */
#ifndef SHOAL_STORE_DIGEST_H
#define SHOAL_STORE_DIGEST_H

#include "base/bytes.h"
#include "base/error.h"

#define DIGEST_BYTES 32
#define DIGEST_TEXT 65 /* lower-case hex and NUL */

struct digest;

/* A digest of no bytes yet. FAIL_NOMEM. Freed by digest_close(), which accepts NULL. */
int digest_open(struct digest **ret, struct error *e);
void digest_close(struct digest *d);

/* Forgets all bytes; adds some at the end. */
void digest_clear(struct digest *d);
void digest_add(struct digest *d, struct bytes more);

/* Of all bytes so far; more may follow. */
void digest_text(struct digest *d, char ret[static DIGEST_TEXT]);
void digest_bytes(struct digest *d, uint8_t ret[static DIGEST_BYTES]);

/* As lower-case hex. */
void digest_hex(const uint8_t sum[static DIGEST_BYTES], char ret[static DIGEST_TEXT]);

/* Of these bytes. FAIL_NOMEM. */
int digest_once(struct bytes data, uint8_t ret[static DIGEST_BYTES], struct error *e);

/* Of one text. FAIL_NOMEM. */
int digest_of_text(const char *text, char ret[static DIGEST_TEXT], struct error *e);

/* Adds `size` bytes of a file from its start. `go_on` is asked now and then with the bytes done so
 * far and may be NULL; false ends it with FAIL_CANCELLED. Errors of reading. */
int digest_add_file(struct digest *d, const char *path, uint64_t size,
                    bool (*go_on)(void *arg, uint64_t done), void *arg, struct error *e);

/* Reads 64 hex digits of any case into lower case; false for any other text. */
bool digest_parse(struct bytes text, char ret[static DIGEST_TEXT]);

#endif

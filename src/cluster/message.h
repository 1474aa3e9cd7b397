/* Control messages between devices: a 4-byte length, then either a JSON object with a "type", or a
 * data frame with bytes of a request or reply that travels over the link. Pure. */
#ifndef SHOAL_CLUSTER_MESSAGE_H
#define SHOAL_CLUSTER_MESSAGE_H

#include "base/buffer.h"
#include "base/bytes.h"
#include "base/error.h"

#include <stdint.h>
#include <jansson.h>

/* Largest frame after its length: a members list of PLAN_MAX_RANKS devices with a thousand models
 * each stays below it. */
#define MESSAGE_MAX (1u << 20)
#define MESSAGE_HEAD 4
/* Bytes of one data frame: small enough that a heartbeat is never long behind one. */
#define MESSAGE_DATA_MAX (1u << 16)
/* Longest "type". */
#define MESSAGE_TYPE_MAX 32

/* One decoded frame. `body` is owned (message_done); `data` is borrowed from the frame. */
struct message {
    char type[MESSAGE_TYPE_MAX]; /* "" for a data frame */
    json_t *body;                /* the object; NULL for a data frame */
    uint32_t stream;             /* data frame: the request it belongs to */
    struct bytes data;
};

/* The size that a frame's first four bytes announce. FAIL_FORMAT when it is 0 or above
 * MESSAGE_MAX. */
int message_size(const uint8_t head[static MESSAGE_HEAD], size_t *ret, struct error *e);

/* Decodes a frame without its length. FAIL_FORMAT says what is wrong and where. */
int message_parse(struct bytes frame, struct message *ret, struct error *e);
void message_done(struct message *m);

/* Appends a whole frame. body is a new reference, released in any case; NULL (an object that could
 * not be built) is FAIL_NOMEM. FAIL_LIMIT above MESSAGE_MAX. */
int message_encode(json_t *body, struct buffer *out, struct error *e);
int message_encode_data(uint32_t stream, struct bytes data, struct buffer *out, struct error *e);

/* Fields of a message or of an object within one. Errors name the field: FAIL_FORMAT when it is
 * missing, of another type, or out of bounds. Texts are borrowed from the object and are at most
 * `max` bytes without NUL. */
int message_text(const json_t *object, const char *key, size_t max, const char **ret,
                 struct error *e);
int message_integer(const json_t *object, const char *key, int64_t min, int64_t max, int64_t *ret,
                    struct error *e);
int message_int(const json_t *object, const char *key, int min, int max, int *ret, struct error *e);
int message_array(const json_t *object, const char *key, size_t max, const json_t **ret,
                  struct error *e);
/* False when missing or no boolean. */
bool message_flag(const json_t *object, const char *key);

#endif

/* Control messages between devices: a 4-byte length, then either a JSON object with a "type", or a
 * data frame with bytes of a request or reply that travels over the link. Pure. */
#ifndef SHOAL_PEER_MESSAGE_H
#define SHOAL_PEER_MESSAGE_H

#include "base/buffer.h"
#include "base/bytes.h"
#include "base/error.h"

#include <stddef.h>
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

/* --- fields --- */

enum field_kind {
    FIELD_TEXT,    /* char[size]: copied; at most size - 1 bytes, none of them zero */
    FIELD_INTEGER, /* int64_t within [min, max] */
    FIELD_INT,     /* int within [min, max] */
    FIELD_FLAG,    /* bool; false when missing */
    FIELD_ARRAY,   /* const json_t *, borrowed: at most max elements */
    FIELD_OBJECT,  /* const json_t *, borrowed */
    FIELD_WHOLE,   /* const json_t *, borrowed: the message itself, whatever the key */
    FIELD_KIND_COUNT
};

/* One field of a message or of an object within one, and where it goes in the struct for it. */
struct message_field {
    const char *key;
    enum field_kind kind;
    bool optional; /* what is missing leaves zeros */
    int64_t min, max;
    size_t at, size;
};

/* Reads an object's fields into a zeroed struct. Keys that are not in the table are passed over: a
 * later minor version may say more. FAIL_FORMAT names the field that is missing, of another type or
 * out of its range; *into is then not to be used. */
int message_read(const json_t *object, const struct message_field *fields, int n, void *into,
                 struct error *e);

/* Rows of a table: the key is the member's name. */
#define MESSAGE_AT(type, member)                                                                   \
    .key = #member, .at = offsetof(type, member), .size = sizeof(((type *)0)->member)
#define MESSAGE_TEXT(type, member) MESSAGE_AT(type, member), .kind = FIELD_TEXT
#define MESSAGE_INTEGER(type, member, least, most)                                                 \
    MESSAGE_AT(type, member), .kind = FIELD_INTEGER, .min = least, .max = most
#define MESSAGE_INT(type, member, least, most)                                                     \
    MESSAGE_AT(type, member), .kind = FIELD_INT, .min = least, .max = most
#define MESSAGE_FLAG(type, member) MESSAGE_AT(type, member), .kind = FIELD_FLAG
#define MESSAGE_ARRAY(type, member, most) MESSAGE_AT(type, member), .kind = FIELD_ARRAY, .max = most
#define MESSAGE_WHOLE(type, member) MESSAGE_AT(type, member), .kind = FIELD_WHOLE
#define MESSAGE_OBJECT(type, member) MESSAGE_AT(type, member), .kind = FIELD_OBJECT

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

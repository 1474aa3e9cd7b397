/* What is wrong with a request, in OpenAI's shape. */
#ifndef SHOAL_API_PROBLEM_H
#define SHOAL_API_PROBLEM_H

#include "base/error.h"

#include <jansson.h>

/* How answers are written: on one line, numbers as a float32 needs them. */
#define API_JSON_FLAGS (JSON_COMPACT | JSON_REAL_PRECISION(9))

/* Caller's struct, zero-initialised: status 0 is no problem. */
struct api_problem {
    int status;       /* HTTP */
    const char *code; /* static text or NULL */
    char param[96];   /* the field's path, "messages[2].content"; empty: none */
    char message[640];
};

/* Records what is wrong and returns -1. code and param may be NULL. */
int problem_set(struct api_problem *p, int status, const char *code, const char *param,
                const char *format, ...) PRINTF_LIKE(5, 6);

/* An error of the layers below: FAIL_LIMIT is the client's (context_length_exceeded), FAIL_BUSY
 * 429, FAIL_CLOSED and FAIL_TIMEOUT 503, the rest 500. Returns -1. */
int problem_from_error(struct api_problem *p, const struct error *e);

/* {"error": {message, type, param, code}}: a new reference, NULL without memory. The type follows
 * from the status. */
json_t *problem_json(const struct api_problem *p);

#endif

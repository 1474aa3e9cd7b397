/* Bodies of requests: bytes to JSON. Pure. */
#ifndef SHOAL_API_BODY_H
#define SHOAL_API_BODY_H

#include "api/problem.h"
#include "base/bytes.h"

#include <jansson.h>

/* Parses a request's body. What is JSON but too much for a machine's numbers or for UTF-8 is taken
 * as the nearest thing that isn't: integers beyond 64 bits become decimal numbers, decimal numbers
 * beyond a double the largest one, surrogates without their other half U+FFFD. Returns a new
 * reference to an object; NULL with the problem. */
json_t *body_parse(struct bytes body, struct api_problem *p);

/* Whether a JSON value is this text, whole: a NUL in it doesn't end it. */
bool body_text_is(const json_t *value, const char *text);

/* A whole number, also one written as a decimal (5.0); beyond 64 bits the nearest. */
bool body_integer(const json_t *value, json_int_t *ret);

#endif

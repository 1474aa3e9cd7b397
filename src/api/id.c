/* Names of answers and requests. */
#include "api/id.h"

#include <event2/util.h>
#include <stdint.h>
#include <string.h>

#define RANDOM 24

void id_make(char ret[static API_ID_TEXT], const char *prefix)
{
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWX";
    uint8_t noise[RANDOM];
    evutil_secure_rng_get_bytes(noise, sizeof noise);
    size_t n = strlen(prefix);
    memcpy(ret, prefix, n);
    for (size_t i = 0; i < sizeof noise; i++) {
        ret[n++] = letters[noise[i] % (sizeof letters - 1)];
    }
    ret[n] = '\0';
}

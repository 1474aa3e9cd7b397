/* Base64url: see text.h. */
#include "secure/text.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void base64url_format(char *out, const uint8_t *data, size_t size)
{
    uint32_t bits = 0;
    int n = 0;
    for (size_t i = 0; i < size; i++) {
        bits = bits << 8 | data[i];
        for (n += 8; n >= 6; n -= 6) {
            *out++ = alphabet[bits >> (n - 6) & 63];
        }
    }
    if (n > 0) {
        *out++ = alphabet[bits << (6 - n) & 63];
    }
    *out = '\0';
}

bool base64url_parse(uint8_t *out, size_t capacity, size_t *size, struct bytes text)
{
    uint32_t bits = 0;
    int n = 0;
    size_t used = 0;
    if (text.size % 4 == 1) {
        return false;
    }
    for (size_t i = 0; i < text.size; i++) {
        const char *at = memchr(alphabet, text.data[i], sizeof alphabet - 1);
        if (at == NULL) {
            return false;
        }
        bits = bits << 6 | (uint32_t)(at - alphabet);
        n += 6;
        if (n >= 8) {
            n -= 8;
            if (used == capacity) {
                return false;
            }
            out[used++] = (uint8_t)(bits >> n);
        }
    }
    if ((bits & ((1u << n) - 1)) != 0) {
        return false;
    }
    *size = used;
    return true;
}

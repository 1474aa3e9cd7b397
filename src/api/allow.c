/* Who may use the server. */
#include "api/allow.h"

#include <string.h>

#include "base/attributes.h"

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

static bool equal_nocase(struct bytes a, struct bytes b)
{
    if (a.size != b.size) {
        return false;
    }
    for (size_t i = 0; i < a.size; i++) {
        if (lower(a.data[i]) != lower(b.data[i])) {
            return false;
        }
    }
    return true;
}

struct bytes allow_host_of(struct bytes authority)
{
    struct bytes host = authority, port = { 0 };
    for (size_t i = authority.size; i > 0 && authority.data[i - 1] != ']'; i--) {
        if (authority.data[i - 1] == ':') {
            host = bytes_of(authority.data, i - 1);
            port = bytes_of(authority.data + i, authority.size - i);
            break;
        }
    }
    for (size_t i = 0; i < port.size; i++) {
        if (port.data[i] < '0' || port.data[i] > '9') {
            return (struct bytes){ 0 };
        }
    }
    return host;
}

/* Where the authority of an origin begins; 0: it has no scheme. */
static size_t after_scheme(struct bytes origin)
{
    for (size_t i = 1; i + 2 < origin.size; i++) {
        if (memcmp(origin.data + i, "://", 3) == 0) {
            return i + 3;
        }
    }
    return 0;
}

bool allow_is_loopback(struct bytes authority)
{
    struct bytes host = allow_host_of(authority);
    if (equal_nocase(host, bytes_text("localhost")) || equal_nocase(host, bytes_text("[::1]"))) {
        return true;
    }
    if (!bytes_starts_with(host, "127.")) {
        return false;
    }
    for (size_t i = 0; i < host.size; i++) { /* "127.0.0.1.example" is a name, not an address */
        if (host.data[i] != '.' && (host.data[i] < '0' || host.data[i] > '9')) {
            return false;
        }
    }
    return true;
}

bool allow_host(const struct allow *a, struct bytes authority)
{
    struct bytes host = allow_host_of(authority);
    if (allow_is_loopback(authority)) {
        return true;
    }
    for (int i = 0; i < a->n_hosts && host.size > 0; i++) {
        struct bytes entry = bytes_text(a->hosts[i]);
        if (bytes_equal_text(entry, "*") || equal_nocase(entry, host)) {
            return true;
        }
    }
    return false;
}

bool allow_origin(const struct allow *a, struct bytes origin)
{
    const char *const schemes[] = { "http://", "https://" };
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        size_t n = strlen(schemes[i]);
        if (origin.size > n && equal_nocase(bytes_of(origin.data, n), bytes_text(schemes[i])) &&
            allow_is_loopback(bytes_of(origin.data + n, origin.size - n))) {
            return true;
        }
    }
    for (int i = 0; i < a->n_origins && origin.size > 0; i++) {
        struct bytes entry = bytes_text(a->origins[i]);
        size_t scheme = after_scheme(entry);
        bool any = scheme > 0 && scheme + 1 == entry.size && entry.data[scheme] == '*';
        bool same_scheme =
            any && origin.size > scheme &&
            equal_nocase(bytes_of(origin.data, scheme), bytes_of(entry.data, scheme));
        if (bytes_equal_text(entry, "*") || equal_nocase(entry, origin) || same_scheme) {
            return true;
        }
    }
    return false;
}

static bool is_plain(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] <= ' ' || text.data[i] >= 0x7f || text.data[i] == ',') {
            return false;
        }
    }
    return text.size > 0 && text.size < ALLOW_TEXT;
}

int allow_check_origin(const char *text, struct error *e)
{
    struct bytes origin = bytes_text(text);
    size_t at = after_scheme(origin);
    bool path = at > 0 && memchr(origin.data + at, '/', origin.size - at) != NULL;
    bool special = strcmp(text, "*") == 0 || strcmp(text, "null") == 0;
    if (is_plain(origin) && (special || (at > 0 && at < origin.size && !path))) {
        return 0;
    }
    return fail(e, FAIL_ARG, "'%.100s' is no origin: SCHEME://HOST[:PORT], without a path", text);
}

int allow_check_host(const char *text, struct error *e)
{
    struct bytes host = bytes_text(text);
    if (is_plain(host) && strpbrk(text, "/@") == NULL && allow_host_of(host).size == host.size) {
        return 0;
    }
    return fail(e, FAIL_ARG, "'%.100s' is no host: a name or an address, without a port", text);
}

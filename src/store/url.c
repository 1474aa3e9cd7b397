/* Addresses: see url.h. */
#include "store/url.h"

#include <ctype.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/model_name.h"
#include "gguf/gguf.h"

/* One part of an address as new text ("" where it is missing) if it fits. */
static bool get(CURLU *u, CURLUPart part, unsigned flags, char *ret, size_t size)
{
    char *text = NULL;
    ret[0] = '\0';
    CURLUcode code = curl_url_get(u, part, &text, flags);
    size_t n = code == CURLUE_OK ? strlen(text) : 0;
    if (code == CURLUE_OK && n < size) {
        memcpy(ret, text, n + 1);
    }
    curl_free(text);
    return n < size;
}

static bool get_origin(CURLU *u, struct url *ret)
{
    char scheme[16], host[URL_ORIGIN_TEXT - 32], port[8];
    if (!get(u, CURLUPART_SCHEME, 0, scheme, sizeof scheme) ||
        !get(u, CURLUPART_HOST, 0, host, sizeof host) ||
        !get(u, CURLUPART_PORT, CURLU_DEFAULT_PORT, port, sizeof port) || host[0] == '\0') {
        return false;
    }
    for (char *p = host; *p != '\0'; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
    ret->encrypted = strcasecmp(scheme, "https") == 0;
    snprintf(ret->origin, sizeof ret->origin, "%s://%s:%s", ret->encrypted ? "https" : "http", host,
             port);
    return ret->encrypted || strcasecmp(scheme, "http") == 0;
}

static bool get_login(CURLU *u, struct url *ret)
{
    char name[URL_LOGIN_TEXT / 2], password[URL_LOGIN_TEXT / 2];
    if (!get(u, CURLUPART_USER, CURLU_URLDECODE, name, sizeof name) ||
        !get(u, CURLUPART_PASSWORD, CURLU_URLDECODE, password, sizeof password)) {
        return false;
    }
    ret->login[0] = '\0';
    if (name[0] != '\0' || password[0] != '\0') {
        snprintf(ret->login, sizeof ret->login, "%s:%s", name, password);
    }
    return true;
}

/* Everything of an address that curl has parsed; 0 when it is no address for us. */
static bool take_apart(CURLU *u, struct url *ret)
{
    bool ok = get_origin(u, ret) && get_login(u, ret);
    ok = ok && curl_url_set(u, CURLUPART_USER, NULL, 0) == CURLUE_OK &&
         curl_url_set(u, CURLUPART_PASSWORD, NULL, 0) == CURLUE_OK &&
         curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0) == CURLUE_OK;
    return ok && get(u, CURLUPART_URL, 0, ret->clean, sizeof ret->clean) &&
           get(u, CURLUPART_PATH, 0, ret->path, sizeof ret->path) && ret->clean[0] != '\0';
}

int url_parse(const char *text, struct url *ret, struct error *e)
{
    CURLU *u = curl_url();
    if (u == NULL) {
        return fail(e, FAIL_NOMEM, "memory for an address");
    }
    int code = 0;
    CURLUcode why = strlen(text) < URL_TEXT
                        ? curl_url_set(u, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME)
                        : CURLUE_MALFORMED_INPUT;
    if (why != CURLUE_OK || !take_apart(u, ret)) {
        code = fail(e, FAIL_ARG,
                    "not an address that can be fetched from: it must look like "
                    "https://HOST/PATH/NAME.gguf (http works too)");
    }
    curl_url_cleanup(u);
    return code;
}

int url_redirect(const struct url *from, const char *location, struct url *ret, struct error *e)
{
    CURLU *u = curl_url();
    if (u == NULL) {
        return fail(e, FAIL_NOMEM, "memory for an address");
    }
    int code = 0;
    if (location[0] == '\0' || curl_url_set(u, CURLUPART_URL, from->clean, 0) != CURLUE_OK ||
        curl_url_set(u, CURLUPART_URL, location, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK ||
        !take_apart(u, ret) || ret->login[0] != '\0') {
        code =
            fail(e, FAIL_FORMAT, "%s redirects to no address that can be followed", from->origin);
    } else if (from->encrypted && !ret->encrypted) {
        code = fail(e, FAIL_FORMAT, "%s redirects to %s, which is not encrypted: refused",
                    from->origin, ret->origin);
    }
    curl_url_cleanup(u);
    return code;
}

void url_show(const struct url *u, char *ret, size_t size)
{
    size_t n = strcspn(u->clean, "?");
    snprintf(ret, size, "%.*s", (int)n, u->clean);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

int url_name(const struct url *u, char ret[static STORE_NAME_TEXT], struct error *e)
{
    const char *slash = strrchr(u->path, '/'), *p = slash ? slash + 1 : u->path;
    char name[STORE_NAME_TEXT];
    size_t n = 0;
    while (*p != '\0') {
        if (n + 1 >= sizeof name) {
            return fail(e, FAIL_ARG, "the file's name in the address has more than %d bytes",
                        STORE_NAME_TEXT - 1);
        }
        int high = p[0] == '%' ? hex_digit(p[1]) : -1, low = high >= 0 ? hex_digit(p[2]) : -1;
        name[n++] = low >= 0 ? (char)(high * 16 + low) : p[0];
        p += low >= 0 ? 3 : 1;
    }
    return name_clean(bytes_of(name, n), ret, e);
}

static bool ends_as_model(const char *name)
{
    size_t n = strlen(name), k = strlen(STORE_NAME_END);
    return n >= k && strcasecmp(name + n - k, STORE_NAME_END) == 0;
}

int name_clean(struct bytes text, char ret[static STORE_NAME_TEXT], struct error *e)
{
    char out[STORE_NAME_TEXT];
    if (text.size == 0) {
        return fail(e, FAIL_ARG, "no file's name: it must end in NAME%s", STORE_NAME_END);
    }
    if (text.size >= sizeof out - strlen(STORE_NAME_END)) {
        return fail(e, FAIL_ARG, "a file's name of more than %zu bytes",
                    sizeof out - strlen(STORE_NAME_END) - 1);
    }
    for (size_t i = 0; i < text.size; i++) {
        char c = (char)text.data[i];
        bool bad = (unsigned char)c < 0x20 || c == 0x7f || strchr("/\\:*?\"<>|", c) != NULL;
        out[i] = bad || (i == 0 && (c == '.' || c == '-')) ? '_' : c;
    }
    out[text.size] = '\0';
    if (!ends_as_model(out)) {
        memcpy(out + text.size, STORE_NAME_END, sizeof STORE_NAME_END);
    }
    memcpy(ret, out, strlen(out) + 1);
    return 0;
}

bool name_is_part(const char *name, int *ret_part, int *ret_parts, size_t *ret_at)
{
    struct model_name n = model_name_parse(bytes_text(name));
    if (!ends_as_model(name) || n.part == 0 || n.parts > GGUF_MAX_PARTS) {
        return false;
    }
    *ret_part = n.part;
    *ret_parts = n.parts;
    *ret_at = n.stem + 1;
    return true;
}

bool url_escape(const char *text, bool keep_slash, char *ret, size_t size)
{
    size_t n = strlen(ret);
    for (const char *p = text; *p != '\0'; p++) {
        bool plain =
            isalnum((unsigned char)*p) || strchr("-._~", *p) != NULL || (keep_slash && *p == '/');
        int k = plain ? snprintf(ret + n, size - n, "%c", *p)
                      : snprintf(ret + n, size - n, "%%%02X", (unsigned char)*p);
        if (k < 0 || (size_t)k >= size - n) {
            return false;
        }
        n += (size_t)k;
    }
    return true;
}

/* See client.h. */
#include "cli/client.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/model_name.h"
#include "cli/folders.h"
#include "node/running.h"
#include "os/env.h"

#define SILENCE_S 60L
#define CONNECT_S 5L
#define MAX_MODELS ((size_t)1 << 20)
#define MAX_NAMES ((size_t)300) /* what an error's text has room for */

struct transfer {
    const struct client_request *request;
    bool cancelled;
};

/* --- addresses --- */

/* The length of text without slashes at its end. */
static size_t without_slashes(const char *text, size_t n)
{
    while (n && text[n - 1] == '/')
        n--;
    return n;
}

static bool ends_with(const char *text, size_t n, const char *ending)
{
    size_t k = strlen(ending);
    return n >= k && memcmp(text + n - k, ending, k) == 0;
}

/* Of the device that runs in this user's home, if one does. */
static const char *own_url(char ret[static CLIENT_URL_TEXT])
{
    struct folders f;
    struct running r;
    if (folders_find(NULL, NULL, &f, NULL) != 0 || running_find(f.home, &r, NULL) != 0)
        return CLIENT_DEFAULT_URL;
    snprintf(ret, CLIENT_URL_TEXT, "http://127.0.0.1:%d", r.port);
    return ret;
}

int client_url(const char *given, char ret[static CLIENT_URL_TEXT], struct error *e)
{
    char own[CLIENT_URL_TEXT];
    const char *url = given ? given : env_get("SHOAL_URL", NULL);
    url = url ? url : own_url(own);
    const char *scheme = strstr(url, "://") ? "" : "http://";
    size_t n = without_slashes(url, strlen(url));
    if (ends_with(url, n, "/v1"))
        n = without_slashes(url, n - 3);
    char text[CLIENT_URL_TEXT];
    int size = n < sizeof text ? snprintf(text, sizeof text, "%s%.*s", scheme, (int)n, url) : -1;
    bool http = strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0;
    CURLU *parsed = curl_url();
    bool good = size > 0 && size < (int)sizeof text && http && parsed &&
                curl_url_set(parsed, CURLUPART_URL, text, 0) == CURLUE_OK;
    curl_url_cleanup(parsed);
    if (!good)
        return fail(e, FAIL_ARG, "\"%.200s\" is no address of an endpoint, as " CLIENT_DEFAULT_URL,
                    url);
    memcpy(ret, text, (size_t)size + 1);
    return 0;
}

/* Whether a proxy could only stand between this machine and itself. */
static bool is_loopback(const char *url)
{
    char *host = NULL;
    CURLU *parsed = curl_url();
    bool found = false;
    if (parsed && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parsed, CURLUPART_HOST, &host, 0) == CURLUE_OK)
        found = strncmp(host, "127.", 4) == 0 || strcmp(host, "[::1]") == 0 ||
                strcmp(host, "localhost") == 0 || ends_with(host, strlen(host), ".localhost");
    curl_free(host);
    curl_url_cleanup(parsed);
    return found;
}

/* --- requests --- */

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    if (t->request->on_data(t->request->arg, bytes_of(data, size * n))) {
        t->cancelled = true;
        return 0;
    }
    return size * n;
}

/* libcurl calls it as bytes come, and once a second while none do. */
static int on_turn(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    struct transfer *t = arg;
    (void)a;
    (void)b;
    (void)c;
    (void)d;
    t->cancelled = t->cancelled || (t->request->stop && atomic_load(t->request->stop));
    return t->cancelled;
}

static int curl_failure(CURLcode code, const struct client_request *r, const struct transfer *t,
                        struct error *e)
{
    if (t->cancelled)
        return fail(e, FAIL_CANCELLED, "stopped");
    if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST)
        return fail(e, FAIL_CLOSED, "nobody answers at %s: is shoal up running there?", r->url);
    if (code == CURLE_OPERATION_TIMEDOUT)
        return fail(e, FAIL_TIMEOUT, "%s%s gave no answer in time", r->url, r->path);
    return fail(e, FAIL_IO, "%s%s: %s", r->url, r->path, curl_easy_strerror(code));
}

int client_send(const struct client_request *r, long *status, struct error *e)
{
    struct buffer address;
    struct transfer t = { .request = r };
    struct curl_slist *headers = NULL;
    CURL *curl = curl_easy_init();
    buffer_init(&address, 4096);
    int result = curl && !buffer_printf(&address, "%s%s", r->url, r->path)
                     ? 0
                     : fail(e, FAIL_NOMEM, "a request to %s", r->url);
    if (!result) {
        curl_easy_setopt(curl, CURLOPT_URL, buffer_cstr(&address));
        curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        if (is_loopback(r->url))
            curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
        curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
        curl_easy_setopt(curl, CURLOPT_TIMEOUT, r->timeout_s);
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, SILENCE_S);
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(curl, CURLOPT_WRITEDATA, &t);
        curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_turn);
        curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &t);
        if (r->body) {
            headers = curl_slist_append(NULL, "Content-Type: application/json");
            curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
            curl_easy_setopt(curl, CURLOPT_POSTFIELDS, r->body);
        }
        CURLcode code = curl_easy_perform(curl);
        if (code != CURLE_OK)
            result = curl_failure(code, r, &t, e);
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, status);
    }
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    buffer_done(&address);
    return result;
}

static int keep(void *arg, struct bytes data)
{
    return buffer_append(arg, data);
}

void client_error_text(struct bytes body, char *out, size_t size)
{
    json_t *j = json_loadb((const char *)body.data, body.size, 0, NULL);
    const char *text = json_string_value(json_object_get(json_object_get(j, "error"), "message"));
    if (text)
        snprintf(out, size, "%s", text);
    else
        snprintf(out, size, "%.*s", (int)(body.size < 200 ? body.size : 200),
                 body.data ? (const char *)body.data : "");
    json_decref(j);
}

int client_fetch(const char *url, const char *path, struct buffer *out, struct error *e)
{
    long status = 0;
    const struct client_request r = {
        .url = url, .path = path, .timeout_s = 30, .on_data = keep, .arg = out
    };
    int result = client_send(&r, &status, e);
    if (!result && status >= 400) {
        char text[256];
        client_error_text(buffer_bytes(out), text, sizeof(text));
        result = fail(e, FAIL_IO, "%s%s answers %ld: %s", url, path, status, text);
    }
    return result;
}

int client_find_model(const char *url, const char *model, struct error *e)
{
    struct buffer body, names;
    buffer_init(&body, MAX_MODELS);
    buffer_init(&names, MAX_NAMES);
    int result = client_fetch(url, "/v1/models", &body, e);
    if (!result) {
        json_t *j = json_loadb(buffer_cstr(&body), body.size, 0, NULL), *one;
        bool found = false;
        size_t i;
        json_array_foreach(json_object_get(j, "data"), i, one)
        {
            const char *id = json_string_value(json_object_get(one, "id"));
            found = found || (id && model_name_compare(id, model) != MODEL_NAME_OTHER);
            if (id)
                buffer_printf(&names, "%s%s", names.size ? ", " : "", id);
        }
        json_decref(j);
        if (!found)
            result = fail(e, FAIL_NOT_FOUND, "%s serves no \"%s\", but: %s", url, model,
                          names.size ? buffer_cstr(&names) : "nothing");
    }
    buffer_done(&names);
    buffer_done(&body);
    return result;
}

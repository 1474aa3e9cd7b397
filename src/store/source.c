/* What to fetch: see source.h. */
#include "store/source.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>

#define HUB_PREFIX "hf:"
#define HUB_FORM "hf:OWNER/REPO/FILE.gguf[@REVISION]"
#define HUB_NAME_TEXT 128 /* the hub allows 96 for owner and repository */

/* What a spec says about a file of the hub. */
struct hub_file {
    char owner[HUB_NAME_TEXT], repo[HUB_NAME_TEXT];
    char path[1024];    /* within the repository */
    char revision[256]; /* branch, tag or commit */
};

/* Copies [from, to) if it fits and is not empty. */
static bool take(const char *from, const char *to, char *ret, size_t size)
{
    size_t n = (size_t)(to - from);
    if (n == 0 || n >= size) {
        return false;
    }
    memcpy(ret, from, n);
    ret[n] = '\0';
    return true;
}

static bool hub_name_is_good(const char *name)
{
    for (const char *p = name; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && strchr("-_.", *p) == NULL) {
            return false;
        }
    }
    return name[0] != '.';
}

/* No empty, "." or ".." part. */
static bool path_is_good(const char *path)
{
    for (const char *p = path;; p++) {
        size_t n = strcspn(p, "/");
        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.')) {
            return false;
        }
        p += n;
        if (*p == '\0') {
            return true;
        }
    }
}

/* The end of the file's name: a '@' behind ".gguf" begins the revision, any other one belongs to a
 * name. NULL if the name doesn't end so. */
static const char *end_of_name(const char *text)
{
    size_t k = strlen(STORE_NAME_END), n = strlen(text);
    for (const char *at = strrchr(text, '@'); at != NULL; at = NULL) {
        if ((size_t)(at - text) >= k && strncasecmp(at - k, STORE_NAME_END, k) == 0) {
            return at;
        }
    }
    return n >= k && strcasecmp(text + n - k, STORE_NAME_END) == 0 ? text + n : NULL;
}

static int parse_hub(const char *text, struct hub_file *ret, struct error *e)
{
    const char *owner_end = strchr(text, '/');
    const char *repo_end = owner_end ? strchr(owner_end + 1, '/') : NULL;
    const char *end = repo_end ? end_of_name(repo_end + 1) : NULL;
    if (end == NULL || !take(text, owner_end, ret->owner, sizeof ret->owner) ||
        !take(owner_end + 1, repo_end, ret->repo, sizeof ret->repo) ||
        !take(repo_end + 1, end, ret->path, sizeof ret->path)) {
        return fail(e, FAIL_ARG, "%s%s: a file of the hub is named " HUB_FORM, HUB_PREFIX, text);
    }
    snprintf(ret->revision, sizeof ret->revision, "main");
    if (*end == '@' && !take(end + 1, end + strlen(end), ret->revision, sizeof ret->revision)) {
        return fail(e, FAIL_ARG, "%s%s: the revision is empty or too long", HUB_PREFIX, text);
    }
    if (!hub_name_is_good(ret->owner) || !hub_name_is_good(ret->repo) || !path_is_good(ret->path)) {
        return fail(e, FAIL_ARG,
                    "%s%s: names of the hub have letters, digits, '-', '_' and '.'; a file is "
                    "named " HUB_FORM,
                    HUB_PREFIX, text);
    }
    return 0;
}

static int hub_source(const char *text, const char *endpoint, struct source *ret, struct error *e)
{
    struct hub_file f;
    int code = parse_hub(text, &f, e);
    if (code != 0) {
        return code;
    }
    size_t n = strlen(endpoint);
    while (n > 0 && endpoint[n - 1] == '/') {
        n--;
    }
    int k = snprintf(ret->page, sizeof ret->page, "%.*s/%s/%s", (int)n, endpoint, f.owner, f.repo);
    int m = snprintf(ret->from, sizeof ret->from, "%.*s/%s/%s/resolve/", (int)n, endpoint, f.owner,
                     f.repo);
    if (k < 0 || m < 0 || (size_t)m >= sizeof ret->from ||
        !url_escape(f.revision, false, ret->from, sizeof ret->from - 1)) {
        return fail(e, FAIL_ARG, "the address has more than %d bytes", URL_TEXT - 1);
    }
    m = (int)strlen(ret->from);
    ret->from[m] = '/';
    ret->from[m + 1] = '\0';
    if (!url_escape(f.path, true, ret->from, sizeof ret->from)) {
        return fail(e, FAIL_ARG, "the address has more than %d bytes", URL_TEXT - 1);
    }
    struct url u;
    code = url_parse(ret->from, &u, e);
    if (code != 0) {
        wrap(e, "HF_ENDPOINT=%s", endpoint);
        return code;
    }
    return url_name(&u, ret->name, e);
}

/* /OWNER/REPO/blob/REVISION/FILE of the hub is a page about the file. */
static void blob_to_resolve(struct source *s, const struct url *u, const char *endpoint)
{
    struct url hub;
    const char *host = strstr(u->clean, "://"), *p = host ? strchr(host + 3, '/') : NULL;
    for (int i = 0; p != NULL && i < 3; i++) {
        p = strchr(p + (i > 0), '/');
    }
    if (p == NULL || strncmp(p, "/blob/", 6) != 0 || url_parse(endpoint, &hub, NULL) != 0 ||
        strcmp(hub.origin, u->origin) != 0) {
        return;
    }
    char text[URL_TEXT];
    int n = snprintf(text, sizeof text, "%.*s/resolve/%s", (int)(p - u->clean), u->clean, p + 6);
    if (n > 0 && (size_t)n < sizeof text && u->login[0] == '\0') {
        memcpy(s->from, text, (size_t)n + 1);
        snprintf(s->page, sizeof s->page, "%.*s", (int)(p - u->clean), u->clean);
        s->kind = SOURCE_HUB;
    }
}

static int url_source(const char *spec, const char *endpoint, struct source *ret, struct error *e)
{
    struct url u;
    int code = url_parse(spec, &u, e);
    if (code != 0) {
        return code;
    }
    snprintf(ret->from, sizeof ret->from, "%s", spec);
    blob_to_resolve(ret, &u, endpoint);
    return url_name(&u, ret->name, e);
}

static int file_source(const char *spec, struct source *ret, struct error *e)
{
    const char *slash = strrchr(spec, '/'), *name = slash ? slash + 1 : spec;
    if (strlen(spec) >= sizeof ret->from) {
        return fail(e, FAIL_ARG, "a path of more than %d bytes", URL_TEXT - 1);
    }
    memcpy(ret->from, spec, strlen(spec) + 1);
    return name_clean(bytes_text(name), ret->name, e);
}

int source_parse(const char *spec, const char *endpoint, struct source *ret, struct error *e)
{
    struct source s = { .part = 1, .parts = 1 };
    const char *scheme = strstr(spec, "://");
    int code;
    if (spec[0] == '\0') {
        code = fail(e, FAIL_ARG, "nothing is named: give a path, an address or " HUB_FORM);
    } else if (strncmp(spec, HUB_PREFIX, strlen(HUB_PREFIX)) == 0) {
        s.kind = SOURCE_HUB;
        code = hub_source(spec + strlen(HUB_PREFIX), endpoint, &s, e);
    } else if (scheme != NULL && strncasecmp(spec, "http", 4) == 0) {
        s.kind = SOURCE_URL;
        code = url_source(spec, endpoint, &s, e);
    } else if (scheme != NULL && strcspn(spec, "/") > (size_t)(scheme - spec)) {
        code = fail(e, FAIL_ARG,
                    "%.*s:// can't be fetched from: give a path, an http or https "
                    "address or " HUB_FORM,
                    (int)(scheme - spec < 32 ? scheme - spec : 32), spec);
    } else {
        s.kind = SOURCE_FILE;
        code = file_source(spec, &s, e);
    }
    if (code == 0) {
        size_t at;
        name_is_part(s.name, &s.part, &s.parts, &at);
        *ret = s;
    }
    return code;
}

int source_part(const struct source *s, int part, struct source *ret, struct error *e)
{
    int named, parts;
    size_t at;
    char digits[8];
    *ret = *s;
    if (s->parts == 1 || !name_is_part(s->name, &named, &parts, &at)) {
        return 0;
    }
    snprintf(digits, sizeof digits, "%05d", part);
    memcpy(ret->name + at, digits, 5);
    ret->part = part;
    /* The digits stand as far from the end of the path as from the end of the name: neither the
     * number nor what follows is ever escaped. */
    size_t tail = strlen(s->name) - at;
    size_t end = s->kind == SOURCE_FILE ? strlen(s->from) : strcspn(s->from, "?#");
    if (end < tail || memcmp(ret->from + end - tail + 5, s->name + at + 5, 4) != 0) {
        return fail(e, FAIL_ARG, "%s: its other parts can't be named from this address", s->name);
    }
    memcpy(ret->from + end - tail, digits, 5);
    return 0;
}

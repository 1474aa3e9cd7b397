/* Why a server gives no file, and what to do about it. */
#include "store/reply.h"

#include <stdio.h>

#define TOKEN_HINT "HF_TOKEN=hf_... shoal pull ..."

static bool code_is(const struct reply *r, const char *code)
{
    return strcmp(r->code, code) == 0;
}

/* 401 and 403 from the hub. */
static int explain_hub_access(const struct reply *r, const struct reply_asked *a, struct error *e)
{
    const char *page = a->page[0] ? a->page : a->host;
    if (code_is(r, "GatedRepo") || (r->status == 403 && a->token)) {
        return fail(e, FAIL_AUTH,
                    "%s: answered %d: its owner asks you to accept terms first: open %s in a "
                    "browser, accept them, then: " TOKEN_HINT " (with a token of that account that "
                    "may read this repository)",
                    a->url, r->status, page);
    }
    if (a->token) {
        return fail(e, FAIL_AUTH,
                    "%s: answered %d: the token in HF_TOKEN is not valid here, or there is no "
                    "such repository: check both at %s/settings/tokens and %s",
                    a->url, r->status, a->host, page);
    }
    return fail(e, FAIL_AUTH,
                "%s: answered %d: there is no such repository, or it needs a token: check its "
                "name at %s, make a token at %s/settings/tokens, then: " TOKEN_HINT,
                a->url, r->status, page, a->host);
}

static int explain_access(const struct reply *r, const struct reply_asked *a, struct error *e)
{
    if (a->hub) {
        return explain_hub_access(r, a, e);
    }
    if (r->status == 407) {
        return fail(e, FAIL_AUTH,
                    "%s: the proxy asks for a login: put it into https_proxy or http_proxy "
                    "(http://NAME:PASSWORD@HOST:PORT)",
                    a->url);
    }
    if (a->login) {
        return fail(e, FAIL_AUTH,
                    "%s: answered %d: the name and password in the address are not "
                    "accepted for this file",
                    a->url, r->status);
    }
    if (r->status == 401) {
        return fail(e, FAIL_AUTH,
                    "%s: answered 401: it asks for a login: put NAME:PASSWORD@ before "
                    "the host in the address",
                    a->url);
    }
    return fail(e, FAIL_AUTH,
                "%s: answered 403: it doesn't give out this file: if the address was signed it has "
                "expired: get a new one; else ask the file's owner",
                a->url);
}

static int explain_missing(const struct reply *r, const struct reply_asked *a, struct error *e)
{
    if (!a->hub || a->page[0] == '\0') {
        return fail(e, FAIL_NOT_FOUND, "%s: answered %d: there is no such file: check the address",
                    a->url, r->status);
    }
    if (code_is(r, "RepoNotFound")) {
        return fail(e, FAIL_NOT_FOUND,
                    "%s: answered 404: there is no such repository: check its "
                    "name at %s",
                    a->url, a->page);
    }
    if (code_is(r, "RevisionNotFound")) {
        return fail(e, FAIL_NOT_FOUND,
                    "%s: answered 404: the repository has no such revision: "
                    "leave out @REVISION or look at %s/commits/main",
                    a->url, a->page);
    }
    return fail(e, FAIL_NOT_FOUND,
                "%s: answered %d: the repository has no such file: %s/tree/main "
                "lists what it has",
                a->url, r->status, a->page);
}

static int explain_busy(const struct reply *r, const struct reply_asked *a, struct error *e)
{
    char wait[64] = "in a few minutes";
    if (r->retry_after_s > 0) {
        snprintf(wait, sizeof wait, "in %lld s", (long long)r->retry_after_s);
    }
    if (r->status == 429) {
        return fail(e, FAIL_BUSY,
                    "%s: answered 429: too many requests from here: run the same "
                    "command again %s%s; what came is kept",
                    a->url, wait,
                    a->hub && !a->token ? ", or with a token, which may ask more often: " TOKEN_HINT
                                        : "");
    }
    return fail(e, FAIL_BUSY,
                "%s: answered %d: the server has trouble: run the same command again "
                "%s; what came is kept",
                a->url, r->status, wait);
}

int reply_explain(const struct reply *r, const struct reply_asked *a, struct error *e)
{
    switch (r->status) {
    case 401:
    case 403:
    case 407:
        return explain_access(r, a, e);
    case 404:
    case 410:
        return explain_missing(r, a, e);
    case 408:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
        return explain_busy(r, a, e);
    case 200:
    case 206:
        return fail(e, FAIL_IO, "%s: answered %d with a length or range that can't be right",
                    a->url, r->status);
    default:
        if (r->status >= 500) {
            return fail(e, FAIL_IO, "%s: answered %d: the server has trouble: try again later",
                        a->url, r->status);
        }
        return fail(e, FAIL_UNSUPPORTED, "%s: answered %d instead of the file: check the address",
                    a->url, r->status);
    }
}

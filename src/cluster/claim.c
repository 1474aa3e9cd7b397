/* Claims as messages: see claim.h. */
#include "cluster/claim.h"

#include <stdlib.h>

#include "peer/message.h"
#include "gguf/gguf.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define HEX_BYTES (2 * (size_t)DIGEST_BYTES)

static const char *const kind_names[CLAIM_KINDS] = { "sample", "share", "whole" };

void claims_done(struct claims *c)
{
    for (int i = 0; i < CLAIM_KINDS; i++) {
        free(c->kinds[i].digests);
    }
    *c = (struct claims){ 0 };
}

bool claim_complete(const struct claims *c, enum claim_kind kind)
{
    const struct claim *claim = &c->kinds[kind];
    return claim->tensors > 0 && claim->have == claim->tensors;
}

/* --- to JSON --- */

static json_t *hex_digests(const uint8_t *data, size_t n)
{
    char *text = malloc(n * HEX_BYTES + 1);
    if (text == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        digest_hex(data + i * DIGEST_BYTES, text + i * HEX_BYTES);
    }
    json_t *j = json_stringn_nocheck(text, n * HEX_BYTES);
    free(text);
    return j;
}

json_t *claim_json(const struct claim_piece *p)
{
    int n = p->tensors - p->first < CLAIM_PIECE ? p->tensors - p->first : CLAIM_PIECE;
    assert(p->first >= 0 && n > 0);
    return json_pack("{s:s, s:I, s:I, s:s, s:I, s:b, s:i, s:i, s:o}", "type", "claim", "placement",
                     (json_int_t)p->placement, "epoch", (json_int_t)p->epoch, "kind",
                     kind_names[p->kind], "seed", (json_int_t)(p->seed & INT64_MAX), "share",
                     (int)p->share_follows, "tensors", p->tensors, "first", p->first, "digests",
                     hex_digests(p->digests + (size_t)p->first * DIGEST_BYTES, (size_t)n));
}

json_t *claim_failed_json(int64_t placement, uint32_t epoch, const char *why)
{
    return json_pack("{s:s, s:I, s:I, s:s, s:s}", "type", "claim", "placement",
                     (json_int_t)placement, "epoch", (json_int_t)epoch, "kind", "failed", "text",
                     why);
}

/* --- from JSON --- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads n bytes of hex into ret; false for any other text. */
static bool from_hex(const char *text, uint8_t *ret, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int high = hex_digit(text[2 * i]);
        int low = high < 0 ? -1 : hex_digit(text[2 * i + 1]);
        if (low < 0) {
            return false;
        }
        ret[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* Appends `count` digests; memory grows only as they come. */
static int append(struct claim *claim, int tensors, const char *text, int count, struct error *e)
{
    size_t had = (size_t)claim->have * DIGEST_BYTES, more = (size_t)count * DIGEST_BYTES;
    uint8_t *all = realloc(claim->digests, had + more);
    if (all == NULL) {
        return fail(e, FAIL_NOMEM, "memory for the digests of %d tensors", tensors);
    }
    claim->digests = all;
    if (!from_hex(text, all + had, more)) {
        return fail(e, FAIL_FORMAT, "field 'digests' is not lower-case hex");
    }
    claim->tensors = tensors;
    claim->have += count;
    return 0;
}

static int take_digests(struct claims *c, enum claim_kind kind, const json_t *m, struct error *e)
{
    struct claim *claim = &c->kinds[kind];
    int tensors = 0, first = 0;
    int64_t seed = 0;
    const char *text = "";
    int code = message_int(m, "tensors", 1, GGUF_MAX_TENSORS, &tensors, e);
    code = code ? code : message_int(m, "first", 0, tensors - 1, &first, e);
    code = code ? code : message_integer(m, "seed", 0, INT64_MAX, &seed, e);
    code = code ? code : message_text(m, "digests", CLAIM_PIECE * HEX_BYTES, &text, e);
    if (code != 0) {
        return code;
    }
    size_t size = strlen(text);
    int count = (int)(size / HEX_BYTES);
    if (first != claim->have || (claim->tensors != 0 && claim->tensors != tensors) || count == 0 ||
        size % HEX_BYTES != 0 || count > tensors - first) {
        return fail(e, FAIL_FORMAT, "digests of tensors %d to %d of %d where %d of %d are there",
                    first, first + count - 1, tensors, claim->have, claim->tensors);
    }
    code = append(claim, tensors, text, count, e);
    if (code == 0 && kind == CLAIM_SAMPLE) {
        c->seed = (uint64_t)seed;
        c->share_follows = message_flag(m, "share");
    }
    return code;
}

int claims_take(struct claims *c, const json_t *m, struct error *e)
{
    const char *kind = "", *text = "";
    int code = message_text(m, "kind", 16, &kind, e);
    if (code == 0 && strcmp(kind, "failed") == 0) {
        code = message_text(m, "text", ERROR_TEXT - 1, &text, e);
        if (code == 0) {
            snprintf(c->failed, sizeof c->failed, "%s", text[0] ? text : "no reason given");
        }
        return code;
    }
    for (int i = 0; i < CLAIM_KINDS && code == 0; i++) {
        if (strcmp(kind, kind_names[i]) == 0) {
            return take_digests(c, (enum claim_kind)i, m, e);
        }
    }
    return code ? code : fail(e, FAIL_FORMAT, "field 'kind' is '%s'", kind);
}

int claim_difference(const struct claim *claim, const uint8_t *digests, int n)
{
    assert(n == claim->tensors && n == claim->have);
    for (int i = 0; i < n; i++) {
        if (memcmp(claim->digests + (size_t)i * DIGEST_BYTES, digests + (size_t)i * DIGEST_BYTES,
                   DIGEST_BYTES) != 0) {
            return i;
        }
    }
    return -1;
}

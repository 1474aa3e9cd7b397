/* Chat templates: arbitrary template text and JSON variables, apart by the first NUL byte. What
 * parses is rendered twice, which must give the same bytes or the same error. */
#include "base/buffer.h"
#include "engine/chat.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Small enough that no input takes long, large enough that the bounds are reached late. */
static const struct jinja_limits limits = { .source = 1 << 16,
                                            .memory = 4 << 20,
                                            .output = 1 << 18,
                                            .steps = 100000,
                                            .nesting = 60,
                                            .depth = 200,
                                            .range = 1000 };

static void render(const struct jinja *j, const json_t *vars, struct buffer *out, struct error *e)
{
    static const struct jinja_clock now = { .local_s = 1722002709, .microsecond = 5 };
    struct arena a = { 0 };
    struct jinja_value globals;
    if (!vars || chat_value(&a, vars, &globals, e))
        globals = jinja_none();
    int code = jinja_render(j, &globals, &now, out, e);
    if (code && (out->size || !e->text[0]))
        abort();
    arena_done(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *cut = size ? memchr(data, 0, size) : NULL;
    size_t n = cut ? (size_t)(cut - data) : size;
    struct jinja *j = NULL;
    struct error e = { 0 };
    if (jinja_parse(&j, bytes_of(data, n), &limits, &e)) {
        if (!e.text[0])
            abort();
        return 0;
    }
    json_t *vars =
        cut ? json_loadb((const char *)cut + 1, size - n - 1, JSON_ALLOW_NUL, NULL) : NULL;
    struct buffer out[2];
    struct error errors[2] = { 0 };
    for (int i = 0; i < 2; i++) {
        buffer_init(&out[i], 1 << 18);
        render(j, vars, &out[i], &errors[i]);
    }
    if (!bytes_equal(buffer_bytes(&out[0]), buffer_bytes(&out[1])) ||
        strcmp(errors[0].text, errors[1].text) != 0)
        abort();
    for (int i = 0; i < 2; i++)
        buffer_done(&out[i]);
    json_decref(vars);
    jinja_close(j);
    return 0;
}

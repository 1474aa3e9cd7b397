/* Bytes of tokens as text. */
#include "api/text.h"

#include "base/buffer.h"
#include "base/utf8.h"

/* Walks over the text; appends it to out, if not NULL, with U+FFFD for what isn't UTF-8. */
static size_t walk(struct bytes text, struct buffer *out)
{
    size_t count = 0;
    while (text.size > 0) {
        uint32_t c = 0;
        int n = utf8_read(text, &c);
        size_t used = n > 0 ? (size_t)n : 1;
        if (out != NULL) {
            buffer_append(out, n > 0 ? bytes_of(text.data, used) : bytes_text("\xef\xbf\xbd"));
        }
        text = bytes_of(text.data + used, text.size - used);
        count++;
    }
    return count;
}

json_t *text_json(struct bytes text)
{
    json_t *json = json_stringn(text.size > 0 ? (const char *)text.data : "", text.size);
    if (json != NULL) {
        return json;
    }
    struct buffer clean;
    buffer_init(&clean, 3 * text.size); /* of each byte at most U+FFFD */
    walk(text, &clean);
    json = clean.failed ? NULL : json_stringn(buffer_cstr(&clean), clean.size);
    buffer_done(&clean);
    return json;
}

size_t text_length(struct bytes text)
{
    return walk(text, NULL);
}

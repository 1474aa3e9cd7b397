/* A text as it is before it becomes tokens: see internal.h. */
#include "token/internal.h"

#include "base/utf8.h"

int text_repair(struct bytes text, struct buffer *out)
{
    size_t done = 0;
    for (size_t i = 0; i < text.size;) {
        uint32_t c;
        int n = utf8_read(bytes_of(text.data + i, text.size - i), &c);
        if (n > 0) {
            i += (size_t)n;
            continue;
        }
        buffer_append(out, bytes_of(text.data + done, i - done));
        buffer_text(out, "\xef\xbf\xbd");
        done = ++i;
    }
    buffer_append(out, bytes_of(text.data + done, text.size - done));
    return out->failed ? FAIL_NOMEM : 0;
}

int text_mark_spaces(struct bytes text, struct buffer *out)
{
    size_t done = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] != ' ')
            continue;
        buffer_append(out, bytes_of(text.data + done, i - done));
        buffer_text(out, SPACE_MARK);
        done = i + 1;
    }
    buffer_append(out, bytes_of(text.data + done, text.size - done));
    return out->failed ? FAIL_NOMEM : 0;
}

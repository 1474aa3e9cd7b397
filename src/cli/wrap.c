/* See wrap.h. */
#include "cli/wrap.h"

#include <string.h>

#include "base/display.h"
#include "base/utf8.h"

/* Columns to a tab stop. */
#define TAB_COLUMNS 8

static void end_word(struct wrap *w)
{
    w->n = w->width = 0;
    w->too_long = false;
}

static int new_line(struct wrap *w, struct buffer *to)
{
    w->column = 0;
    return buffer_u8(to, '\n');
}

/* A line of the text ends; three backticks at its start begin or end code. */
static int end_line(struct wrap *w, struct buffer *to)
{
    if (w->n_line == sizeof w->line && memcmp(w->line, "```", sizeof w->line) == 0)
        w->code = !w->code;
    w->n_line = 0;
    end_word(w);
    return new_line(w, to);
}

/* A space or a tab; one that would stand at the margin is the line's end. */
static int put_gap(struct wrap *w, char gap, size_t limit, struct buffer *to)
{
    size_t next = gap == '\t' ? w->column / TAB_COLUMNS * TAB_COLUMNS + TAB_COLUMNS : w->column + 1;
    end_word(w);
    if (!w->code && next > limit)
        return new_line(w, to);
    w->column = next;
    return buffer_u8(to, (uint8_t)gap);
}

/* Makes room for `width` more columns of the present word, if there is a way. */
static int make_room(struct wrap *w, size_t width, size_t limit, struct buffer *to)
{
    bool fits_below = !w->too_long && w->column > w->width && w->width + width <= limit;
    if (!fits_below) {
        w->too_long = true;
        return 0;
    }
    int r = w->width ? buffer_printf(to, "\033[%zuD\033[K", w->width) : 0;
    r = r ? r : new_line(w, to);
    w->column = w->width;
    return r ? r : buffer_append(to, bytes_of(w->word, w->n));
}

static int put_character(struct wrap *w, struct bytes character, size_t limit, struct buffer *to)
{
    uint32_t c = 0;
    size_t width = utf8_read(character, &c) > 0 ? (size_t)display_columns(c) : 1;
    int r = 0;
    if (width == 2)
        end_word(w); /* between East Asian characters a line may break anywhere */
    if (!w->code && w->column + width > limit)
        r = make_room(w, width, limit, to);
    if (w->n + character.size <= sizeof w->word)
        memcpy(w->word + w->n, character.data, character.size);
    else
        w->too_long = true;
    w->n += w->too_long ? 0 : character.size;
    w->width += width;
    w->column += width;
    if (w->column > limit + 1) /* the terminal broke it */
        w->column = width;
    if (width == 2)
        end_word(w);
    return r ? r : buffer_append(to, character);
}

int wrap_add(struct wrap *w, struct bytes text, size_t columns, struct buffer *to)
{
    /* A character in the last column leaves the cursor in a place that terminals disagree on. */
    size_t limit = columns > 1 ? columns - 1 : 1;
    int r = 0;
    for (size_t i = 0; i < text.size && !r;) {
        char first = (char)text.data[i];
        size_t n = (size_t)utf8_length(text.data[i]);
        n = n <= text.size - i ? n : text.size - i;
        if (first != '\n' && w->n_line < sizeof w->line)
            w->line[w->n_line++] = first;
        if (first == '\n')
            r = end_line(w, to);
        else if (first == ' ' || first == '\t')
            r = put_gap(w, first, limit, to);
        else
            r = put_character(w, bytes_of(text.data + i, n), limit, to);
        i += n;
    }
    return r;
}

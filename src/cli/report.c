/* See report.h. */
#include "cli/report.h"
#include "cli/print.h"

#include "os/terminal.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CELL_TEXT 64

/* Columns wide enough for the longest cells that occur. */
static const int widths[REPORT_KIND_COUNT] = { -11, 7, 16, 15 };

struct report {
    bool is_json, is_terminal, shows_progress;
    json_t *all, *rows; /* rows: of the present table; borrowed from all */
    const struct report_column *columns;
    int n_columns;
    bool failed; /* no memory for a part of the JSON */
};

int report_open(struct report **ret, bool json, struct error *e)
{
    struct report *r = calloc(1, sizeof(*r));
    if (!r || !(r->all = json_object())) {
        free(r);
        return fail(e, FAIL_NOMEM, "a report");
    }
    r->is_json = json;
    r->is_terminal = terminal_on_errors();
    *ret = r;
    return 0;
}

static void clear_progress(struct report *r)
{
    if (r->shows_progress)
        print_err("\r\033[K");
    r->shows_progress = false;
}

void report_progress(struct report *r, const char *format, ...)
{
    va_list args;
    if (!r->is_terminal)
        return;
    clear_progress(r);
    va_start(args, format);
    print_args(PRINT_ERR, format, args);
    va_end(args);
    r->shows_progress = true;
}

void report_line(struct report *r, const char *format, ...)
{
    va_list args;
    clear_progress(r);
    if (r->is_json)
        return;
    va_start(args, format);
    print_args(PRINT_OUT, format, args);
    va_end(args);
    print_out("\n");
    print_flush(NULL);
}

static void set(struct report *r, json_t *to, const char *key, json_t *value)
{
    r->failed |= json_object_set_new(to, key, value) != 0;
}

void report_fact_text(struct report *r, const char *key, const char *value)
{
    set(r, r->all, key, json_string(value));
}

void report_fact_count(struct report *r, const char *key, int64_t value)
{
    set(r, r->all, key, json_integer(value));
}

static void print_cell(enum report_kind kind, const char *text)
{
    print_out("%s%*s", kind == REPORT_TEXT ? "" : " ", widths[kind], text);
}

void report_table(struct report *r, const char *key, const char *title,
                  const struct report_column *columns, int n_columns)
{
    r->columns = columns;
    r->n_columns = n_columns;
    r->rows = json_array();
    set(r, r->all, key, r->rows);
    report_line(r, "\n%s", title);
    if (r->is_json)
        return;
    for (int i = 0; i < n_columns; i++)
        if (columns[i].title)
            print_cell(columns[i].kind, columns[i].title);
    print_out("\n");
    print_flush(NULL);
}

static void format_cell(const struct report_column *column, const struct report_cell *cell,
                        char text[static CELL_TEXT])
{
    if (column->kind == REPORT_TEXT) {
        snprintf(text, CELL_TEXT, "%s", cell->text);
        return;
    }
    if (column->kind == REPORT_COUNT) {
        snprintf(text, CELL_TEXT, "%lld", (long long)cell->count);
        return;
    }
    struct spread s = samples_spread(cell->samples);
    bool share = column->kind == REPORT_SHARE;
    double unit = share ? 0.01 : column->unit > 0 ? column->unit : 1;
    int d = share || s.median >= 100 * unit ? 0 : s.median >= 10 * unit ? 1 : 2;
    snprintf(text, CELL_TEXT, "%.*f%s (%.*f-%.*f)", d, s.median / unit, share ? " %" : "", d,
             s.low / unit, d, s.high / unit);
}

static json_t *json_cell(const struct report_column *column, const struct report_cell *cell)
{
    if (column->kind == REPORT_TEXT)
        return json_string(cell->text);
    if (column->kind == REPORT_COUNT)
        return json_integer(cell->count);
    struct spread s = samples_spread(cell->samples);
    return json_pack("{s:f, s:f, s:f}", "median", s.median, "min", s.low, "max", s.high);
}

void report_row(struct report *r, const struct report_cell *cells)
{
    clear_progress(r);
    json_t *row = json_object();
    for (int i = 0; i < r->n_columns; i++) {
        const struct report_column *column = &r->columns[i];
        char text[CELL_TEXT];
        set(r, row, column->key, json_cell(column, &cells[i]));
        if (r->is_json || !column->title)
            continue;
        format_cell(column, &cells[i], text);
        print_cell(column->kind, text);
    }
    r->failed |= json_array_append_new(r->rows, row) != 0;
    if (r->is_json)
        return;
    print_out("\n");
    print_flush(NULL);
}

int report_close(struct report *r, struct error *e)
{
    int code = 0;
    if (!r)
        return 0;
    clear_progress(r);
    if (r->is_json && r->failed)
        code = fail(e, FAIL_NOMEM, "the JSON text");
    else if (r->is_json)
        code = print_json(json_incref(r->all), e);
    json_decref(r->all);
    free(r);
    return code;
}

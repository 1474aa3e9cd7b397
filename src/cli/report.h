/* Tables of measurements, printed row by row as text or gathered into one JSON object; for this
 * folder only. A table is a list of columns; the same rows give both forms. */
#ifndef SHOAL_CLI_REPORT_H
#define SHOAL_CLI_REPORT_H

#include "base/attributes.h"
#include "base/error.h"
#include "measure/samples.h"

#include <stdbool.h>
#include <stdint.h>

struct report;

enum report_kind {
    REPORT_TEXT,
    REPORT_COUNT,
    REPORT_SPREAD, /* as median (least-greatest) in the column's unit, three digits; JSON: in base
                    * units */
    REPORT_SHARE,  /* the same of a ratio, in per cent */
    REPORT_KIND_COUNT
};

struct report_column {
    const char *key;   /* in JSON */
    const char *title; /* with its unit; NULL: in JSON only */
    enum report_kind kind;
    double unit; /* REPORT_SPREAD: what the title's unit is in base units; 0: 1 */
};

/* One cell: the member that the column's kind names. Borrowed for the call. */
struct report_cell {
    const char *text;
    int64_t count;
    const struct samples *samples;
};

/* FAIL_NOMEM. */
int report_open(struct report **ret, bool json, struct error *e);

/* A fact about the whole report: a member of the object, told by the caller's own line in text. */
void report_fact_text(struct report *r, const char *key, const char *value);
void report_fact_count(struct report *r, const char *key, int64_t value);

/* Begins the table `key`; columns is borrowed until the next table. */
void report_table(struct report *r, const char *key, const char *title,
                  const struct report_column *columns, int n_columns);
/* cells as the table's columns. */
void report_row(struct report *r, const struct report_cell *cells);

/* A line between tables; text form only. */
void report_line(struct report *r, const char *format, ...) PRINTF_LIKE(2, 3);

/* What goes on now, on stderr if that is a terminal; written over by the next. */
void report_progress(struct report *r, const char *format, ...) PRINTF_LIKE(2, 3);

/* Prints the JSON object, if that is the form, and frees. FAIL_IO, FAIL_NOMEM. */
int report_close(struct report *r, struct error *e);

#endif

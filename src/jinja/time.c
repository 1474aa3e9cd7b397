/* strftime in the C locale, of a time given as an argument. Source: POSIX, strftime; the flags -
 * _ 0 ^ # are glibc's. */
#include "jinja/internal.h"

struct moment {
    int64_t year;
    int month, day; /* from 1 */
    int hour, minute, second, microsecond;
    int weekday;     /* 0: Sunday */
    int yearday;     /* from 0 */
    int64_t epoch_s; /* as if local time were UTC */
};

static const char *const days[] = { "Sunday",   "Monday", "Tuesday", "Wednesday",
                                    "Thursday", "Friday", "Saturday" };
static const char *const months[] = { "January",   "February", "March",    "April",
                                      "May",       "June",     "July",     "August",
                                      "September", "October",  "November", "December" };

static bool is_leap(int64_t y)
{
    return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
}

/* Days to civil date by counting eras of 400 years from March 1st. */
static struct moment moment_of(const struct jinja_clock *now)
{
    int64_t s = now->local_s % 86400, day = now->local_s / 86400;
    if (s < 0) {
        s += 86400;
        day--;
    }
    struct moment m = { .hour = (int)(s / 3600),
                        .minute = (int)(s / 60 % 60),
                        .second = (int)(s % 60),
                        .microsecond = now->microsecond,
                        .epoch_s = now->local_s };
    m.weekday = (int)(((day + 4) % 7 + 7) % 7);
    int64_t z = day + 719468, era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t of_era = z - era * 146097;
    int64_t years = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t left = of_era - (365 * years + years / 4 - years / 100), shifted = (5 * left + 2) / 153;
    m.day = (int)(left - (153 * shifted + 2) / 5 + 1);
    m.month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
    m.year = years + era * 400 + (m.month <= 2);
    static const int before[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };
    m.yearday = before[m.month - 1] + m.day - 1 + (m.month > 2 && is_leap(m.year));
    return m;
}

/* ISO 8601: the week that holds the year's first Thursday is week 1. */
static int iso_week(const struct moment *m, int64_t *year)
{
    int monday_based = (m->weekday + 6) % 7;
    int week = (m->yearday - monday_based + 10) / 7;
    *year = m->year;
    if (week < 1) {
        *year = m->year - 1;
        int last = m->yearday + (is_leap(*year) ? 366 : 365);
        return (last - monday_based + 10) / 7;
    }
    int days_in_year = is_leap(m->year) ? 366 : 365;
    if (week == 53 && m->yearday - monday_based + 3 >= days_in_year) {
        *year = m->year + 1;
        return 1;
    }
    return week;
}

struct directive {
    char flag; /* - _ 0 ^ # or 0 */
    int width; /* -1: none */
};

static int put_number(struct run *r, struct text *t, struct directive d, int64_t v, int width,
                      char pad)
{
    if (d.flag == '-')
        width = 0;
    else if (d.flag == '_')
        pad = ' ';
    else if (d.flag == '0')
        pad = '0';
    if (d.width > width)
        width = d.width;
    return text_printf(r, t, pad == '0' ? "%0*lld" : "%*lld", width, (long long)v);
}

static int put_name(struct run *r, struct text *t, struct directive d, const char *name,
                    size_t most)
{
    for (size_t i = 0; name[i] && i < most; i++) {
        char c = name[i];
        bool upper = c >= 'A' && c <= 'Z', lower = c >= 'a' && c <= 'z';
        if ((d.flag == '^' || d.flag == '#') && lower)
            c = (char)(c - 32);
        else if (d.flag == 'l' && upper)
            c = (char)(c + 32);
        int code = text_add(r, t, &c, 1);
        if (code)
            return code;
    }
    return 0;
}

static int put_format(struct run *r, struct text *t, const char *format, const struct moment *m);

/* Directives that are numbers; false when c is none. */
static bool number_of(const struct moment *m, char c, int64_t *v, int *width, char *pad)
{
    int64_t iso_year, hour12 = m->hour % 12 ? m->hour % 12 : 12;
    int week = iso_week(m, &iso_year);
    const struct {
        char c;
        int64_t v;
        int width;
        char pad;
    } rows[] = {
        { 'Y', m->year, 0, '0' },
        { 'C', m->year / 100, 2, '0' },
        { 'y', m->year % 100, 2, '0' },
        { 'G', iso_year, 0, '0' },
        { 'g', iso_year % 100, 2, '0' },
        { 'm', m->month, 2, '0' },
        { 'd', m->day, 2, '0' },
        { 'e', m->day, 2, ' ' },
        { 'H', m->hour, 2, '0' },
        { 'k', m->hour, 2, ' ' },
        { 'I', hour12, 2, '0' },
        { 'l', hour12, 2, ' ' },
        { 'M', m->minute, 2, '0' },
        { 'S', m->second, 2, '0' },
        { 'j', m->yearday + 1, 3, '0' },
        { 'w', m->weekday, 1, '0' },
        { 'u', m->weekday ? m->weekday : 7, 1, '0' },
        { 'V', week, 2, '0' },
        { 'U', (m->yearday + 7 - m->weekday) / 7, 2, '0' },
        { 'W', (m->yearday + 7 - (m->weekday + 6) % 7) / 7, 2, '0' },
        { 's', m->epoch_s, 1, '0' },
        { 'f', m->microsecond, 6, '0' },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (rows[i].c == c) {
            *v = rows[i].v;
            *width = rows[i].width;
            *pad = rows[i].pad;
            return true;
        }
    return false;
}

static int put_directive(struct run *r, struct text *t, struct directive d, char c,
                         const struct moment *m)
{
    int64_t v;
    int width;
    char pad;
    if (number_of(m, c, &v, &width, &pad))
        return put_number(r, t, d, v, width, pad);
    switch (c) {
    case 'a':
        return put_name(r, t, d, days[m->weekday], 3);
    case 'A':
        return put_name(r, t, d, days[m->weekday], 20);
    case 'b':
    case 'h':
        return put_name(r, t, d, months[m->month - 1], 3);
    case 'B':
        return put_name(r, t, d, months[m->month - 1], 20);
    case 'p':
        d.flag = d.flag == '#' ? 'l' : d.flag;
        return put_name(r, t, d, m->hour < 12 ? "AM" : "PM", 2);
    case 'P':
        return text_cstr(r, t, m->hour < 12 ? "am" : "pm");
    case 'c':
        return put_format(r, t, "%a %b %e %H:%M:%S %Y", m);
    case 'D':
    case 'x':
        return put_format(r, t, "%m/%d/%y", m);
    case 'F':
        return put_format(r, t, "%Y-%m-%d", m);
    case 'T':
    case 'X':
        return put_format(r, t, "%H:%M:%S", m);
    case 'R':
        return put_format(r, t, "%H:%M", m);
    case 'r':
        return put_format(r, t, "%I:%M:%S %p", m);
    case 'n':
        return text_cstr(r, t, "\n");
    case 't':
        return text_cstr(r, t, "\t");
    case '%':
        return text_cstr(r, t, "%");
    case 'z':
    case 'Z':
        return 0; /* the time carries no zone */
    default:
        return text_printf(r, t, "%%%c", c);
    }
}

static int put_bytes(struct run *r, struct text *t, struct bytes f, const struct moment *m)
{
    int code = 0;
    for (size_t i = 0; !code && i < f.size; i++) {
        if (f.data[i] != '%' || i + 1 == f.size || f.data[i + 1] >= 0x80) {
            code = text_add(r, t, f.data + i, 1);
            continue;
        }
        struct directive d = { .width = -1 };
        size_t start = i++;
        if (strchr("-_0^#", f.data[i]) && f.data[i])
            d.flag = (char)f.data[i++];
        int width = 0;
        for (; i < f.size && f.data[i] >= '0' && f.data[i] <= '9' && width < 100; i++)
            d.width = width = width * 10 + (f.data[i] - '0');
        if (i < f.size && (f.data[i] == 'E' || f.data[i] == 'O'))
            i++;
        if (i < f.size && f.data[i] < 0x80)
            code = put_directive(r, t, d, (char)f.data[i], m);
        else
            code = text_add(r, t, f.data + start, (i < f.size ? i + 1 : i) - start);
    }
    return code;
}

static int put_format(struct run *r, struct text *t, const char *format, const struct moment *m)
{
    return put_bytes(r, t, bytes_text(format), m);
}

int format_time(struct run *r, struct jinja_value format, const struct jinja_clock *now,
                struct jinja_value *ret)
{
    struct moment m = moment_of(now);
    struct text t = { 0 };
    int code = run_step(r, 1 + 8 * (uint64_t)format.size);
    if (!code)
        code = put_bytes(r, &t, string_bytes(format), &m);
    if (!code)
        code = text_value(r, &t, ret);
    /* The dates between are harmless, so nobody keeps them apart from what a user wrote. */
    if (!code && ret->size && format.taint)
        ret->taint = TAINT_ALL;
    return code;
}

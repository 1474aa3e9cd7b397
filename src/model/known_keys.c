/* See known_keys.h. */
#include "model/known_keys.h"

#include <stdio.h>

static const struct known_key rows[] = {
#define KEY(families, suffix, use, neutral, why) { families, suffix, KEY_##use, neutral, why },
#include "model/known_keys.def"
#undef KEY
};

const struct known_key *known_keys(int *n)
{
    *n = (int)ARRAY_LEN(rows);
    return rows;
}

static bool is_for(const struct known_key *row, const char *family)
{
    char name[72];
    snprintf(name, sizeof(name), " %s ", family);
    return row->families[0] == '\0' || strstr(row->families, name) != NULL;
}

const struct known_key *known_key_find(const char *family, const char *suffix)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (strcmp(rows[i].suffix, suffix) == 0 && is_for(&rows[i], family))
            return &rows[i];
    return NULL;
}

static bool fits(const struct known_key *row, double value)
{
    return row->use == KEY_AT_MOST ? value <= row->neutral : value == row->neutral;
}

/* A number, or each of an array of numbers. */
static bool is_neutral(struct keys *k, const struct known_key *row)
{
    const struct gguf_value *v = key_find(k, row->suffix);
    bool array = v->type == GGUF_ARRAY && v->element != GGUF_TEXT && v->element != GGUF_ARRAY;
    if (!array)
        return fits(row, key_float(k, row->suffix, row->neutral));
    for (uint64_t i = 0; i < v->count; i++)
        if (!fits(row, gguf_array_float(v, i)))
            return false;
    return true;
}

void refuse_unhonoured_keys(struct keys *k)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bool refuses = rows[i].use == KEY_NEUTRAL || rows[i].use == KEY_AT_MOST;
        if (!refuses || !key_find(k, rows[i].suffix) ||
            known_key_find(k->family, rows[i].suffix) != &rows[i] || is_neutral(k, &rows[i]))
            continue;
        key_refuse(k, rows[i].suffix, FAIL_UNSUPPORTED, "%s %s is not supported yet", k->family,
                   rows[i].why);
    }
}

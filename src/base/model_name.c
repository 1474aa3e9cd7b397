/* Names of models: see model_name.h. */
#include "base/model_name.h"

#include <stdio.h>

#define ENDING ".gguf"
#define ENDING_BYTES (sizeof ENDING - 1)
/* "-00001-of-00003": how llama.cpp's gguf-split names parts. */
#define PART_PATTERN "-#####-of-#####"
#define PART_FORMAT "-%05d-of-%05d"
#define PART_BYTES (sizeof PART_PATTERN - 1)

static char lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : (char)c;
}

static bool alike(const uint8_t *a, const uint8_t *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (lower(a[i]) != lower(b[i]))
            return false;
    return true;
}

static int number(const uint8_t *digits)
{
    int n = 0;
    for (int i = 0; i < 5; i++)
        n = n * 10 + (digits[i] - '0');
    return n;
}

struct model_name model_name_parse(struct bytes text)
{
    struct model_name name = { .stem = text.size };
    if (text.size > ENDING_BYTES &&
        alike(text.data + text.size - ENDING_BYTES, (const uint8_t *)ENDING, ENDING_BYTES)) {
        name.is_file = true;
        name.stem -= ENDING_BYTES;
    }
    if (name.stem <= PART_BYTES)
        return name;
    const uint8_t *tail = text.data + name.stem - PART_BYTES;
    for (size_t i = 0; i < PART_BYTES; i++) {
        bool digit = tail[i] >= '0' && tail[i] <= '9';
        if (PART_PATTERN[i] == '#' ? !digit : tail[i] != (uint8_t)PART_PATTERN[i])
            return name;
    }
    int part = number(tail + 1), parts = number(tail + PART_BYTES - 5);
    if (part >= 1 && part <= parts) {
        name.part = part;
        name.parts = parts;
        name.stem -= PART_BYTES;
    }
    return name;
}

int model_name_part(const char *first, int i, int n, char *out, size_t size, struct error *e)
{
    char ending[48];
    snprintf(ending, sizeof(ending), PART_FORMAT ENDING, 1, n);
    size_t length = strlen(first), tail = n > 1 ? strlen(ending) : 0;
    if (n > 1 && (length < tail || strcmp(first + length - tail, ending) != 0))
        return fail(e, FAIL_FORMAT, "a model in %d parts must be opened by its first, named ...%s",
                    n, ending);
    snprintf(ending, sizeof(ending), PART_FORMAT ENDING, i + 1, n);
    int w = snprintf(out, size, "%.*s%s", (int)(length - tail), first, n > 1 ? ending : "");
    if (w < 0 || (size_t)w >= size)
        return fail(e, FAIL_LIMIT, "the path is too long");
    return 0;
}

enum model_name_match model_name_compare(const char *id, const char *asked)
{
    if (strcmp(id, asked) == 0)
        return MODEL_NAME_SAME;
    size_t stem = model_name_parse(bytes_text(asked)).stem;
    bool same = strlen(id) == stem && alike((const uint8_t *)id, (const uint8_t *)asked, stem);
    return same ? MODEL_NAME_ALIKE : MODEL_NAME_OTHER;
}

bool model_name_is_path(const char *asked)
{
    return strchr(asked, '/') != NULL;
}

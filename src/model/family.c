/* See family.h; a row stands in families/families.def. */
#include "model/family.h"

#include "model/families/families.h"

static const struct family families[] = {
#define FAMILY(name, eps, rope_base, window_rope_base)                                             \
    { #name, eps, rope_base, window_rope_base, read_##name },
#include "model/families/families.def"
#undef FAMILY
};

const struct family *family_find(struct bytes name)
{
    for (size_t i = 0; i < ARRAY_LEN(families); i++)
        if (bytes_equal_text(name, families[i].name))
            return &families[i];
    return NULL;
}

const struct family *family_all(int *n)
{
    *n = (int)ARRAY_LEN(families);
    return families;
}

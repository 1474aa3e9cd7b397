/* The families: see family.h. Sources: each family's configuration in transformers, and the keys
 * and tensor names that llama.cpp's converter writes. */
#include "model/family.h"

static const struct family families[] = {
    { .name = "llama", .rope_interleaved = true, .act = ACT_SILU },
    { .name = "qwen3", .act = ACT_SILU },
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

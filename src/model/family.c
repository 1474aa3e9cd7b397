/* The families: see family.h. Sources: each family's configuration in transformers, and the keys
 * and tensor names that llama.cpp's converter writes. */
#include "model/family.h"

static const struct family families[] = {
    { .name = "llama", .rope_interleaved = true, .act = ACT_SILU },
    { .name = "qwen3", .act = ACT_SILU },
    { .name = "qwen2", .act = ACT_SILU },
    { .name = "qwen3moe", .act = ACT_SILU },
    { .name = "smollm3", .rope_interleaved = true, .act = ACT_SILU, .no_rope_pattern = 4 },
    { .name = "gemma3",
      .act = ACT_GELU,
      .embedding_scaled = true,
      .window_pattern = 6,
      .window_rope_base = 10000.0 },
    { .name = "gemma4",
      .act = ACT_GELU,
      .embedding_scaled = true,
      .window_pattern = 6,
      .window_rope_base = 10000.0,
      .value_norm = true,
      .attention_scale = 1.0f },
    { .name = "lfm2", .act = ACT_SILU, .final_norm = "token_embd_norm.weight" },
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

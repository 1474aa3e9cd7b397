/* Qwen 2 and 3. */
#include "model/decoder.h"
#include "model/families/families.h"

static const struct decoder_traits qwen = { .act = ACT_SILU };

void read_qwen2(struct reading *r)
{
    read_decoder(r, &qwen);
}

void read_qwen3(struct reading *r)
{
    read_decoder(r, &qwen);
    read_qk_norms(r);
}

void read_qwen3moe(struct reading *r)
{
    read_qwen3(r);
    read_experts(r, EXPERT_WIDTH_OWN);
}

/* Llama and its relatives with the same parts: Mistral, Mixtral, SmolLM. */
#include "model/decoder.h"
#include "model/families/families.h"

void read_llama(struct reading *r)
{
    read_decoder(r, &(struct decoder_traits){ .act = ACT_SILU, .rope_interleaved = true });
    read_experts(r, EXPERT_WIDTH_FFN);
}

/* Every fourth layer does not rotate. */
void read_smollm3(struct reading *r)
{
    read_decoder(r, &(struct decoder_traits){ .act = ACT_SILU, .rope_interleaved = true });
    for (int i = 3; i < r->recipe->n_layers && reading_ok(r); i += 4)
        r->recipe->layers[i].mixer.attention.rope = PROGRAM_NONE;
}

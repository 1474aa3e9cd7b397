/* LFM2: short convolutions where a layer has no KV heads. Source: Lfm2 in transformers. */
#include "model/decoder.h"
#include "model/families/families.h"

void read_lfm2(struct reading *r)
{
    struct recipe *m = r->recipe;
    read_decoder(r, &(struct decoder_traits){ .act = ACT_SILU, .other_mixers = true });
    int kernel = key_int(&r->keys, "shortconv.l_cache", KEY_REQUIRED, 2, 64);
    for (int i = 0; i < m->n_layers && reading_ok(r); i++) {
        struct mixer_recipe *mixer = &m->layers[i].mixer;
        if (mixer->attention.kv_heads)
            continue;
        mixer->kind = MIXER_SHORT_CONV;
        mixer->short_conv = (struct short_conv_recipe){ kernel, "shortconv.in_proj",
                                                        "shortconv.conv", "shortconv.out_proj" };
    }
    read_windows(r, 0, false);
    read_qk_norms(r);
    m->output_norm = rms_norm(r, "token_embd_norm.weight");
}

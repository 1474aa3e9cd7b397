/* Gemma 3 and 4. Source: Gemma3 and Gemma4 in transformers. */
#include "model/decoder.h"
#include "model/families/families.h"

#include <math.h>

#define PERIOD 6 /* five layers with a window, then one that sees everything */
/* The one size of Gemma 3 that scales by another width than a head's: 27B. Its configuration says
 * so in a number (query_pre_attn_scalar) that GGUF has no key for. */
#define LAYERS_27B 62

static void read_gemma(struct reading *r, bool windows_required)
{
    static const char cap[] = "final_logit_softcapping";
    read_decoder(r, &(struct decoder_traits){ .act = ACT_GELU });
    read_windows(r, PERIOD, windows_required);
    read_qk_norms(r);
    read_post_norms(r);
    r->recipe->embedding_scale = sqrtf((float)r->recipe->width);
    r->recipe->logit_softcap = (float)key_float(&r->keys, cap, 0.0);
    if (r->recipe->logit_softcap < 0)
        key_refuse(&r->keys, cap, FAIL_FORMAT, "it is below 0");
}

void read_gemma3(struct reading *r)
{
    struct recipe *m = r->recipe;
    read_gemma(r, false);
    for (int i = 0; i < m->n_layers && reading_ok(r) && m->n_layers == LAYERS_27B; i++) {
        struct attention_recipe *a = &m->layers[i].mixer.attention;
        a->scale = (float)(1.0 / sqrt((double)(m->width / a->heads)));
    }
}

/* The last layers may attend to what the last earlier layer of their kind stored. */
static void share_kv(struct reading *r)
{
    struct recipe *m = r->recipe;
    int shared = key_int(&r->keys, "attention.shared_kv_layers", 0, 0, m->n_layers - 1);
    for (int i = m->n_layers - shared; i < m->n_layers && reading_ok(r); i++) {
        struct attention_recipe *a = &m->layers[i].mixer.attention;
        int from = m->n_layers - shared - 1;
        while (from >= 0 && m->layers[from].mixer.attention.window != a->window)
            from--;
        if (from < 0 || m->layers[from].mixer.attention.kv_heads != a->kv_heads) {
            key_refuse(&r->keys, "attention.shared_kv_layers", FAIL_FORMAT,
                       "layer %d shares no earlier layer's KV", i);
            return;
        }
        a->kv_layer = from;
    }
}

static void read_layer_inputs(struct reading *r)
{
    r->recipe->layer_inputs = (struct layer_inputs_recipe){
        .width = key_int(&r->keys, "embedding_length_per_layer_input", 0, 0, 65536),
        .embedding = "per_layer_token_embd",
        .projection = "per_layer_model_proj",
        .norm = rms_norm(r, "per_layer_proj_norm.weight"),
        .gate = "inp_gate",
        .out = "proj",
        .after = rms_norm(r, "post_norm.weight"),
        .act = ACT_GELU,
    };
}

/* Only a quarter of the frequencies of layers that see everything turn: the file's factors say so.
 */
static void require_rope_factors(struct reading *r)
{
    static const char name[] = "rope_freqs.weight";
    struct keys *k = &r->keys;
    if (reading_ok(r) && !gguf_tensor(k->g, name))
        k->result = gguf_refuse(k->g, name, k->error, FAIL_NOT_FOUND, "tensor %s is missing", name);
}

void read_gemma4(struct reading *r)
{
    static const char scale[] = "layer_output_scale.weight";
    struct recipe *m = r->recipe;
    bool scaled = false, keys_are_values = true;
    read_gemma(r, true);
    require_rope_factors(r);
    for (int i = 0; i < m->n_layers && reading_ok(r); i++) {
        bool global = m->layers[i].mixer.attention.window == 0;
        scaled = scaled || layer_tensor(r, i, scale);
        keys_are_values = keys_are_values && !(global && layer_tensor(r, i, "attn_v.weight"));
    }
    for (int i = 0; i < m->n_layers && reading_ok(r); i++) {
        struct attention_recipe *a = &m->layers[i].mixer.attention;
        a->scale = 1;
        a->v_norm = (struct norm_recipe){ NORM_RMS_PLAIN, NULL, m->eps };
        a->value_from_key = keys_are_values && a->window == 0;
        m->layers[i].scale = scaled ? scale : NULL;
        if (a->value_from_key && a->value_dim != a->head_dim)
            key_refuse(&r->keys, "attention.value_length", FAIL_FORMAT,
                       "layer %d has no values of its own, and keys of another length", i);
    }
    if (reading_ok(r))
        share_kv(r);
    read_layer_inputs(r);
}

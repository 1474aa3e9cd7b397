/* See unread.h. */
#include "model/unread.h"

#include <stdio.h>

/* A '*' stands for any bytes. */
static const struct {
    const char *pattern, *why;
} harmless[] = {
    { "*.input_scale", "how a writer scaled activations to quantize them; ours have scales of "
                       "their own" },
    { "blk.*.attn_rot_embd.*", "inverse frequencies, which the rope base gives" },
    { "rope_factors_long.weight", "longrope's, which no other scaling reads" },
    { "rope_factors_short.weight", "longrope's, which no other scaling reads" },
    { "cls.*", "a classifier beside the logits" },
    { "cls", "a classifier beside the logits" },
    { "dense_2.*", "an embedding's projection beside the logits" },
    { "dense_3.*", "an embedding's projection beside the logits" },
    { "v.*", "an encoder of pictures: text does not pass through it" },
    { "a.*", "an encoder of sound: text does not pass through it" },
    { "mm.*", "a projector of pictures and sound: text does not pass through it" },
};

static bool matches(const char *pattern, struct bytes name)
{
    size_t i = 0, star = SIZE_MAX, from = 0, at = 0;
    while (i < name.size) {
        if (pattern[at] == '*') {
            star = at++;
            from = i;
        } else if (pattern[at] && (uint8_t)pattern[at] == name.data[i]) {
            at++;
            i++;
        } else if (star != SIZE_MAX) {
            at = star + 1;
            i = ++from;
        } else {
            return false;
        }
    }
    while (pattern[at] == '*')
        at++;
    return pattern[at] == '\0';
}

const char *harmless_tensor(struct bytes name)
{
    for (size_t i = 0; i < ARRAY_LEN(harmless); i++)
        if (matches(harmless[i].pattern, name))
            return harmless[i].why;
    return NULL;
}

int refuse_unread_tensors(const struct gguf *g, const struct map *read, const char *family,
                          struct error *e)
{
    for (int i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        char name[128];
        if (map_get(read, t->name, 0) || harmless_tensor(t->name))
            continue;
        snprintf(name, sizeof(name), "%.*s", BYTES_ARG(t->name));
        return gguf_refuse(g, name, e, FAIL_UNSUPPORTED,
                           "tensor %s is not one that a %s model has here: without it the answers "
                           "would be another model's",
                           name, family);
    }
    return 0;
}

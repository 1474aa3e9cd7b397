/* Any bytes as a GGUF file: opened, every key printed, every tensor's ends read, summarized. */
#include "fuzz/fuzz.h"

#include "base/buffer.h"
#include "gguf/gguf.h"
#include "model/summary.h"

#include <stdlib.h>

#define MAX_TEXT (1u << 20)

void fuzz_one(const uint8_t *data, size_t size)
{
    struct gguf *g = NULL;
    struct error e = { 0 };
    struct model_summary s;
    if (gguf_open_bytes(&g, bytes_of(data, size), &e)) {
        /* A refusal always says why. */
        if (!e.code || !e.text[0])
            abort();
        return;
    }
    struct buffer text;
    buffer_init(&text, MAX_TEXT);
    for (int i = 0; i < gguf_n_keys(g); i++)
        gguf_value_print(gguf_value_at(g, i), 16, &text);
    buffer_done(&text);
    volatile uint8_t sink = 0;
    for (int i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        sink ^= t->data[0] ^ t->data[t->bytes - 1];
    }
    (void)sink;
    if (!model_summarize(g, &s, &e))
        model_summary_memory(&s, INT32_MAX);
    gguf_close(g);
}

/* A list of chunks as a device keeps it, and as peers will send it: the bytes of the file on disk
 * under a sum that is right, since only whoever changes both comes further.
 *
 * Input: the first byte says how much of a right list stands before the rest (times 4 bytes). */
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "gguf/gguf.h"
#include "gguf/writer.h"
#include "store/chunks.h"

#define MAX_BYTES 65536

static struct gguf *model;
static struct buffer file, right;

/* Three tensors: less than a chunk, none at all behind it, two chunks and a bit. The bytes
 * themselves are never read here. */
static void make_model(void)
{
    static const uint64_t elements[] = { 32, 1, 600000 };
    struct gguf_writer *w = NULL;
    struct error e = { 0 };
    struct chunks *c = NULL;
    buffer_init(&file, 4u << 20);
    buffer_init(&right, MAX_BYTES);
    if (gguf_writer_open_memory(&w, &file, &e) != 0) {
        abort();
    }
    static const char *const names[] = { "a", "b", "c" };
    for (int i = 0; i < 3; i++) {
        gguf_writer_tensor(w, names[i], QUANT_F32, 1, &elements[i], &e);
    }
    static const uint8_t zeros[600000 * 4];
    for (int i = 0; i < 3; i++) {
        gguf_writer_data(w, bytes_of(zeros, (size_t)elements[i] * 4), &e);
    }
    if (gguf_writer_finish(w, &e) != 0 || gguf_open_bytes(&model, buffer_bytes(&file), &e) != 0 ||
        chunks_open(&c, model, &e) != 0 || chunks_encode(c, &right, &e) != 0) {
        abort();
    }
    right.size -= DIGEST_BYTES; /* the sum comes with the input */
    gguf_writer_close(w);
    chunks_close(c);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    struct buffer text, again;
    struct chunks *c = NULL;
    struct error e = { 0 };
    if (model == NULL) {
        make_model();
    }
    if (size == 0 || chunks_open(&c, model, &e) != 0) {
        return;
    }
    size_t head = (size_t)data[0] * 4 < right.size ? (size_t)data[0] * 4 : right.size;
    uint8_t sum[DIGEST_BYTES];
    buffer_init(&text, MAX_BYTES);
    buffer_init(&again, MAX_BYTES);
    buffer_append(&text, bytes_of(right.data, head));
    buffer_append(&text, bytes_of(data + 1, size - 1));
    if (digest_once(buffer_bytes(&text), sum, &e) == 0) {
        buffer_append(&text, bytes_of(sum, sizeof sum));
        int code = chunks_decode(c, buffer_bytes(&text), &e);
        if (code == 0) {
            /* What was taken is what was there. */
            if (chunks_encode(c, &again, &e) != 0 || again.size != text.size) {
                abort();
            }
        } else if (e.text[0] == '\0' || chunks_done(c) != 0) {
            abort();
        }
        uint8_t tensors[3 * DIGEST_BYTES], root[DIGEST_BYTES];
        if (chunks_complete(c) && (chunks_tensor_digests(c, NULL, tensors, &e) != 0 ||
                                   chunks_root(c, tensors, root, &e) != 0)) {
            abort();
        }
    }
    buffer_done(&text);
    buffer_done(&again);
    chunks_close(c);
}

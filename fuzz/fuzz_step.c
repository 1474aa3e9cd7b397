/* Steps from another device: whatever the bytes, a decoded step is within its bounds and encodes
 * to the same bytes again. */
#include "fuzz/fuzz.h"

#include "engine/step.h"

#include <stdlib.h>

void fuzz_one(const uint8_t *data, size_t size)
{
    static struct step_storage storage;
    struct error e = { 0 };
    struct step s;
    if (!storage.ids && step_storage_init(&storage, &e))
        abort();
    if (step_decode(bytes_of(data, size), &storage, &s, &e)) {
        if (!e.text[0])
            abort();
        return;
    }
    if (s.n_rows > STEP_MAX_ROWS || s.n_runs > STEP_MAX_RUNS || s.n_commands > STEP_MAX_COMMANDS)
        abort();
    struct buffer again;
    buffer_init(&again, size);
    if (step_encode(&s, &again) || !bytes_equal(buffer_bytes(&again), bytes_of(data, size)))
        abort();
    buffer_done(&again);
}

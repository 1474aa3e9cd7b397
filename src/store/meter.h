/* How fast bytes come, over the last seconds. Pure: the caller brings the time. */
#ifndef SHOAL_STORE_METER_H
#define SHOAL_STORE_METER_H

#include <stdint.h>

/* One sample a quarter of a second at most, so that the window is eight seconds: long enough to be
 * read, short enough to follow a network that changes. */
#define METER_SAMPLES 32
#define METER_SAMPLE_NS 250000000ull

/* Caller's struct, zero-initialised. */
struct meter {
    uint64_t at_ns[METER_SAMPLES];
    uint64_t bytes[METER_SAMPLES];
    int n, next;
};

/* `bytes` in total have come by now_ns. Fewer than before (a download that starts again) begin a
 * new window. */
void meter_add(struct meter *m, uint64_t now_ns, uint64_t bytes);

/* Bytes/s over the window up to the last sample; 0 while there are fewer than two. */
double meter_rate(const struct meter *m);

/* Seconds until `size` bytes have come at this rate; -1 where nobody can tell. */
double meter_left_s(const struct meter *m, uint64_t size);

#endif

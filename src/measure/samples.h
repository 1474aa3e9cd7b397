/* Repeated measurements of one thing: their median and how far they spread. Pure. */
#ifndef SHOAL_MEASURE_SAMPLES_H
#define SHOAL_MEASURE_SAMPLES_H

#define SAMPLES_MAX 64 /* rounds; a median needs no more */

/* Caller's struct, zero-initialised. */
struct samples {
    double values[SAMPLES_MAX];
    int n;
};

struct spread {
    double median, low, high; /* of an even count the upper middle; all 0 without samples */
};

/* Adds one; beyond SAMPLES_MAX it is dropped. */
void samples_add(struct samples *s, double value);

/* Leaves s as it is. */
struct spread samples_spread(const struct samples *s);

#endif

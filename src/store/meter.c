/* Speed of a download: see meter.h. */
#include "store/meter.h"

static int newest(const struct meter *m)
{
    return (m->next + METER_SAMPLES - 1) % METER_SAMPLES;
}

static int oldest(const struct meter *m)
{
    return (m->next + METER_SAMPLES - m->n) % METER_SAMPLES;
}

void meter_add(struct meter *m, uint64_t now_ns, uint64_t bytes)
{
    if (m->n > 0) {
        int last = newest(m);
        if (bytes < m->bytes[last]) {
            m->n = 0;
        } else if (now_ns < m->at_ns[last] + METER_SAMPLE_NS) {
            return;
        }
    }
    m->at_ns[m->next] = now_ns;
    m->bytes[m->next] = bytes;
    m->next = (m->next + 1) % METER_SAMPLES;
    m->n += m->n < METER_SAMPLES;
}

double meter_rate(const struct meter *m)
{
    if (m->n < 2) {
        return 0;
    }
    int a = oldest(m), b = newest(m);
    return (double)(m->bytes[b] - m->bytes[a]) * 1e9 / (double)(m->at_ns[b] - m->at_ns[a]);
}

double meter_left_s(const struct meter *m, uint64_t size)
{
    double rate = meter_rate(m);
    uint64_t done = m->n > 0 ? m->bytes[newest(m)] : 0;
    if (rate <= 0 || size < done) {
        return -1;
    }
    return (double)(size - done) / rate;
}

/* SipHash-1-3: see hash.h. */
#include "base/hash.h"

struct state {
    uint64_t a, b, c, d;
};

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static inline void mix(struct state *s)
{
    s->a += s->b;
    s->b = rotate(s->b, 13) ^ s->a;
    s->a = rotate(s->a, 32);
    s->c += s->d;
    s->d = rotate(s->d, 16) ^ s->c;
    s->a += s->d;
    s->d = rotate(s->d, 21) ^ s->a;
    s->c += s->b;
    s->b = rotate(s->b, 17) ^ s->c;
    s->c = rotate(s->c, 32);
}

static inline void take(struct state *s, uint64_t word)
{
    s->d ^= word;
    mix(s);
    s->a ^= word;
}

uint64_t hash_sip(struct bytes data, uint64_t key0, uint64_t key1)
{
    /* The paper's constants: "somepseudorandomlygeneratedbytes". */
    struct state s = { key0 ^ 0x736f6d6570736575u, key1 ^ 0x646f72616e646f6du,
                       key0 ^ 0x6c7967656e657261u, key1 ^ 0x7465646279746573u };
    uint64_t last = (uint64_t)data.size << 56;
    size_t whole = data.size / 8 * 8;
    for (size_t i = 0; i < whole; i += 8) {
        uint64_t word = 0;
        for (int k = 0; k < 8; k++)
            word |= (uint64_t)data.data[i + (size_t)k] << (8 * k);
        take(&s, word);
    }
    for (size_t i = whole; i < data.size; i++)
        last |= (uint64_t)data.data[i] << (8 * (i - whole));
    take(&s, last);
    s.c ^= 0xff;
    mix(&s);
    mix(&s);
    mix(&s);
    return s.a ^ s.b ^ s.c ^ s.d;
}

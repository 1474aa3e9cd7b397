/* A hash of bytes that nobody can make collide without knowing the seed. */
#ifndef SHOAL_BASE_HASH_H
#define SHOAL_BASE_HASH_H

#include "base/bytes.h"

/* SipHash with one round for each word and three at the end, as the hash tables of Python and Rust
 * use it; key0 and key1 are the secret. Source: Aumasson and Bernstein 2012, "SipHash: a fast
 * short-input PRF". */
uint64_t hash_sip(struct bytes data, uint64_t key0, uint64_t key1);

#endif

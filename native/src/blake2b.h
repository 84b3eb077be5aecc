/* BLAKE2b (RFC 7693) of 16 bytes, without a key: the hash of every identity (schemas/identity.py). */
#pragma once
#include "taximeter.h"

typedef struct {
    uint64_t h[8];
    uint64_t length; /* of what has come, the bytes in `block` included; below 2^64 */
    size_t held;
    uint8_t block[128];
} blake2b;

void blake2b_begin(blake2b *of);
void blake2b_add(blake2b *of, const uint8_t *bytes, size_t count);
void blake2b_end(blake2b *of, uint8_t digest[16]);

/* The same for as many at once, which takes little longer than for one where the machine has wide registers. */
enum { BLAKE2B_LANES = 4 };
void blake2b_end_all(blake2b of[BLAKE2B_LANES], uint8_t *const digest[BLAKE2B_LANES]);

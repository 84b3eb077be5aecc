/* The hash index of rating/index.py as the other units probe it: `size` slots of two words, (0, 0) empty.
 *
 * The twin is `rating.index.HashIndex`: the same homes, the same probing, the same places. */
#pragma once
#include "taximeter.h"

#define AHEAD 32 /* keys whose slots are asked for before the first of them is looked at: this hides memory's delay */

typedef struct {
    uint64_t low, high;
} Key;

static const uint64_t MIX_LOW = 0x9E3779B97F4A7C15ull;
static const uint64_t MIX_HIGH = 0xC2B2AE3D27D4EB4Full;
static const Key NOUGHT_KEY = {0x5BD1E9955BD1E995ull, 0x9AE16A3B2F90404Full};

static inline int is_empty(Key key) { return (key.low | key.high) == 0; }
static inline int same(Key a, Key b) { return a.low == b.low && a.high == b.high; }

/* The key as it is held: (0, 0) marks an empty place. */
static inline Key held_key(Key key) { return unlikely(is_empty(key)) ? NOUGHT_KEY : key; }

/* Below `size`, which has 32 bits. */
static inline int64_t home_of(Key key, int64_t size) {
    uint64_t mixed = (key.low * MIX_LOW) ^ (key.high * MIX_HIGH);
    mixed ^= mixed >> 32;
    mixed *= MIX_LOW;
    return (int64_t)(((mixed >> 32) * (uint64_t)size) >> 32);
}

/* From `at` on, the place that holds the key, or the complement (below nought) of the empty one where it would be.
 * It ends: a table always has empty places (it is at most 70 % full). */
static inline int64_t seek(const Key *table, int64_t size, Key key, int64_t at) {
    for (;; at = at + 1 < size ? at + 1 : 0) {
        if (same(table[at], key)) return at;
        if (is_empty(table[at])) return ~at;
    }
}

/* Texts as numbers in the order in which they first come, as Arrow's dictionaries have them. */
#pragma once
#include "event.h"

/* `seed` is of the process, so that nobody outside can choose texts that meet. */
static inline uint64_t hash_of(span s, uint64_t seed) {
    uint64_t h = seed ^ (uint64_t)s.size * 0x9e3779b97f4a7c15ull;
    const uint8_t *p = s.at;
    int64_t left = s.size;
    for (;;) {
        u128 mixed = (u128)(h ^ lead_of((span){p, left})) * (0xa0761d6478bd642full ^ seed);
        h = (uint64_t)mixed ^ (uint64_t)(mixed >> 64);
        if (left <= 8) return h;
        p += 8;
        left -= 8;
    }
}

typedef struct {
    int32_t *slots; /* -1, or a number; a power of two of them, more than twice as many as there are texts */
    uint64_t mask, seed;
    span *texts; /* by number */
    int32_t count;
} codes;

static inline void codes_begin(codes *c, int32_t *slots, int64_t room, uint64_t seed, span *texts) {
    memset(slots, 0xff, (size_t)room * sizeof *slots);
    *c = (codes){slots, (uint64_t)room - 1, seed, texts, 0};
}

static inline int32_t code_of(codes *c, span s) {
    if (c->count && same(c->texts[c->count - 1], s)) return c->count - 1;
    for (uint64_t at = hash_of(s, c->seed) & c->mask;; at = (at + 1) & c->mask) {
        int32_t found = c->slots[at];
        if (found < 0) {
            c->slots[at] = c->count;
            c->texts[c->count] = s;
            return c->count++;
        }
        if (same(c->texts[found], s)) return found;
    }
}

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
    int32_t *slots; /* -1, or a number */
    uint64_t mask, seed;
    span *texts; /* by number */
    int32_t count;
} codes;

/* A power of two, more than twice as many. */
static inline int64_t slots_for(int64_t texts) {
    int64_t slots = 2;
    while (slots <= 2 * texts) slots *= 2;
    return slots;
}

/* Bytes of scratch for so many texts: the texts' spans, and the slots. */
static inline int64_t codes_size(int64_t texts) {
    return texts * (int64_t)sizeof(span) + slots_for(texts) * (int64_t)sizeof(int32_t);
}

/* `scratch`: of `codes_size`, at a multiple of eight. */
static inline void codes_begin(codes *c, uint8_t *scratch, int64_t texts, uint64_t seed) {
    int64_t slots = slots_for(texts);
    span *first = (span *)scratch;
    *c = (codes){(int32_t *)(first + texts), (uint64_t)slots - 1, seed, first, 0};
    memset(c->slots, 0xff, (size_t)slots * sizeof(int32_t));
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

/* Buffers one behind the other in memory that the caller owns; `layout` gets where each stands, and its size. */
typedef struct {
    uint8_t *base;
    int64_t used;
    int64_t *layout;
} arena;

#define ARENA_STEP 64

/* The next buffer: at a multiple of 64 bytes; `settle` says how much of it is used. */
static inline uint8_t *take(arena *a) {
    a->used = (a->used + ARENA_STEP - 1) & -ARENA_STEP;
    *a->layout++ = a->used;
    return a->base + a->used;
}

static inline void settle(arena *a, int64_t size) {
    *a->layout++ = size;
    a->used += size;
}

/* The ends and the bytes of a dictionary. */
static inline void put_dictionary(arena *a, const codes *c) {
    int32_t *ends = (int32_t *)take(a), end = 0;
    for (int32_t i = 0; i < c->count; i++) {
        ends[i] = end;
        end += (int32_t)c->texts[i].size;
    }
    ends[c->count] = end;
    settle(a, 4 * (c->count + 1));
    uint8_t *to = take(a);
    for (int32_t i = 0; i < c->count; i++) {
        memcpy(to, c->texts[i].at, (size_t)c->texts[i].size);
        to += c->texts[i].size;
    }
    settle(a, end);
}

/* A bit for each span that is there; `stride` words from one to the next. */
static inline void put_present(arena *a, const span *first, int64_t count, int64_t stride) {
    const uint8_t *at = (const uint8_t *)first;
    uint8_t *bits = take(a);
    memset(bits, 0, (size_t)(count + 7) / 8);
    for (int64_t i = 0; i < count; i++, at += 8 * stride)
        if (((const span *)at)->at != NULL) bits[i >> 3] |= (uint8_t)(1 << (i & 7));
    settle(a, (count + 7) / 8);
}

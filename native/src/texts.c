/* Texts found by whole dictionaries: which number each has. See rating/texts.py; the twin is a dict of Python.
 *
 * Text i is the bytes from ends[i] to ends[i + 1]. A slot is nought where it is empty; else its
 * lower half is i + 1 and its upper half the upper half of the text's hash. Nothing here owns memory. */
#include "index.h"

static inline uint64_t fold(uint64_t a, uint64_t b) {
    const u128 product = (u128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash_of(const uint8_t *text, int64_t length, uint64_t seed) {
    uint64_t hash = seed ^ ((uint64_t)length * MIX_HIGH), word;
    for (; length >= 8; text += 8, length -= 8) {
        memcpy(&word, text, 8);
        hash = fold(hash ^ word, MIX_LOW);
    }
    if (length) {
        word = 0;
        memcpy(&word, text, (size_t)length);
        hash = fold(hash ^ word, MIX_LOW);
    }
    return fold(hash ^ seed, MIX_HIGH);
}

static const uint64_t TAG = 0xFFFFFFFF00000000ull;

/* For each text of an Arrow column (`offsets` has one more than there are) the number of the same text, or -1. Returns
 * how many have none. */
EXPORT int64_t tx_texts_find(const uint64_t *slots, int64_t bits, uint64_t seed, const int64_t *ends,
                             const uint8_t *bytes, const int32_t *offsets, const uint8_t *data, int64_t count,
                             int32_t *found) {
    const uint64_t mask = ((uint64_t)1 << bits) - 1;
    int64_t missing = 0;
    uint64_t hashes[AHEAD];
    for (int64_t from = 0; from < count; from += AHEAD) {
        const int64_t width = count - from < AHEAD ? count - from : AHEAD;
        for (int64_t i = 0; i < width; i++) {
            const int32_t begin = offsets[from + i];
            hashes[i] = hash_of(data + begin, offsets[from + i + 1] - begin, seed);
            __builtin_prefetch(&slots[hashes[i] & mask]);
        }
        for (int64_t i = 0; i < width; i++) { /* nearly always the slot that is read in earnest below */
            const uint64_t slot = slots[hashes[i] & mask];
            if (slot) __builtin_prefetch(&ends[(int64_t)(slot & ~TAG) - 1]);
        }
        for (int64_t i = 0; i < width; i++) {
            const int32_t begin = offsets[from + i];
            const int64_t length = offsets[from + i + 1] - begin;
            int32_t number = -1;
            for (uint64_t at = hashes[i] & mask; slots[at]; at = (at + 1) & mask) {
                if ((slots[at] ^ hashes[i]) & TAG) continue;
                const int64_t text = (int64_t)(slots[at] & ~TAG) - 1, start = ends[text];
                if (ends[text + 1] - start == length && !memcmp(bytes + start, data + begin, (size_t)length)) {
                    number = (int32_t)text; /* there are fewer texts than an int32 counts */
                    break;
                }
            }
            found[from + i] = number;
            missing += number < 0;
        }
    }
    return missing;
}

/* Enters the texts from `first` to `count`, which no slot holds. At most 60 % of the slots are full after it. */
EXPORT void tx_texts_enter(uint64_t *slots, int64_t bits, uint64_t seed, const int64_t *ends, const uint8_t *bytes,
                           int64_t first, int64_t count) {
    const uint64_t mask = ((uint64_t)1 << bits) - 1;
    for (int64_t text = first; text < count; text++) {
        const uint64_t hash = hash_of(bytes + ends[text], ends[text + 1] - ends[text], seed);
        uint64_t at = hash & mask;
        while (slots[at]) at = (at + 1) & mask;
        slots[at] = (hash & TAG) | (uint64_t)(text + 1);
    }
}

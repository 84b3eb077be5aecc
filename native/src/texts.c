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

/* What texts are held in. */
typedef struct {
    uint64_t *slots;
    uint64_t mask, seed;
    int64_t *ends;
    uint8_t *bytes;
} held_texts;

/* The slot of a text of this hash, or the empty one where it would be. */
static inline uint64_t slot_of(const held_texts *of, uint64_t hash, const uint8_t *text, int64_t length) {
    uint64_t at = hash & of->mask;
    for (; of->slots[at]; at = (at + 1) & of->mask) {
        if ((of->slots[at] ^ hash) & TAG) continue;
        const int64_t start = of->ends[(of->slots[at] & ~TAG) - 1], end = of->ends[of->slots[at] & ~TAG];
        if (end - start == length && !memcmp(of->bytes + start, text, (size_t)length)) break;
    }
    return at;
}

/* The hashes of some texts of an Arrow column; what is read in earnest next is sent for. */
static inline void send_for(const held_texts *of, const int32_t *offsets, const uint8_t *data, int64_t width,
                            uint64_t *hashes) {
    for (int64_t i = 0; i < width; i++) {
        hashes[i] = hash_of(data + offsets[i], offsets[i + 1] - offsets[i], of->seed);
        __builtin_prefetch(&of->slots[hashes[i] & of->mask]);
    }
    for (int64_t i = 0; i < width; i++) {
        const uint64_t slot = of->slots[hashes[i] & of->mask];
        if (slot) __builtin_prefetch(&of->ends[(int64_t)(slot & ~TAG) - 1]);
    }
}

/* For each text of an Arrow column (`offsets` has one more than there are) the number of the same text; one that is not
 * held is added to the `held` ones where `adds`, else its number is -1. Returns how many are held after it. */
static inline int64_t number_all(const held_texts *of, int64_t held, int adds, const int32_t *offsets,
                                 const uint8_t *data, int64_t count, int32_t *found) {
    uint64_t hashes[AHEAD];
    for (int64_t from = 0; from < count; from += AHEAD) {
        const int64_t width = count - from < AHEAD ? count - from : AHEAD;
        send_for(of, offsets + from, data, width, hashes);
        for (int64_t i = 0; i < width; i++) {
            const int32_t begin = offsets[from + i];
            const int64_t length = offsets[from + i + 1] - begin;
            const uint64_t at = slot_of(of, hashes[i], data + begin, length);
            if (adds && !of->slots[at]) {
                memcpy(of->bytes + of->ends[held], data + begin, (size_t)length);
                of->ends[held + 1] = of->ends[held] + length;
                of->slots[at] = (hashes[i] & TAG) | (uint64_t)++held;
            }
            found[from + i] = (int32_t)(of->slots[at] & ~TAG) - 1; /* there are fewer texts than an int32 counts */
        }
    }
    return held;
}

/* The number of each text, -1 where it is not held. */
EXPORT void tx_texts_find(uint64_t *slots, int64_t bits, uint64_t seed, int64_t *ends, uint8_t *bytes,
                          const int32_t *offsets, const uint8_t *data, int64_t count, int32_t *found) {
    const held_texts of = {slots, ((uint64_t)1 << bits) - 1, seed, ends, bytes};
    number_all(&of, 0, 0, offsets, data, count, found);
}

/* The number of each text; one that is not held is added. `held` are before it. Returns how many are after it. There is
 * room for all of them, and slots (see `tx_texts_enter`). */
EXPORT int64_t tx_texts_number(uint64_t *slots, int64_t bits, uint64_t seed, int64_t *ends, uint8_t *bytes, int64_t held,
                               const int32_t *offsets, const uint8_t *data, int64_t count, int32_t *found) {
    const held_texts of = {slots, ((uint64_t)1 << bits) - 1, seed, ends, bytes};
    return number_all(&of, held, 1, offsets, data, count, found);
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

/* Identities on disk: filters probed by whole columns, and runs searched. Twins: rating/identities/bloom.py and run.py.
 *
 * A run's blocks lie where the file is mapped; see rating/identities/run.py for their form. */
#include "index.h"

/* The rows whose leads may be in a filter of `size` words. Returns how many; `rows` has room for all. */
EXPORT int64_t tx_filter_rows(const uint64_t *words, int64_t size, const uint64_t *patterns, uint64_t pattern_mask,
                              const uint64_t *leads, int64_t count, int64_t *rows) {
    int64_t found = 0, place[AHEAD];
    for (int64_t from = 0; from < count; from += AHEAD) {
        const int64_t width = count - from < AHEAD ? count - from : AHEAD;
        for (int64_t i = 0; i < width; i++) {
            place[i] = (int64_t)(((leads[from + i] >> 32) * (uint64_t)size) >> 32); /* below `size`, which has 32 bits */
            __builtin_prefetch(&words[place[i]]);
        }
        for (int64_t i = 0; i < width; i++) {
            const uint64_t pattern = patterns[leads[from + i] & pattern_mask];
            rows[found] = from + i;
            found += (words[place[i]] & pattern) == pattern;
        }
    }
    return found;
}

enum { BLOCK = 256 };

/* Whether each key is in a run of `size` keys, by all its 128 bits, and with which content (nought where it is not).
 *
 * `radix_bits`: 0 or 16, and the rest of a lead takes 4 or 2 bytes. Returns whether the directory keeps within the run;
 * if not, nothing is said. */
EXPORT int64_t tx_run_find(const uint8_t *blocks, int64_t radix_bits, const uint32_t *directory, int64_t size,
                           const Key *keys, int64_t count, uint8_t *held, uint32_t *contents) {
    const int64_t rest_bytes = radix_bits ? 2 : 4, others = BLOCK * (4 + rest_bytes), last = others + BLOCK * 8;
    const int64_t width = last + BLOCK * 4;
    for (int64_t row = 0; row < count; row++) {
        const Key key = keys[row];
        const int64_t slot = radix_bits ? (int64_t)(key.low >> 48) : 0;
        const uint32_t next = (uint32_t)(key.low >> (32 - radix_bits));
        const uint32_t rest = (uint32_t)(key.low & (((uint64_t)1 << (32 - radix_bits)) - 1));
        const int64_t end = directory[slot + 1];
        int64_t low = directory[slot], high = end;
        held[row] = 0;
        contents[row] = 0;
        if (low > end || end > size) return 0;
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            if (((const uint32_t *)(blocks + middle / BLOCK * width))[middle % BLOCK] < next) low = middle + 1;
            else high = middle;
        }
        for (; low < end; low++) {
            const uint8_t *block = blocks + low / BLOCK * width;
            const int64_t at = low % BLOCK;
            if (((const uint32_t *)block)[at] != next) break;
            const uint8_t *rests = block + BLOCK * 4;
            const uint32_t own = radix_bits ? ((const uint16_t *)rests)[at] : ((const uint32_t *)rests)[at];
            if (own == rest && ((const uint64_t *)(block + others))[at] == key.high) {
                held[row] = 1;
                contents[row] = ((const uint32_t *)(block + last))[at];
                break;
            }
        }
    }
    return 1;
}

/* Records of a block as MessagePack, as a row of the embedded log holds them: a key and a value each, with their lengths.

   Owns nothing. Assumes that `ends` rises, and that all of it is below 4 GiB: MessagePack cannot say more of a text. */
#include "taximeter.h"

static uint8_t *put_bin(uint8_t *at, const uint8_t *bytes, int64_t count) {
    if (count < 1 << 8) {
        *at++ = 0xc4;
        *at++ = (uint8_t)count;
    } else if (count < 1 << 16) {
        *at++ = 0xc5;
        *at++ = (uint8_t)(count >> 8);
        *at++ = (uint8_t)count;
    } else {
        *at++ = 0xc6;
        for (int shift = 24; shift >= 0; shift -= 8) *at++ = (uint8_t)(count >> shift);
    }
    memcpy(at, bytes, (size_t)count);
    return at + count;
}

/* Writes the records `first` to `end`: see `streams.processor.Block` for the rest. `out` has room for their bytes and 10
   more for each. Returns how many bytes it wrote. */
EXPORT int64_t tx_pack_records(const uint8_t *keys, int64_t width, const uint8_t *values, const int64_t *ends,
                               int64_t first, int64_t end, uint8_t *out) {
    uint8_t *at = out;
    for (int64_t k = first; k < end; k++) {
        at = put_bin(at, keys + k * width, width);
        at = put_bin(at, values + ends[k], ends[k + 1] - ends[k]);
    }
    return at - out;
}

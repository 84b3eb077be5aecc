/* Records as MessagePack, as a row of the embedded log holds them: a key and a value each, with their lengths.

   Owns nothing. See streams/embedded/rows.py; the twin is msgspec. */
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
   more for each. Assumes that `ends` rises, and that all of it is below 4 GiB: MessagePack cannot say more of a text.
   Returns how many bytes it wrote. */
EXPORT int64_t tx_pack_records(const uint8_t *keys, int64_t width, const uint8_t *values, const int64_t *ends,
                               int64_t first, int64_t end, uint8_t *out) {
    uint8_t *at = out;
    for (int64_t k = first; k < end; k++) {
        at = put_bin(at, keys + k * width, width);
        at = put_bin(at, values + ends[k], ends[k + 1] - ends[k]);
    }
    return at - out;
}

/* A whole number of `width` bytes (8 at most), the highest first; reads within [at, end). Gives where it ends, or NULL. */
static const uint8_t *get_whole(const uint8_t *at, const uint8_t *end, int width, int64_t *number) {
    if (end - at < width) return NULL;
    *number = 0;
    for (int i = 0; i < width; i++) *number = *number << 8 | at[i];
    return at + width;
}

/* Finds `count` records in `body`, an array of twice as many byte strings and nothing behind it. `spans` gets four of
   each: where its key begins and ends, and its value. Returns 1, or 0 where the body is anything else. */
EXPORT int64_t tx_unpack_records(const uint8_t *body, int64_t size, int64_t count, int64_t *spans) {
    const uint8_t *at = body, *end = body + size;
    if (at == end) return 0;
    const uint8_t head = *at++;
    int64_t found = head & 0x0f;
    if (head == 0xdc || head == 0xdd) at = get_whole(at, end, head == 0xdc ? 2 : 4, &found);
    else if ((head & 0xf0) != 0x90) return 0;
    if (at == NULL || found != 2 * count) return 0;
    for (int64_t i = 0; i < found; i++) {
        int64_t length;
        if (at == end || *at < 0xc4 || *at > 0xc6) return 0;
        const int width = 1 << (*at - 0xc4);
        at = get_whole(at + 1, end, width, &length);
        if (at == NULL || end - at < length) return 0;
        *spans++ = at - body;
        *spans++ = (at += length) - body;
    }
    return at == end;
}

/* A row of the door's table of events: the same for the reader, the router and the packer (`ingest.table` mirrors it).
 *
 * A span is bytes that somebody else owns: the request's body, or a buffer that the table keeps beside it. A span at
 * nought is absent. Twenty-four words of 64 bits, so that a table is an array that numpy can select and join.
 */
#pragma once
#include "taximeter.h"

typedef struct {
    const uint8_t *at;
    int64_t size;
} span;

typedef struct {
    int64_t position; /* in the request, from nought */
    span id, source, type, subject, time, data, extensions;
    int64_t micros; /* the event's own time, ABSENT where it has none */
    span customer;
    uint8_t identity[16];
    int64_t content;
    int64_t moment; /* the time that counts: its own, or its arrival */
    int64_t arrived;
    int64_t partition;
} event;

#define ABSENT (-1)

_Static_assert(sizeof(event) == 24 * 8, "ingest.table says 24 words");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the packs' buffers are little-endian");

static inline uint64_t load64(const uint8_t *at) {
    uint64_t word;
    memcpy(&word, at, 8);
    return word;
}

static inline uint32_t load32(const uint8_t *at) {
    uint32_t word;
    memcpy(&word, at, 4);
    return word;
}

/* The first bytes of a span as one word: of two spans of one size up to eight, the same only if they are the same. */
static inline uint64_t lead_of(span s) {
    if (s.size >= 8) return load64(s.at);
    if (s.size >= 4) return load32(s.at) | (uint64_t)load32(s.at + s.size - 4) << 32;
    return s.size ? (uint64_t)s.at[0] | (uint64_t)s.at[s.size >> 1] << 8 | (uint64_t)s.at[s.size - 1] << 16 : 0;
}

static inline int same(span a, span b) {
    if (a.size != b.size || lead_of(a) != lead_of(b)) return 0;
    if (a.size <= 8) return 1;
    for (int64_t i = 8; i < a.size - 8; i += 8)
        if (load64(a.at + i) != load64(b.at + i)) return 0;
    return load64(a.at + a.size - 8) == load64(b.at + b.size - 8);
}

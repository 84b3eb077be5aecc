/* Identities and fingerprints of many events. The twin is `schemas.identity`: BLAKE2b (RFC 7693) of 16 bytes, CRC-32. */
#include "event.h"

static const uint64_t IV[8] = {
    0x6a09e667f3bcc908ull, 0xbb67ae8584caa73bull, 0x3c6ef372fe94f82bull, 0xa54ff53a5f1d36f1ull,
    0x510e527fade682d1ull, 0x9b05688c2b3e6c1full, 0x1f83d9abfb41bd6bull, 0x5be0cd19137e2179ull,
};

typedef struct {
    uint64_t state[8];
    uint64_t before; /* bytes of the blocks that are done */
    int64_t filled;  /* bytes of the block at hand; a full one waits until it is known whether it is the last */
    uint8_t block[128];
} blake;

static inline uint64_t turn(uint64_t word, int bits) { return word >> bits | word << (64 - bits); }

#define MIX(a, b, c, d, x, y)                                                                                          \
    a += b + m[x], d = turn(d ^ a, 32), c += d, b = turn(b ^ c, 24);                                                   \
    a += b + m[y], d = turn(d ^ a, 16), c += d, b = turn(b ^ c, 63)

#define ROUND(a, b, c, d, e, f, g, h, i, j, k, l, n, o, p, q)                                                          \
    MIX(v[0], v[4], v[8], v[12], a, b);                                                                                \
    MIX(v[1], v[5], v[9], v[13], c, d);                                                                                \
    MIX(v[2], v[6], v[10], v[14], e, f);                                                                               \
    MIX(v[3], v[7], v[11], v[15], g, h);                                                                               \
    MIX(v[0], v[5], v[10], v[15], i, j);                                                                               \
    MIX(v[1], v[6], v[11], v[12], k, l);                                                                               \
    MIX(v[2], v[7], v[8], v[13], n, o);                                                                                \
    MIX(v[3], v[4], v[9], v[14], p, q)

static void compress(blake *b, uint64_t last) {
    uint64_t v[16], m[16];
    memcpy(m, b->block, sizeof m);
    memcpy(v, b->state, sizeof b->state);
    memcpy(v + 8, IV, sizeof IV);
    v[12] ^= b->before + (uint64_t)b->filled;
    v[14] ^= last;
    ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3);
    ROUND(11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4);
    ROUND(7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8);
    ROUND(9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13);
    ROUND(2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9);
    ROUND(12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11);
    ROUND(13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10);
    ROUND(6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5);
    ROUND(10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0);
    ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3);
    for (int i = 0; i < 8; i++) b->state[i] ^= v[i] ^ v[i + 8];
}

static void begin(blake *b) {
    memcpy(b->state, IV, sizeof IV);
    b->state[0] ^= 0x01010000 ^ 16; /* no key, 16 bytes of digest */
    b->before = 0;
    b->filled = 0;
}

static void feed(blake *b, const uint8_t *at, int64_t size) {
    while (size > 0) {
        if (b->filled == 128) {
            compress(b, 0);
            b->before += 128;
            b->filled = 0;
        }
        int64_t part = size < 128 - b->filled ? size : 128 - b->filled;
        memcpy(b->block + b->filled, at, (size_t)part);
        b->filled += part;
        at += part;
        size -= part;
    }
}

/* One part as `schemas.identity` has it: its size in four bytes, and it. */
static void feed_part(blake *b, span part) {
    uint32_t size = (uint32_t)part.size;
    feed(b, (const uint8_t *)&size, 4);
    feed(b, part.at, part.size);
}

static void finish(blake *b, uint8_t *digest) {
    memset(b->block + b->filled, 0, (size_t)(128 - b->filled));
    compress(b, ~0ull);
    memcpy(digest, b->state, 16);
}

static uint32_t CRC[8][256];

__attribute__((constructor)) static void make_crc(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
        CRC[0][i] = c;
    }
    for (int t = 1; t < 8; t++)
        for (int i = 0; i < 256; i++) CRC[t][i] = CRC[t - 1][i] >> 8 ^ CRC[0][CRC[t - 1][i] & 0xff];
}

static uint32_t crc_more(uint32_t c, const uint8_t *at, int64_t size) {
    for (; size >= 8; size -= 8, at += 8) {
        uint64_t word = load64(at) ^ c;
        c = CRC[7][word & 0xff] ^ CRC[6][word >> 8 & 0xff] ^ CRC[5][word >> 16 & 0xff] ^ CRC[4][word >> 24 & 0xff] ^
            CRC[3][word >> 32 & 0xff] ^ CRC[2][word >> 40 & 0xff] ^ CRC[1][word >> 48 & 0xff] ^ CRC[0][word >> 56];
    }
    for (; size > 0; size--, at++) c = c >> 8 ^ CRC[0][(c ^ *at) & 0xff];
    return c;
}

static uint32_t crc_text(uint32_t c, span text) {
    static const uint8_t nought = 0;
    return crc_more(crc_more(c, text.at, text.size), &nought, 1);
}

/* What `ingest.routed.contents` says: type, subject, time and extensions, a nought behind each, and the data. */
static int64_t content_of(const event *e) {
    uint32_t c = crc_text(crc_text(crc_text(crc_text(~0u, e->type), e->subject), e->time), e->extensions);
    return (int64_t)(uint32_t)~crc_more(c, e->data.at, e->data.size);
}

/* Whose a subject is, and where that customer belongs: a row of `ingest.route.RouteTable`. */
typedef struct {
    span subject;
    span customer;
    int64_t partition;
} routed;

/* Fills in what a row says beside its event: whose it is, where it belongs, its identity, its content, its time.
 *
 * `places`: which of the routes each row has. `arrived`: for each row.
 */
EXPORT void tx_route(event *rows, int64_t count, const uint8_t *tenant, int64_t tenant_size, const int32_t *places,
                     const routed *routes, const int64_t *arrived) {
    for (int64_t i = 0; i < count; i++) {
        event *e = rows + i;
        const routed *to = routes + places[i];
        e->customer = to->customer;
        e->partition = to->partition;
        e->arrived = arrived[i];
        e->moment = e->micros == ABSENT ? arrived[i] : e->micros;
        e->content = content_of(e);
        blake b;
        begin(&b);
        feed_part(&b, (span){tenant, tenant_size});
        feed_part(&b, e->customer);
        feed_part(&b, e->source);
        feed_part(&b, e->id);
        finish(&b, e->identity);
    }
}

/* BLAKE2b as RFC 7693 writes it down: words are little-endian, as on every machine that this is built for. */
#include "blake2b.h"

static const uint64_t START[8] = {
    0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
    0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};

#define TURNED(word, by) ((word) >> (by) | (word) << (64 - (by)))

#define MIX(a, b, c, d, x, y)                                                                                          \
    do {                                                                                                               \
        a += b + (x);                                                                                                  \
        d = TURNED(d ^ a, 32);                                                                                         \
        c += d;                                                                                                        \
        b = TURNED(b ^ c, 24);                                                                                         \
        a += b + (y);                                                                                                  \
        d = TURNED(d ^ a, 16);                                                                                         \
        c += d;                                                                                                        \
        b = TURNED(b ^ c, 63);                                                                                         \
    } while (0)

/* One round over the words of the message in the order that the RFC's table SIGMA gives. */
#define ROUND(s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, s12, s13, s14, s15)                                    \
    do {                                                                                                               \
        MIX(v0, v4, v8, v12, m[s0], m[s1]);                                                                            \
        MIX(v1, v5, v9, v13, m[s2], m[s3]);                                                                            \
        MIX(v2, v6, v10, v14, m[s4], m[s5]);                                                                           \
        MIX(v3, v7, v11, v15, m[s6], m[s7]);                                                                           \
        MIX(v0, v5, v10, v15, m[s8], m[s9]);                                                                           \
        MIX(v1, v6, v11, v12, m[s10], m[s11]);                                                                         \
        MIX(v2, v7, v8, v13, m[s12], m[s13]);                                                                          \
        MIX(v3, v4, v9, v14, m[s14], m[s15]);                                                                          \
    } while (0)

/* Twelve rounds over the words of a block and its state: of one hash, or of several side by side. */
#define ROUNDS(word, m, h, length, finish)                                                                             \
    word v0 = h[0], v1 = h[1], v2 = h[2], v3 = h[3], v4 = h[4], v5 = h[5], v6 = h[6], v7 = h[7];                       \
    const word nought = v0 ^ v0; /* as wide as a word */                                                               \
    word v8 = nought ^ START[0], v9 = nought ^ START[1], v10 = nought ^ START[2], v11 = nought ^ START[3];             \
    word v12 = START[4] ^ length, v13 = nought ^ START[5], v14 = START[6] ^ finish, v15 = nought ^ START[7];           \
    ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);                                                       \
    ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3);                                                       \
    ROUND(11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4);                                                       \
    ROUND(7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8);                                                       \
    ROUND(9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13);                                                       \
    ROUND(2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9);                                                       \
    ROUND(12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11);                                                       \
    ROUND(13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10);                                                       \
    ROUND(6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5);                                                       \
    ROUND(10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0);                                                       \
    ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);                                                       \
    ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3);                                                       \
    h[0] ^= v0 ^ v8;                                                                                                   \
    h[1] ^= v1 ^ v9;                                                                                                   \
    h[2] ^= v2 ^ v10;                                                                                                  \
    h[3] ^= v3 ^ v11;                                                                                                  \
    h[4] ^= v4 ^ v12;                                                                                                  \
    h[5] ^= v5 ^ v13;                                                                                                  \
    h[6] ^= v6 ^ v14;                                                                                                  \
    h[7] ^= v7 ^ v15

static void compress(blake2b *of, int last) {
    uint64_t m[16], *h = of->h;
    memcpy(m, of->block, sizeof m);
    const uint64_t finish = last ? ~(uint64_t)0 : 0;
    ROUNDS(uint64_t, m, h, of->length, finish);
}

void blake2b_begin(blake2b *of) {
    memcpy(of->h, START, sizeof START);
    of->h[0] ^= 0x01010000 ^ 16; /* no key, a digest of 16 bytes */
    of->length = 0;
    of->held = 0;
}

void blake2b_add(blake2b *of, const uint8_t *bytes, size_t count) {
    if (likely(count <= sizeof of->block - of->held)) {
        copy(of->block + of->held, bytes, (int64_t)count);
        of->held += count;
        of->length += count;
        return;
    }
    while (count) {
        if (of->held == sizeof of->block) { /* the last block is compressed by the end, full or not */
            compress(of, 0);
            of->held = 0;
        }
        size_t part = sizeof of->block - of->held;
        part = part < count ? part : count;
        memcpy(of->block + of->held, bytes, part);
        of->held += part;
        of->length += part;
        bytes += part;
        count -= part;
    }
}

static void pad(blake2b *of) { memset(of->block + of->held, 0, sizeof of->block - of->held); }

void blake2b_end(blake2b *of, uint8_t digest[16]) {
    pad(of);
    compress(of, 1);
    memcpy(digest, of->h, 16);
}

#ifdef __x86_64__

typedef uint64_t lanes __attribute__((vector_size(8 * BLAKE2B_LANES)));

/* The last blocks of all, side by side. */
__attribute__((target("avx2"))) static void end_lanes(const blake2b of[BLAKE2B_LANES],
                                                      uint8_t *const digest[BLAKE2B_LANES]) {
    lanes m[16], h[8], length;
    for (int lane = 0; lane < BLAKE2B_LANES; lane++) {
        for (int i = 0; i < 16; i++) {
            uint64_t word;
            memcpy(&word, of[lane].block + 8 * i, 8);
            m[i][lane] = word;
        }
        for (int i = 0; i < 8; i++) h[i][lane] = of[lane].h[i];
        length[lane] = of[lane].length;
    }
    ROUNDS(lanes, m, h, length, ~(length ^ length));
    for (int lane = 0; lane < BLAKE2B_LANES; lane++) {
        const uint64_t found[2] = {h[0][lane], h[1][lane]};
        memcpy(digest[lane], found, 16);
    }
}

#endif

void blake2b_end_all(blake2b of[BLAKE2B_LANES], uint8_t *const digest[BLAKE2B_LANES]) {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2")) {
        for (int lane = 0; lane < BLAKE2B_LANES; lane++) pad(of + lane);
        end_lanes(of, digest);
        return;
    }
#endif
    for (int lane = 0; lane < BLAKE2B_LANES; lane++) blake2b_end(of + lane, digest[lane]);
}

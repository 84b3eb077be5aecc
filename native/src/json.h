/* JSON as RFC 8259 has it, read strictly: what is not beyond doubt is not taken, and the caller's twin decides.
 *
 * All functions read within [p, end) only, and give where the thing ends, or NULL.
 */
#pragma once
#include "event.h"

#define ONES 0x0101010101010101ull
#define HIGHS 0x8080808080808080ull

static inline const uint8_t *skip_white(const uint8_t *p, const uint8_t *end) {
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) p++;
    return p;
}

/* The bytes of a word (as their high bits) that end a run of plain characters: quote, backslash, controls, not ASCII.
 * The lowest that is marked is marked rightly; a borrow can only mark bytes above it. */
static inline uint64_t special(uint64_t word) {
    uint64_t quote = word ^ (ONES * '"'), back = word ^ (ONES * '\\');
    return (((quote - ONES) & ~quote) | ((back - ONES) & ~back) | ((word - ONES * 0x20) & ~word) | word) & HIGHS;
}

/* One character beyond ASCII, as Python's decoder takes it: no overlong form, no surrogate, nothing above U+10FFFF. */
static inline const uint8_t *skip_wide(const uint8_t *p, const uint8_t *end) {
    uint8_t lead = *p;
    int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
    if (lead < 0xc2 || lead > 0xf4 || end - p <= more) return NULL;
    uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80, high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < low || p[1] > high) return NULL;
    for (int i = 2; i <= more; i++)
        if ((p[i] & 0xc0) != 0x80) return NULL;
    return p + more + 1;
}

static inline int is_hex(uint8_t c) { return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); }

static inline int is_unit(const uint8_t *p, const uint8_t *end) {
    return end - p >= 6 && p[0] == '\\' && p[1] == 'u' && is_hex(p[2]) && is_hex(p[3]) && is_hex(p[4]) && is_hex(p[5]);
}

/* An escape: of a surrogate only a whole pair. */
static inline const uint8_t *skip_escape(const uint8_t *p, const uint8_t *end) {
    if (end - p < 2) return NULL;
    switch (p[1]) {
    case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't':
        return p + 2;
    case 'u':
        if (!is_unit(p, end)) return NULL;
        if ((p[2] | 0x20) != 'd' || (p[3] >= '0' && p[3] <= '7')) return p + 6;
        uint8_t high = p[3] | 0x20; /* 8 and 9 have that bit already */
        if (high != '8' && high != '9' && high != 'a' && high != 'b') return NULL;
        if (!is_unit(p + 6, end) || (p[8] | 0x20) != 'd') return NULL;
        uint8_t low = p[9] | 0x20;
        return low >= 'c' && low <= 'f' ? p + 12 : NULL;
    default:
        return NULL;
    }
}

/* A string whose opening quote stands at p; `plain` is set to nought where it holds an escape. */
static inline const uint8_t *skip_string(const uint8_t *p, const uint8_t *end, int *plain) {
    p++;
    for (;;) {
        while (end - p >= 8) {
            uint64_t found = special(load64(p));
            if (found) {
                p += __builtin_ctzll(found) >> 3;
                break;
            }
            p += 8;
        }
        if (p >= end) return NULL;
        uint8_t c = *p;
        if (c == '"') return p + 1;
        if (c == '\\') {
            *plain = 0;
            p = skip_escape(p, end);
        } else if (c < 0x20) {
            return NULL;
        } else if (c >= 0x80) {
            p = skip_wide(p, end);
        } else {
            p++;
        }
        if (p == NULL) return NULL;
    }
}

static inline int is_digit(uint8_t c) { return (uint8_t)(c - '0') < 10; }

static inline const uint8_t *skip_digits(const uint8_t *p, const uint8_t *end) {
    if (p >= end || !is_digit(*p)) return NULL;
    do p++;
    while (p < end && is_digit(*p));
    return p;
}

static inline const uint8_t *skip_number(const uint8_t *p, const uint8_t *end) {
    if (*p == '-') p++;
    if (p >= end) return NULL;
    if (*p == '0')
        p++;
    else if ((p = skip_digits(p, end)) == NULL)
        return NULL;
    if (p < end && *p == '.' && (p = skip_digits(p + 1, end)) == NULL) return NULL;
    if (p < end && (*p | 0x20) == 'e') {
        p++;
        if (p < end && (*p == '+' || *p == '-')) p++;
        p = skip_digits(p, end);
    }
    return p;
}

static inline const uint8_t *skip_word(const uint8_t *p, const uint8_t *end, const char *word, int64_t size) {
    return end - p >= size && memcmp(p, word, (size_t)size) == 0 ? p + size : NULL;
}

/* Anything but an object or an array. */
static inline const uint8_t *skip_scalar(const uint8_t *p, const uint8_t *end) {
    int plain;
    switch (*p) {
    case '"': return skip_string(p, end, &plain);
    case 't': return skip_word(p, end, "true", 4);
    case 'f': return skip_word(p, end, "false", 5);
    case 'n': return skip_word(p, end, "null", 4);
    default: return skip_number(p, end);
    }
}

/* The name at p and the colon behind it; gives where its value begins. */
static inline const uint8_t *skip_name(const uint8_t *p, const uint8_t *end, span *text, int *plain) {
    if (p >= end || *p != '"') return NULL;
    const uint8_t *first = p + 1;
    p = skip_string(p, end, plain);
    if (p == NULL) return NULL;
    *text = (span){first, p - 1 - first};
    p = skip_white(p, end);
    return p < end && *p == ':' ? skip_white(p + 1, end) : NULL;
}

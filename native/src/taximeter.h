/* What all units share: the widths of the engine's columns, and how a function of the library is seen. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef __int128 i128;          /* a scaled number: units of 10^-12; two int64 of a wide column, low half first */
typedef unsigned __int128 u128;

static const int64_t ONE = 1000000000000; /* 10^12 */

/* A row of a column. The columns of a table stand together, row by row: `step` is the bytes from one row to the next. */
#define ROW(column, step, row) (*(__typeof__(column))((const char *)(column) + (step) * (row)))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* The greatest magnitude of a scaled number: 38 digits. */
static inline i128 scaled_max(void) {
    return (i128)10000000000000000000ull * (i128)10000000000000000000ull - 1;
}

/* As memcpy. Most texts are short: two pieces that overlap take less than a call. */
static inline void copy(uint8_t *to, const uint8_t *from, int64_t count) {
    if (count > 32) {
        memcpy(to, from, (size_t)count);
    } else if (count >= 16) {
        memcpy(to, from, 16);
        memcpy(to + count - 16, from + count - 16, 16);
    } else if (count >= 8) {
        memcpy(to, from, 8);
        memcpy(to + count - 8, from + count - 8, 8);
    } else if (count >= 4) {
        memcpy(to, from, 4);
        memcpy(to + count - 4, from + count - 4, 4);
    } else if (count > 0) {
        to[0] = from[0];
        to[count / 2] = from[count / 2]; /* the second of two and of three */
        to[count - 1] = from[count - 1];
    }
}

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

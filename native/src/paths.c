/* What paths find in many texts of data, and the columns of it. The twin is the rest of `schemas.paths`.
 *
 * The texts have been found valid, with no name twice in an object. A text that is not as it should be is still read
 * within its bounds only.
 */
#include "codes.h"
#include "json.h"

/* A step of a path: a name, or (where `name.at` is NULL) a position in an array. */
typedef struct {
    span name; /* the size is the position where there is no name */
} step;

typedef struct {
    const step *steps;
    int64_t count;
} path;

enum { NOTHING, NUMBERS, STRINGS, ANYTHING };

/* The end of a value in a valid text. */
static const uint8_t *pass(const uint8_t *p, const uint8_t *end) {
    int plain, depth = 0;
    do {
        if (p >= end) return NULL;
        switch (*p) {
        case '"':
            p = skip_string(p, end, &plain);
            if (p == NULL) return NULL;
            break;
        case '{': case '[':
            depth++;
            p++;
            break;
        case '}': case ']':
            depth--;
            p++;
            break;
        default:
            p++;
            if (depth == 0)
                while (p < end && *p != ',' && *p != '}' && *p != ']' && *p > ' ') p++;
        }
    } while (depth > 0);
    return p;
}

/* The item of an object or array that a step names, from p on: 1 and where its value begins; nought where there is none;
 * -1 where the twin must look: at a name with an escape, or at what is no JSON. */
static int find(const uint8_t *p, const uint8_t *end, step want, const uint8_t **value) {
    int named = want.name.at != NULL;
    p = skip_white(p, end);
    if (p >= end) return -1;
    if (*p != (named ? '{' : '[')) return 0;
    uint8_t close = named ? '}' : ']';
    p = skip_white(p + 1, end);
    if (p < end && *p == close) return 0;
    for (int64_t i = 0;; i++) {
        int hit = i == want.name.size;
        if (named) {
            span name;
            int plain = 1;
            p = skip_name(p, end, &name, &plain);
            if (p == NULL || !plain) return -1;
            hit = same(name, want.name);
        }
        if (hit) {
            *value = p;
            return 1;
        }
        p = pass(p, end);
        if (p == NULL) return -1;
        p = skip_white(p, end);
        if (p >= end || (*p != ',' && *p != close)) return -1;
        if (*p == close) return 0;
        p = skip_white(p + 1, end);
    }
}

/* The value that stands at the end of a path whose first step leads to `p`. As `find`. */
static int descend(const uint8_t *p, const uint8_t *end, const path *way, span *found) {
    for (int64_t at = 1; at < way->count; at++) {
        int there = find(p, end, way->steps[at], &p);
        if (there != 1) return there;
    }
    p = skip_white(p, end);
    const uint8_t *stop = pass(p, end);
    if (stop == NULL || stop == p) return -1;
    *found = (span){p, stop - p};
    return 1;
}

/* What all paths find in one text, a span for each, `stride` apart. Nought where the twin must look. */
static int find_all(span data, const path *paths, int64_t count, span *found, int64_t stride) {
    const uint8_t *p = data.at, *end = p + data.size;
    for (int64_t k = 0; k < count; k++) found[k * stride] = (span){NULL, 0};
    if (p >= end || *p != '{') return 0;
    p = skip_white(p + 1, end);
    if (p < end && *p == '}') return 1;
    for (;;) {
        span name;
        int plain = 1;
        p = skip_name(p, end, &name, &plain);
        if (p == NULL || !plain) return 0;
        const uint8_t *stop = pass(p, end);
        if (stop == NULL) return 0;
        for (int64_t k = 0; k < count; k++) {
            span first = paths[k].steps[0].name;
            if (first.at != NULL && same(first, name) && descend(p, stop, paths + k, found + k * stride) < 0) return 0;
        }
        p = skip_white(stop, end);
        if (p >= end || (*p != ',' && *p != '}')) return 0;
        if (*p == '}') return 1;
        p = skip_white(p + 1, end);
    }
}

static const uint64_t TENS[] = {
    1ull, 10ull, 100ull, 1000ull, 10000ull, 100000ull, 1000000ull, 10000000ull, 100000000ull, 1000000000ull,
    10000000000ull, 100000000000ull, 1000000000000ull, 10000000000000ull, 100000000000000ull, 1000000000000000ull,
    10000000000000000ull, 100000000000000000ull, 1000000000000000000ull, 10000000000000000000ull,
};

/* The digits from p on, behind `digits` others, into a number below 10^38; NULL where there are more. */
static const uint8_t *read_digits(const uint8_t *p, const uint8_t *end, u128 *value, int64_t *digits) {
    while (p < end && is_digit(*p)) {
        uint64_t part = 0;
        int size = 0;
        for (; p < end && size < 18 && is_digit(*p); p++, size++) part = part * 10 + (uint64_t)(*p - '0');
        *digits += size;
        if (*digits > 38) return NULL;
        *value = *value * TENS[size] + part;
    }
    return p;
}

/* The scaled number of a JSON number; nought where it is for the twin to say. */
static int read_scaled(span text, i128 *scaled) {
    const uint8_t *p = text.at, *end = p + text.size;
    int negative = *p == '-';
    u128 value = 0;
    int64_t digits = 0, power = 12;
    p = read_digits(p + negative, end, &value, &digits);
    if (p != NULL && p < end && *p == '.') {
        power += digits;
        p = read_digits(p + 1, end, &value, &digits);
        power -= digits;
    }
    if (p == NULL || digits == 0) return 0;
    if (p < end && (*p | 0x20) == 'e') {
        int64_t exponent = 0;
        p++;
        int down = p < end && *p == '-';
        if (p < end && (*p == '-' || *p == '+')) p++;
        for (int size = 0; p < end && is_digit(*p); p++, size++) {
            if (size == 2) return 0;
            exponent = exponent * 10 + (*p - '0');
        }
        power += down ? -exponent : exponent;
    }
    if (p != end || power < 0 || power > 38) return 0;
    if ((value >> 64) != 0 || power > 18) { /* else the product is below 2^64 * 10^18, which is below 10^38 */
        u128 factor = power > 19 ? (u128)TENS[19] * TENS[power - 19] : TENS[power];
        if (value > (u128)scaled_max() / factor) return 0;
        value *= factor;
    } else {
        value *= TENS[power];
    }
    *scaled = negative ? -(i128)value : (i128)value;
    return 1;
}

/* What is known of all that one path finds, and then of its column. */
typedef struct {
    int64_t kind;
    int64_t nulls;     /* rows in which there is nothing, or null */
    int64_t size;      /* bytes of all that was found */
    int64_t layout[8]; /* of its buffers: the bits of what is there; numbers; the ends and bytes of a dictionary */
} column;

#define SIZE_MAX_32 0x7fffffff

/* Finds what each of `paths` has in each of `count` rows; the data's span is at `first`, `stride` words apart.
 *
 * `found`: a span for each path and row, absent where there is nothing. Gives the bytes of the arena that
 * `tx_path_columns` needs, or -1 where the twin must look.
 */
EXPORT int64_t tx_paths(const span *first, int64_t count, int64_t stride, const path *paths, int64_t path_count,
                        span *found, column *columns) {
    for (int64_t k = 0; k < path_count; k++) columns[k].kind = NOTHING, columns[k].nulls = columns[k].size = 0;
    for (int64_t i = 0; i < count; i++) {
        span data;
        memcpy(&data, (const uint8_t *)first + 8 * stride * i, sizeof data);
        if (!find_all(data, paths, path_count, found + i, count)) return -1;
        for (int64_t k = 0; k < path_count; k++) {
            span *to = found + k * count + i;
            column *c = columns + k;
            if (to->at == NULL || to->at[0] == 'n') {
                *to = (span){NULL, 0};
                c->nulls++;
                continue;
            }
            uint8_t lead = to->at[0];
            int64_t kind = ANYTHING;
            if (lead == '-' || is_digit(lead))
                kind = NUMBERS;
            else if (lead == '"' && to->size >= 2 && memchr(to->at, '\\', (size_t)to->size) == NULL)
                kind = STRINGS;
            c->kind = c->kind == NOTHING || c->kind == kind ? kind : ANYTHING;
            c->size += to->size;
        }
    }
    int64_t whole = codes_size(count);
    for (int64_t k = 0; k < path_count; k++) {
        if (columns[k].size > SIZE_MAX_32) columns[k].kind = ANYTHING;
        if (columns[k].kind == NUMBERS) whole += 17 * (count + 1) + 2 * ARENA_STEP;
        if (columns[k].kind == STRINGS) whole += 9 * (count + 1) + columns[k].size + 4 * ARENA_STEP;
    }
    return whole;
}

static void put_numbers(arena *a, column *c, const span *found, int64_t count) {
    i128 *scaled = (i128 *)take(a);
    for (int64_t i = 0; i < count; i++) {
        i128 value = 0;
        if (found[i].at != NULL && !read_scaled(found[i], &value)) {
            c->kind = ANYTHING;
            return;
        }
        scaled[i] = value;
    }
    settle(a, 16 * count);
}

static void put_strings(arena *a, const span *found, int64_t count, uint64_t seed, uint8_t *scratch) {
    codes c;
    codes_begin(&c, scratch, count, seed);
    int32_t *numbers = (int32_t *)take(a);
    for (int64_t i = 0; i < count; i++) {
        span s = found[i];
        numbers[i] = s.at == NULL ? 0 : code_of(&c, (span){s.at + 1, s.size - 2});
    }
    settle(a, 4 * count);
    put_dictionary(a, &c);
}

/* Writes the columns of what `tx_paths` found; where a number is for the twin to say, the path's kind is ANYTHING then,
 * which has no buffers. The arena begins with scratch, at a multiple of 64 bytes. */
EXPORT void tx_path_columns(const span *found, int64_t count, column *columns, int64_t path_count, uint64_t seed,
                            uint8_t *base) {
    arena a = {base, codes_size(count), NULL};
    for (int64_t k = 0; k < path_count; k++) {
        column *c = columns + k;
        a.layout = c->layout;
        if (c->kind != NUMBERS && c->kind != STRINGS) continue;
        put_present(&a, found + k * count, count, sizeof(span) / 8);
        if (c->kind == NUMBERS)
            put_numbers(&a, c, found + k * count, count);
        else
            put_strings(&a, found + k * count, count, seed, base);
    }
}

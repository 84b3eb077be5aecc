/* Line items (JSON) -> rows of what a store needs of them. The twin is `rating.spend.decode`, which takes every form.
 *
 * Takes what the engine writes, and is sure of it: the members that are needed in that order, none of their texts with
 * an escape, whatever else stands between them passed over once it is seen to be JSON. At the first line item that is
 * of another form it stops, and the twin reads them all.
 */
#include "codes.h"
#include "times.h"

typedef struct {
    span body, id, tenant, customer, subscription, charge, dimensions, currency; /* `dimensions`: JSON */
    int64_t revision, start, end, events;
    int64_t last; /* the last event, ABSENT where there is none */
    int64_t quantity[2], amount[2]; /* scaled, low half first */
} line;

_Static_assert(sizeof(line) == 25 * 8, "rating.spend.line_columns says 25 words");

enum { DEPTH_ROOM = 16, WHOLE_DIGITS = 26, FRACTION_DIGITS = 12 };

/* A value of any kind, of which nothing is kept: names may stand twice in it. */
static const uint8_t *skip_any(const uint8_t *p, const uint8_t *end, int room) {
    if (p >= end || room == 0) return NULL;
    if (*p != '{' && *p != '[') return skip_scalar(p, end);
    uint8_t close = *p == '{' ? '}' : ']';
    p = skip_white(p + 1, end);
    if (p < end && *p == close) return p + 1;
    for (;;) {
        if (close == '}') {
            span name;
            int plain;
            p = skip_name(p, end, &name, &plain);
            if (p == NULL) return NULL;
        }
        p = skip_any(p, end, room - 1);
        if (p == NULL) return NULL;
        p = skip_white(p, end);
        if (p >= end) return NULL;
        if (*p == close) return p + 1;
        if (*p != ',') return NULL;
        p = skip_white(p + 1, end);
    }
}

static const uint8_t *read_text(const uint8_t *p, const uint8_t *end, span *text) {
    int plain = 1;
    if (p >= end || *p != '"') return NULL;
    const uint8_t *after = skip_string(p, end, &plain);
    if (after == NULL || !plain) return NULL;
    *text = (span){p + 1, after - p - 2};
    return after;
}

/* A whole number of at most 18 digits, so that it fits. */
static const uint8_t *read_whole(const uint8_t *p, const uint8_t *end, int64_t *number) {
    if (p >= end) return NULL;
    int negative = *p == '-';
    const uint8_t *first = p + negative, *after = skip_digits(first, end);
    if (after == NULL || after - first > 18 || (*first == '0' && after - first > 1)) return NULL;
    if (after < end && (*after == '.' || (*after | 0x20) == 'e')) return NULL;
    int64_t value = 0;
    for (p = first; p < after; p++) value = value * 10 + (*p - '0');
    *number = negative ? -value : value;
    return after;
}

/* A text that is a decimal: 26 digits before the point and 12 behind it are 38 at most, and fit. */
static const uint8_t *read_decimal(const uint8_t *p, const uint8_t *end, int64_t *halves) {
    span text;
    const uint8_t *after = read_text(p, end, &text);
    if (after == NULL) return NULL;
    const uint8_t *at = text.at, *stop = text.at + text.size;
    int negative = at < stop && *at == '-';
    const uint8_t *first = at + negative, *point = skip_digits(first, stop);
    if (point == NULL || point - first > WHOLE_DIGITS) return NULL;
    u128 value = 0;
    for (at = first; at < point; at++) value = value * 10 + (u128)(*at - '0');
    int64_t digits = 0;
    if (at < stop) {
        if (*at != '.' || skip_digits(at + 1, stop) != stop || stop - at - 1 > FRACTION_DIGITS) return NULL;
        for (at++; at < stop; at++, digits++) value = value * 10 + (u128)(*at - '0');
    }
    for (; digits < FRACTION_DIGITS; digits++) value *= 10;
    if (negative) value = -value;
    memcpy(halves, &value, sizeof value);
    return after;
}

/* In UTC, to the microsecond at most: all who read times agree on those. */
static const uint8_t *read_moment(const uint8_t *p, const uint8_t *end, int64_t *micros) {
    span text;
    const uint8_t *after = read_text(p, end, &text);
    if (after == NULL || text.size < 20 || text.size > 27 || text.at[text.size - 1] != 'Z') return NULL;
    return read_time(text, 1970, 9998, micros) ? after : NULL;
}

static int is_named(span name, const char *word) {
    return name.size == (int64_t)strlen(word) && memcmp(name.at, word, (size_t)name.size) == 0;
}

static const uint8_t *read_period(const uint8_t *p, const uint8_t *end, line *to) {
    static const char first[] = "{\"start\":", second[] = ",\"end\":";
    p = skip_word(p, end, first, sizeof first - 1);
    if (p == NULL || (p = read_moment(p, end, &to->start)) == NULL) return NULL;
    p = skip_word(p, end, second, sizeof second - 1);
    if (p == NULL || (p = read_moment(p, end, &to->end)) == NULL || p >= end || *p != '}') return NULL;
    return p + 1;
}

static const char *const NAMES[] = {
    "id", "revision", "tenant", "customer", "subscription", "charge", "dimensions",
    "currency", "period", "quantity", "amount", "events", "last_event",
};
enum {
    ID, REVISION, TENANT, CUSTOMER, SUBSCRIPTION, CHARGE, DIMENSIONS,
    CURRENCY, PERIOD, QUANTITY, AMOUNT, EVENTS, LAST, ALL
};

static const uint8_t *read_member(const uint8_t *p, const uint8_t *end, int which, line *to) {
    switch (which) {
    case ID: return read_text(p, end, &to->id);
    case REVISION: return read_whole(p, end, &to->revision);
    case TENANT: return read_text(p, end, &to->tenant);
    case CUSTOMER: return read_text(p, end, &to->customer);
    case SUBSCRIPTION: return read_text(p, end, &to->subscription);
    case CHARGE: return read_text(p, end, &to->charge);
    case DIMENSIONS: {
        const uint8_t *after = skip_any(p, end, DEPTH_ROOM);
        if (after != NULL) to->dimensions = (span){p, after - p};
        return after;
    }
    case CURRENCY: return read_text(p, end, &to->currency);
    case PERIOD: return read_period(p, end, to);
    case QUANTITY: return read_decimal(p, end, to->quantity);
    case AMOUNT: return read_decimal(p, end, to->amount);
    case EVENTS: return read_whole(p, end, &to->events);
    default:
        if (p < end && *p == 'n') {
            to->last = ABSENT;
            return skip_word(p, end, "null", 4);
        }
        return read_moment(p, end, &to->last);
    }
}

/* Whether the text is one line item of the form that is taken here. */
static int read_line(const uint8_t *p, const uint8_t *end, line *to) {
    to->body = (span){p, end - p};
    if (p >= end || *p != '{') return 0;
    for (int next = 0;;) {
        span name;
        int plain = 1;
        p = skip_name(p + 1, end, &name, &plain); /* behind the brace, or a comma */
        if (p == NULL || !plain) return 0;
        if (next < ALL && is_named(name, NAMES[next])) {
            p = read_member(p, end, next++, to);
        } else {
            for (int i = 0; i < ALL; i++)
                if (is_named(name, NAMES[i])) return 0; /* out of order, or for the second time */
            p = skip_any(p, end, DEPTH_ROOM);
        }
        if (p == NULL || p >= end) return 0;
        if (*p == '}') return next == ALL && p + 1 == end;
        if (*p != ',') return 0;
    }
}

/* Bytes of scratch that `tx_read_lines` needs. */
EXPORT int64_t tx_read_lines_size(int64_t count) { return codes_size(count); }

/* Reads `count` line items, each where its span says. `lines` gets of each identity the
 * highest revision, the first of several, in the order in which the identities come. Gives how many there are; -1 where
 * one is of another form. `scratch`: at a multiple of eight. */
EXPORT int64_t tx_read_lines(const span *values, int64_t count, uint64_t seed, uint8_t *scratch, line *lines) {
    codes c;
    codes_begin(&c, scratch, count, seed);
    for (int64_t i = 0; i < count; i++) {
        line found;
        if (!read_line(values[i].at, values[i].at + values[i].size, &found)) return -1;
        int32_t before = c.count, code = code_of(&c, found.id);
        if (code == before || found.revision > lines[code].revision) lines[code] = found;
    }
    return c.count;
}

/* Rows of the door -> the buffers of a pack's columns. The twin is `pa.array` over lists, in `ingest.pack`.
 *
 * Every buffer is written into one arena that the caller owns; `layout` says where each stands and how long it is.
 */
#include "codes.h"

/* One of a row's spans, by its first word. */
static inline span span_of(const event *row, int64_t word) {
    span s;
    memcpy(&s, (const uint8_t *)row + 8 * word, sizeof s);
    return s;
}

/* Numbers the different texts of a column: `found` gets each row's, `texts` each text. Gives how many there are.
 * `slots`: `room` words of scratch, a power of two, more than twice the rows. */
EXPORT int64_t tx_codes(const event *rows, int64_t count, int64_t word, uint64_t seed, int32_t *slots, int64_t room,
                        int32_t *found, span *texts) {
    codes c;
    codes_begin(&c, slots, room, seed, texts);
    for (int64_t i = 0; i < count; i++) found[i] = code_of(&c, span_of(rows + i, word));
    return c.count;
}

/* The texts of a column, one behind the other: their sizes to `sizes`, and the bytes to `to` unless that is NULL. */
EXPORT int64_t tx_texts(const span *first, int64_t count, int64_t stride, int64_t *sizes, uint8_t *to) {
    int64_t whole = 0;
    for (int64_t i = 0; i < count; i++) {
        span s;
        memcpy(&s, (const uint8_t *)first + 8 * stride * i, sizeof s);
        sizes[i] = s.size;
        if (to != NULL && s.size) memcpy(to + whole, s.at, (size_t)s.size);
        whole += s.size;
    }
    return whole;
}

typedef struct {
    uint8_t *base;
    int64_t used;
    int64_t *layout;
} arena;

/* The next buffer: at a multiple of 64 bytes; `settle` says how much of it was used. */
static uint8_t *take(arena *a) {
    a->used = (a->used + 63) & ~63ll;
    *a->layout++ = a->used;
    return a->base + a->used;
}

static void settle(arena *a, int64_t size) {
    *a->layout++ = size;
    a->used += size;
}

static void put_dictionary(arena *a, const event *rows, int64_t count, int64_t word, uint64_t seed, int32_t *slots,
                           int64_t room, span *texts) {
    codes c;
    codes_begin(&c, slots, room, seed, texts);
    int32_t *numbers = (int32_t *)take(a);
    for (int64_t i = 0; i < count; i++) numbers[i] = code_of(&c, span_of(rows + i, word));
    settle(a, 4 * count);
    int32_t *ends = (int32_t *)take(a), end = 0;
    for (int32_t i = 0; i < c.count; i++) {
        ends[i] = end;
        end += (int32_t)texts[i].size;
    }
    ends[c.count] = end;
    settle(a, 4 * (c.count + 1));
    uint8_t *to = take(a);
    for (int32_t i = 0; i < c.count; i++) {
        memcpy(to, texts[i].at, (size_t)texts[i].size);
        to += texts[i].size;
    }
    settle(a, end);
}

static void put_texts(arena *a, const event *rows, int64_t count, int64_t word) {
    int32_t *ends = (int32_t *)take(a), end = 0;
    for (int64_t i = 0; i < count; i++) {
        ends[i] = end;
        end += (int32_t)span_of(rows + i, word).size;
    }
    ends[count] = end;
    settle(a, 4 * (count + 1));
    uint8_t *to = take(a);
    for (int64_t i = 0; i < count; i++) {
        span s = span_of(rows + i, word);
        if (s.size) memcpy(to, s.at, (size_t)s.size);
        to += s.size;
    }
    settle(a, end);
}

/* Which rows have the span: a bit for each. */
static void put_present(arena *a, const event *rows, int64_t count, int64_t word) {
    uint8_t *bits = take(a);
    memset(bits, 0, (size_t)(count + 7) / 8);
    for (int64_t i = 0; i < count; i++)
        if (span_of(rows + i, word).at != NULL) bits[i >> 3] |= (uint8_t)(1 << (i & 7));
    settle(a, (count + 7) / 8);
}

#define WORD(field) ((int64_t)offsetof(event, field) / 8)

/* Bytes that the arena of `tx_pack` needs at most. The caller sees to it that all texts together are below 2^31. */
EXPORT int64_t tx_pack_size(const event *rows, int64_t count) {
    int64_t whole = 0;
    for (int64_t i = 0; i < count; i++) {
        const event *e = rows + i;
        whole += e->customer.size + e->subject.size + e->source.size + e->type.size;
        whole += e->id.size + e->data.size + e->extensions.size;
    }
    return whole + 96 * (count + 1) + 24 * 64; /* what is of one size, and what lies between */
}

/* The buffers in the order of `schemas.event.PACK_COLUMNS`: an address and a size in `layout` for each. */
EXPORT void tx_pack(const event *rows, int64_t count, uint64_t seed, int32_t *slots, int64_t room, span *texts,
                    uint8_t *base, int64_t *layout) {
    static const int64_t dictionaries[] = {WORD(customer), WORD(subject), WORD(source), WORD(type)};
    arena a = {base, 0, layout};
    uint8_t *identity = take(&a);
    for (int64_t i = 0; i < count; i++) memcpy(identity + 16 * i, rows[i].identity, 16);
    settle(&a, 16 * count);
    uint32_t *content = (uint32_t *)take(&a);
    for (int64_t i = 0; i < count; i++) content[i] = (uint32_t)rows[i].content;
    settle(&a, 4 * count);
    for (int i = 0; i < 4; i++) put_dictionary(&a, rows, count, dictionaries[i], seed, slots, room, texts);
    put_texts(&a, rows, count, WORD(id));
    int64_t *moment = (int64_t *)take(&a);
    for (int64_t i = 0; i < count; i++) moment[i] = rows[i].moment;
    settle(&a, 8 * count);
    int64_t *arrived = (int64_t *)take(&a);
    for (int64_t i = 0; i < count; i++) arrived[i] = rows[i].arrived;
    settle(&a, 8 * count);
    put_texts(&a, rows, count, WORD(data));
    put_present(&a, rows, count, WORD(extensions));
    put_texts(&a, rows, count, WORD(extensions));
}

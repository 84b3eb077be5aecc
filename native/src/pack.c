/* Rows of the door -> the buffers of a pack's columns. The twin is `pa.array` over lists, in `ingest.pack`.
 *
 * Every buffer is written into one arena that the caller owns.
 */
#include "codes.h"

/* One of a row's spans, by its first word. */
static inline span span_of(const event *row, int64_t word) {
    span s;
    memcpy(&s, (const uint8_t *)row + 8 * word, sizeof s);
    return s;
}

/* Bytes of scratch that `tx_codes` needs. */
EXPORT int64_t tx_codes_size(int64_t count) { return codes_size(count); }

/* Numbers the different texts of a column: `found` gets each row's; gives how many there are, their spans first in
 * `scratch`. */
EXPORT int64_t tx_codes(const event *rows, int64_t count, int64_t word, uint64_t seed, uint8_t *scratch,
                        int32_t *found) {
    codes c;
    codes_begin(&c, scratch, count, seed);
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

static void put_codes(arena *a, const event *rows, int64_t count, int64_t word, uint64_t seed, uint8_t *scratch) {
    codes c;
    codes_begin(&c, scratch, count, seed);
    int32_t *numbers = (int32_t *)take(a);
    for (int64_t i = 0; i < count; i++) numbers[i] = code_of(&c, span_of(rows + i, word));
    settle(a, 4 * count);
    put_dictionary(a, &c);
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

#define WORD(field) ((int64_t)offsetof(event, field) / 8)
#define BUFFERS 23 /* one for each plain column, two for texts, three for a dictionary or for texts that may be absent */

/* Bytes that the arena of `tx_pack` needs at most. The caller sees to it that all texts together are below 2^31. */
EXPORT int64_t tx_pack_size(const event *rows, int64_t count) {
    int64_t whole = 0;
    for (int64_t i = 0; i < count; i++) {
        const event *e = rows + i;
        whole += e->customer.size + e->subject.size + e->source.size + e->type.size;
        whole += e->id.size + e->data.size + e->extensions.size;
    }
    /* identity, content, two times; numbers and ends of four dictionaries; ends of three texts; a bit, rounded up */
    int64_t fixed = 16 + 4 + 2 * 8 + 4 * (4 + 4) + 3 * 4 + 1;
    return 16 * BUFFERS + codes_size(count) + whole + fixed * (count + 1) + ARENA_STEP * (BUFFERS + 1);
}

/* Where each buffer stands in the arena and its size, then scratch, then the buffers, in the order of
 * `schemas.event.PACK_COLUMNS`. */
EXPORT void tx_pack(const event *rows, int64_t count, uint64_t seed, uint8_t *base) {
    static const int64_t dictionaries[] = {WORD(customer), WORD(subject), WORD(source), WORD(type)};
    uint8_t *scratch = base + 16 * BUFFERS;
    arena a = {base, 16 * BUFFERS + codes_size(count), (int64_t *)base};
    uint8_t *identity = take(&a);
    for (int64_t i = 0; i < count; i++) memcpy(identity + 16 * i, rows[i].identity, 16);
    settle(&a, 16 * count);
    uint32_t *content = (uint32_t *)take(&a);
    for (int64_t i = 0; i < count; i++) content[i] = (uint32_t)rows[i].content;
    settle(&a, 4 * count);
    for (int i = 0; i < 4; i++) put_codes(&a, rows, count, dictionaries[i], seed, scratch);
    put_texts(&a, rows, count, WORD(id));
    int64_t *moment = (int64_t *)take(&a);
    for (int64_t i = 0; i < count; i++) moment[i] = rows[i].moment;
    settle(&a, 8 * count);
    int64_t *arrived = (int64_t *)take(&a);
    for (int64_t i = 0; i < count; i++) arrived[i] = rows[i].arrived;
    settle(&a, 8 * count);
    put_texts(&a, rows, count, WORD(data));
    put_present(&a, &rows->extensions, count, sizeof(event) / 8);
    put_texts(&a, rows, count, WORD(extensions));
}

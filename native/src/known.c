/* What the door remembers of acknowledged events: two tables from a 16-byte identity to the fingerprint of a content.
 *
 * Python owns the tables and the state (ingest/memory.py, whose twin says what is right): a table is 2^k slots of two
 * words (the identity) and 2^k words (the fingerprint plus one; nought: the slot is free), never more than half full, so
 * a search ends. Places are chosen by two odd secrets of the process: nobody outside can make many identities meet.
 * Identities and contents stand anywhere at a multiple of 8, each of them so many words behind the one before. `scratch`
 * is as many slots as a power of two that is at least twice `count`, all nought when it comes. */
#include "taximeter.h"

typedef struct {
    uint64_t *young_keys, *young_values, *old_keys, *old_values;
    int64_t young_count, old_count, mask, half;
    uint64_t first, second;
} known;

/* The events at hand: where the first identity and the first content stand, and the words from one to the next. */
typedef struct {
    const uint64_t *ids;
    const int64_t *contents;
    int64_t id_step, content_step, count;
} given;

static inline const uint64_t *id_of(const given *events, int64_t i) { return events->ids + events->id_step * i; }

static inline uint64_t content_of(const given *events, int64_t i) {
    return (uint64_t)events->contents[events->content_step * i] + 1;
}

static inline uint64_t place(const known *state, const uint64_t *key) {
    uint64_t mixed = (key[0] * state->first) ^ (key[1] * state->second);
    return mixed ^ (mixed >> 32);
}

/* The slot where a key stands, or the free one where it would. */
static inline uint64_t slot(const known *state, const uint64_t *keys, const uint64_t *values, const uint64_t *key) {
    uint64_t mask = (uint64_t)state->mask, at = place(state, key) & mask;
    while (values[at] && (keys[2 * at] != key[0] || keys[2 * at + 1] != key[1])) at = (at + 1) & mask;
    return at;
}

/* The place of an equal identity before this one among those at hand; noted as the first itself where there is none. */
static inline int64_t earlier(const known *state, const given *events, int64_t i, int32_t *scratch, uint64_t mask) {
    const uint64_t *key = id_of(events, i);
    uint64_t at = place(state, key) & mask;
    for (; scratch[at]; at = (at + 1) & mask) {
        const uint64_t *there = id_of(events, scratch[at] - 1);
        if (there[0] == key[0] && there[1] == key[1]) return scratch[at] - 1;
    }
    scratch[at] = (int32_t)(i + 1);
    return -1;
}

/* Asks for what a search will read, so that the memory works on many at once. */
#define AHEAD 16
static inline void look_ahead(const known *state, const given *events, int64_t i) {
    if (i + AHEAD >= events->count) return;
    uint64_t at = place(state, id_of(events, i + AHEAD)) & (uint64_t)state->mask;
    __builtin_prefetch(state->young_values + at);
    __builtin_prefetch(state->old_values + at);
}

/* verdicts[i]: 0 new, 1 seen before or earlier among these, 2 with another content. Returns how many are not new. */
EXPORT int64_t tx_known_look(const known *state, const given *events, int32_t *scratch, int64_t scratch_mask,
                             uint8_t *verdicts) {
    int64_t found = 0;
    for (int64_t i = 0; i < events->count; i++) {
        const uint64_t *key = id_of(events, i);
        look_ahead(state, events, i);
        uint64_t value = state->young_values[slot(state, state->young_keys, state->young_values, key)];
        if (!value) value = state->old_values[slot(state, state->old_keys, state->old_values, key)];
        if (!value) {
            int64_t before = earlier(state, events, i, scratch, (uint64_t)scratch_mask);
            if (before >= 0) value = content_of(events, before);
        }
        verdicts[i] = !value ? 0 : value == content_of(events, i) ? 1 : 2;
        found += value != 0;
    }
    return found;
}

/* Notes at most `half` events; the first content of an identity stays. `fresh` and `values`: room for `count` each. */
EXPORT void tx_known_remember(known *state, const given *events, int32_t *scratch, int64_t scratch_mask,
                              int64_t *fresh, uint64_t *values) {
    int64_t many = 0;
    for (int64_t i = 0; i < events->count; i++) {
        const uint64_t *key = id_of(events, i);
        look_ahead(state, events, i);
        if (state->old_values[slot(state, state->old_keys, state->old_values, key)]) continue;
        if (earlier(state, events, i, scratch, (uint64_t)scratch_mask) >= 0) continue;
        uint64_t value = state->young_values[slot(state, state->young_keys, state->young_values, key)];
        fresh[many] = i;
        values[many++] = value ? value : content_of(events, i);
    }
    if (state->young_count + many > state->half) {
        uint64_t *keys = state->old_keys, *vacated = state->old_values;
        state->old_keys = state->young_keys, state->old_values = state->young_values;
        state->old_count = state->young_count;
        memset(vacated, 0, (size_t)(state->mask + 1) * sizeof *vacated);
        state->young_keys = keys, state->young_values = vacated, state->young_count = 0;
    }
    for (int64_t n = 0; n < many; n++) {
        const uint64_t *key = id_of(events, fresh[n]);
        uint64_t at = slot(state, state->young_keys, state->young_values, key);
        if (state->young_values[at]) continue;
        state->young_keys[2 * at] = key[0], state->young_keys[2 * at + 1] = key[1];
        state->young_values[at] = values[n];
        state->young_count++;
    }
}

/* The hash index: whole columns of keys sought, added, and moved to a longer table. Twin: rating/index.py.
 *
 * It owns nothing: the table, its values and all columns are numpy arrays of the caller, of the lengths it names. */
#include "index.h"

/* Each key's place; where it is not held the complement of the empty place where it would be. Returns how many are not
 * held. */
EXPORT int64_t tx_index_seek(const Key *table, int64_t size, const Key *keys, int64_t count, int64_t *places) {
    int64_t home[AHEAD], missing = 0;
    for (int64_t start = 0; start < count; start += AHEAD) {
        const int64_t width = count - start < AHEAD ? count - start : AHEAD;
        for (int64_t i = 0; i < width; i++) {
            home[i] = home_of(held_key(keys[start + i]), size);
            __builtin_prefetch(&table[home[i]]);
        }
        for (int64_t i = 0; i < width; i++) {
            const int64_t at = seek(table, size, held_key(keys[start + i]), home[i]);
            places[start + i] = at;
            missing += at < 0;
        }
    }
    return missing;
}

/* Enters what is not held, row by row; there is room for it. Returns how many are new; `fresh` (noughts before) marks
 * their rows, and `places` are all rows' places. `brought` may be null; if not, a new key gets its row's value. */
EXPORT int64_t tx_index_add(Key *table, uint32_t *values, int64_t size, const Key *keys, const uint32_t *brought,
                            int64_t count, int64_t *places, uint8_t *fresh) {
    int64_t home[AHEAD], added = 0;
    for (int64_t start = 0; start < count; start += AHEAD) {
        const int64_t width = count - start < AHEAD ? count - start : AHEAD;
        for (int64_t i = 0; i < width; i++) {
            home[i] = home_of(held_key(keys[start + i]), size);
            __builtin_prefetch(&table[home[i]], 1);
            __builtin_prefetch(&values[home[i]], 1); /* the caller is going to read or write them */
        }
        for (int64_t i = 0; i < width; i++) {
            const int64_t row = start + i;
            const Key key = held_key(keys[row]);
            int64_t at = seek(table, size, key, home[i]);
            if (at < 0) {
                at = ~at;
                table[at] = key;
                if (brought) values[at] = brought[row];
                fresh[row] = 1;
                added++;
            }
            places[row] = at;
        }
    }
    return added;
}

typedef struct {
    Key key;
    uint64_t value;
} Moved;

/* The keys of the first `before` places, the others of `size` being empty, go to where they belong in a table of that
 * size. Homes rise with the size, so from the last place on nearly every key goes behind all that are still to go: into
 * a part that is as it will be. The others wait in `aside` (room for as many as are held). */
EXPORT void tx_index_spread(Key *table, uint32_t *values, int64_t before, int64_t size, Moved *aside) {
    int64_t waiting = 0;
    for (int64_t place = before - 1; place >= 0; place--) {
        const Key key = table[place];
        if (is_empty(key)) continue;
        const uint32_t value = values[place];
        int64_t at = home_of(key, size);
        table[place] = (Key){0, 0};
        if (at > place) {
            while (at < size && !is_empty(table[at])) at++;
        }
        if (at > place && at < size) {
            table[at] = key;
            values[at] = value;
        } else {
            aside[waiting++] = (Moved){key, value};
        }
    }
    for (int64_t i = 0; i < waiting; i++) {
        const Key key = aside[i].key;
        const int64_t at = ~seek(table, size, key, home_of(key, size)); /* keys are different: it is not held */
        table[at] = key;
        values[at] = (uint32_t)aside[i].value;
    }
}

/* For each row whether another value is held at its place than it brings. */
EXPORT void tx_index_differs(const uint32_t *values, const int64_t *places, const uint32_t *brought, int64_t count,
                             uint8_t *differs) {
    for (int64_t row = 0; row < count; row++) {
        if (row + AHEAD < count) __builtin_prefetch(&values[places[row + AHEAD]]);
        differs[row] = values[places[row]] != brought[row];
    }
}

/* The hash index: whole columns of keys sought, added, and moved to a longer table. Twin: rating/index.py.
 *
 * It owns nothing: the table, its values and all columns are numpy arrays of the caller, of the lengths it names. */
#include "index.h"

/* Each key's place; where it is not held the complement of the empty place where it would be. Returns how many are not
 * held. `held` (if any): the values of the places; they are asked for, too, as the caller is going to read them. */
EXPORT int64_t tx_index_seek(const Key *table, int64_t size, const uint32_t *held, const Key *keys, int64_t count,
                             int64_t *places) {
    int64_t home[AHEAD], missing = 0;
    for (int64_t start = 0; start < count; start += AHEAD) {
        const int64_t width = count - start < AHEAD ? count - start : AHEAD;
        for (int64_t i = 0; i < width; i++) {
            home[i] = home_of(held_key(keys[start + i]), size);
            __builtin_prefetch(&table[home[i]]);
            if (held) __builtin_prefetch(&held[home[i]]);
        }
        for (int64_t i = 0; i < width; i++) {
            const int64_t at = seek(table, size, held_key(keys[start + i]), home[i]);
            places[start + i] = at;
            missing += at < 0;
        }
    }
    return missing;
}

/* Enters the rows that `places` (as `tx_index_seek` left them) says are not held. In rounds, as the twin does: the first
 * row to ask for an empty place gets it, the others look on from there when all have asked.
 *
 * `rows`: room for as many as are missing. Returns how many are new; `fresh` (noughts before) marks their rows, and
 * `places` are all places then. `values` and `brought` may be null; if not, a new key gets its row's value. */
EXPORT int64_t tx_index_add(Key *table, int64_t size, const Key *keys, int64_t count, int64_t *places, uint8_t *fresh,
                            int64_t *rows, uint32_t *values, const uint32_t *brought) {
    int64_t waiting = 0, added = 0;
    for (int64_t row = 0; row < count; row++) {
        if (places[row] < 0) rows[waiting++] = row;
    }
    while (waiting) {
        int64_t lost = 0;
        for (int64_t i = 0; i < waiting; i++) {
            const int64_t row = rows[i], at = ~places[row];
            if (i + 8 < waiting) __builtin_prefetch(&table[~places[rows[i + 8]]], 1);
            if (is_empty(table[at])) {
                table[at] = held_key(keys[row]);
                if (values) values[at] = brought[row];
                places[row] = at;
                fresh[row] = 1;
                added++;
            } else {
                rows[lost++] = row;
            }
        }
        waiting = 0;
        for (int64_t i = 0; i < lost; i++) {
            const int64_t row = rows[i];
            places[row] = seek(table, size, held_key(keys[row]), ~places[row]);
            if (places[row] < 0) rows[waiting++] = row;
        }
    }
    return added;
}

/* All keys and values of a table into an empty, longer one, as if added in the order of their places.
 *
 * `from`, `at`: room for as many as are held. */
EXPORT void tx_index_move(const Key *old, const uint32_t *old_values, int64_t old_size, Key *table, uint32_t *values,
                          int64_t size, int64_t *from, int64_t *at) {
    int64_t waiting = 0;
    for (int64_t place = 0; place < old_size; place++) {
        if (is_empty(old[place])) continue;
        const int64_t home = home_of(old[place], size);
        if (is_empty(table[home])) {
            table[home] = old[place];
            values[home] = old_values[place];
        } else {
            from[waiting] = place;
            at[waiting++] = home;
        }
    }
    while (waiting) {
        int64_t going = 0;
        for (int64_t i = 0; i < waiting; i++) at[i] = ~seek(table, size, old[from[i]], at[i]);
        for (int64_t i = 0; i < waiting; i++) {
            const int64_t place = from[i], there = at[i];
            if (is_empty(table[there])) {
                table[there] = old[place];
                values[there] = old_values[place];
            } else {
                from[going] = place;
                at[going++] = there;
            }
        }
        waiting = going;
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

/* Lines and cells: found, or made, row by row. Twin: rating/slots.py, which says how they are found.
 *
 * It owns nothing. The caller has made room for as many new lines and cells as there are rows, in tables and indexes;
 * rows of tables that are not in use are noughts. The structure is mirrored there, field by field. */
#include "index.h"

typedef struct {
    /* The index of lines, and their table. */
    Key *line_table;
    uint32_t *line_values;
    int64_t line_size, lines, line_step; /* places, how many lines there are, and the bytes of a row */
    int32_t *line_bill, *line_charge, *line_combo, *line_rate, *line_before, *line_cell;
    int64_t *line_first, *line_last, *line_through;
    int32_t *bill_line; /* each bill's newest line */
    int64_t bill_step;
    /* The index of cells, and their table. */
    Key *cell_table;
    uint32_t *cell_values;
    int64_t cell_size, cells, cell_step;
    int64_t entered, room; /* how many cells are in the index, and how many may be at most */
    int32_t *cell_line, *cell_shape, *cell_number, *cell_next;
} Slots;

static const int64_t TIME_MAX = (int64_t)1 << 62, TIME_MIN = -((int64_t)1 << 62);

/* Keys of `rating.slots`. */
static inline Key line_key(int64_t bill, int64_t charge, int64_t combo) {
    return held_key((Key){(uint64_t)bill << 32 | (uint64_t)charge, (uint64_t)combo});
}

static inline Key cell_key(int64_t bill, int64_t shape, int64_t combo, int64_t number) {
    return held_key((Key){(uint64_t)bill << 32 | (uint64_t)shape, (uint64_t)combo << 16 | (uint64_t)number});
}

#define LINE(name, row) ROW(in->line_##name, in->line_step, row)
#define CELL(name, row) ROW(in->cell_##name, in->cell_step, row)

static inline int is_cell(const Slots *in, int64_t cell, int64_t shape, int64_t number) {
    return CELL(shape, cell) == shape && CELL(number, cell) == number;
}

/* A line, at the place `home` or behind it; a new one stands before all others of its bill. */
static inline int64_t line_of(Slots *in, Key key, int64_t home, int64_t bill, int64_t charge, int64_t combo,
                              int64_t rate) {
    int64_t at = seek(in->line_table, in->line_size, key, home);
    if (at >= 0) return in->line_values[at];
    const int64_t line = in->lines++;
    in->line_table[~at] = key;
    in->line_values[~at] = (uint32_t)line;
    LINE(bill, line) = (int32_t)bill;
    LINE(charge, line) = (int32_t)charge;
    LINE(combo, line) = (int32_t)combo;
    LINE(rate, line) = (int32_t)rate;
    LINE(cell, line) = -1;
    LINE(first, line) = TIME_MAX;
    LINE(last, line) = TIME_MIN;
    LINE(through, line) = -1;
    LINE(before, line) = ROW(in->bill_line, in->bill_step, bill);
    ROW(in->bill_line, in->bill_step, bill) = (int32_t)line;
    return line;
}

/* The line of each row: of its bill, a charge and its group. */
EXPORT void tx_find_lines(Slots *in, int64_t charge, const int64_t *bill, const int64_t *combo, const int64_t *rate,
                          int64_t count, int64_t *line) {
    int64_t home[AHEAD];
    for (int64_t from = 0; from < count; from += AHEAD) {
        const int64_t width = count - from < AHEAD ? count - from : AHEAD;
        for (int64_t i = 0; i < width; i++) {
            home[i] = home_of(line_key(bill[from + i], charge, combo[from + i]), in->line_size);
            __builtin_prefetch(&in->line_table[home[i]], 1);
            __builtin_prefetch(&in->line_values[home[i]], 1);
            __builtin_prefetch(&ROW(in->bill_line, in->bill_step, bill[from + i]), 1);
        }
        for (int64_t i = 0; i < width; i++) {
            const int64_t row = from + i;
            const Key key = line_key(bill[row], charge, combo[row]);
            line[row] = line_of(in, key, home[i], bill[row], charge, combo[row], rate[row]);
        }
    }
}

/* The cell of each row, of its bill, a shape of a charge, its group and its number there; -1 where there is none yet.
 * Returns how many there are not. What is read is asked for first: the line's place, its row, and that of its cell. */
EXPORT int64_t tx_find_cells(const Slots *in, int64_t shape, int64_t charge, const int64_t *bill, const int64_t *combo,
                             const int64_t *number, int64_t count, int64_t *cell) {
    int64_t missing = 0, home[AHEAD], line[AHEAD], first[AHEAD], rest[AHEAD];
    for (int64_t from = 0; from < count; from += AHEAD) {
        const int64_t width = count - from < AHEAD ? count - from : AHEAD;
        int64_t waiting = 0;
        for (int64_t i = 0; i < width; i++) {
            home[i] = home_of(line_key(bill[from + i], charge, combo[from + i]), in->line_size);
            __builtin_prefetch(&in->line_table[home[i]]);
            __builtin_prefetch(&in->line_values[home[i]]);
        }
        for (int64_t i = 0; i < width; i++) {
            const Key key = line_key(bill[from + i], charge, combo[from + i]);
            const int64_t at = seek(in->line_table, in->line_size, key, home[i]);
            line[i] = at < 0 ? -1 : (int64_t)in->line_values[at];
            if (at >= 0) __builtin_prefetch(&LINE(cell, line[i]));
        }
        for (int64_t i = 0; i < width; i++) {
            first[i] = line[i] < 0 ? -1 : LINE(cell, line[i]);
            if (first[i] >= 0) __builtin_prefetch(&CELL(number, first[i]));
        }
        for (int64_t i = 0; i < width; i++) {
            cell[from + i] = -1;
            if (first[i] < 0) {
                missing++;
            } else if (likely(is_cell(in, first[i], shape, number[from + i]))) {
                cell[from + i] = first[i];
            } else if (CELL(next, first[i]) < 0) {
                missing++;
            } else {
                home[i] = home_of(cell_key(bill[from + i], shape, combo[from + i], number[from + i]), in->cell_size);
                __builtin_prefetch(&in->cell_table[home[i]]);
                __builtin_prefetch(&in->cell_values[home[i]]);
                rest[waiting++] = i;
            }
        }
        for (int64_t w = 0; w < waiting; w++) {
            const int64_t i = rest[w], row = from + i;
            const Key key = cell_key(bill[row], shape, combo[row], number[row]);
            const int64_t at = seek(in->cell_table, in->cell_size, key, home[i]);
            if (at < 0) missing++;
            else cell[row] = in->cell_values[at];
        }
    }
    return missing;
}

/* Puts a cell into the chain of its line behind those of a lower or equal number. */
static inline void attach(Slots *in, int32_t cell, int64_t line, int32_t number) {
    int32_t *link = &LINE(cell, line);
    while (*link >= 0 && CELL(number, *link) <= number) link = &CELL(next, *link);
    CELL(next, cell) = *link;
    *link = cell;
}

/* The place of a cell's key in the index of those that are not alone in their line; the complement of an empty one. */
static inline int64_t place_of(const Slots *in, int64_t bill, int64_t shape, int64_t combo, int64_t number) {
    const Key key = cell_key(bill, shape, combo, number);
    return seek(in->cell_table, in->cell_size, key, home_of(key, in->cell_size));
}

/* A cell comes into the index, at the complement of an empty place. */
static inline void enter(Slots *in, int64_t at, int64_t cell, int64_t bill, int64_t shape, int64_t combo,
                         int64_t number) {
    in->cell_table[~at] = cell_key(bill, shape, combo, number);
    in->cell_values[~at] = (uint32_t)cell;
    in->entered++;
}

/* The cell of one row, made where there is none; -1 where the index may have no room. `home`: that of the line's key. */
static inline int64_t cell_of(Slots *in, int64_t home, int64_t bill, int64_t shape, int64_t charge, int64_t combo,
                              int64_t number, int64_t rate) {
    const int64_t line = line_of(in, line_key(bill, charge, combo), home, bill, charge, combo, rate);
    const int64_t first = LINE(cell, line), made = in->cells;
    if (first >= 0) {
        if (is_cell(in, first, shape, number)) return first;
        if (in->entered + 2 > in->room) return -1;
        if (CELL(next, first) < 0) { /* it was alone */
            const int64_t own_shape = CELL(shape, first), own_number = CELL(number, first);
            const int64_t at = place_of(in, bill, own_shape, combo, own_number);
            enter(in, at, first, bill, own_shape, combo, own_number);
        }
        const int64_t at = place_of(in, bill, shape, combo, number);
        if (at >= 0) return in->cell_values[at];
        enter(in, at, made, bill, shape, combo, number);
    }
    in->cells++;
    CELL(line, made) = (int32_t)line;
    CELL(shape, made) = (int32_t)shape;
    CELL(number, made) = (int32_t)number;
    attach(in, (int32_t)made, line, (int32_t)number);
    return made;
}

/* The cell of each row from `from` on for which `cell` is below nought: of its bill, a shape of charge, its group and
 * its number there. `charge` is the shape's. Returns how far it came: the index of cells may want room. */
EXPORT int64_t tx_make_cells(Slots *in, int64_t shape, int64_t charge, const int64_t *bill, const int64_t *combo,
                             const int64_t *number, const int64_t *rate, int64_t from, int64_t count, int64_t *cell) {
    int64_t rows[AHEAD], home[AHEAD];
    while (from < count) {
        int64_t width = 0;
        for (; from < count && width < AHEAD; from++) {
            if (cell[from] >= 0) continue;
            rows[width] = from;
            home[width] = home_of(line_key(bill[from], charge, combo[from]), in->line_size);
            __builtin_prefetch(&in->line_table[home[width]], 1);
            __builtin_prefetch(&in->line_values[home[width]], 1);
            __builtin_prefetch(&ROW(in->bill_line, in->bill_step, bill[from]), 1);
            width++;
        }
        for (int64_t i = 0; i < width; i++) {
            const int64_t row = rows[i];
            cell[row] = cell_of(in, home[i], bill[row], shape, charge, combo[row], number[row], rate[row]);
            if (cell[row] < 0) return row;
        }
    }
    return count;
}

/* New lines and cells: found by their indexes, or made, row by row. Twins: `find_cells` and `find_lines` of
 * rating/cells.py.
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
    int32_t *cell_line, *cell_number, *cell_next;
} Slots;

static const int64_t TIME_MAX = (int64_t)1 << 62, TIME_MIN = -((int64_t)1 << 62);

/* Key of `rating.cells.find_lines`. */
static inline Key line_key(int64_t bill, int64_t charge, int64_t combo) {
    return held_key((Key){(uint64_t)bill << 32 | (uint64_t)charge, (uint64_t)combo});
}

/* A line, at the place `home` or behind it; a new one stands before all others of its bill. */
static inline int64_t line_of(Slots *in, Key key, int64_t home, int64_t bill, int64_t charge, int64_t combo,
                              int64_t rate) {
    int64_t at = seek(in->line_table, in->line_size, key, home);
    if (at >= 0) return in->line_values[at];
    const int64_t line = in->lines++, step = in->line_step;
    in->line_table[~at] = key;
    in->line_values[~at] = (uint32_t)line;
    ROW(in->line_bill, step, line) = (int32_t)bill;
    ROW(in->line_charge, step, line) = (int32_t)charge;
    ROW(in->line_combo, step, line) = (int32_t)combo;
    ROW(in->line_rate, step, line) = (int32_t)rate;
    ROW(in->line_cell, step, line) = -1;
    ROW(in->line_first, step, line) = TIME_MAX;
    ROW(in->line_last, step, line) = TIME_MIN;
    ROW(in->line_through, step, line) = -1;
    ROW(in->line_before, step, line) = ROW(in->bill_line, in->bill_step, bill);
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

/* Puts a cell into the chain of its line behind those of a lower or equal number. */
static inline void attach(Slots *in, int32_t cell, int64_t line, int32_t number) {
    int32_t *link = &ROW(in->line_cell, in->line_step, line);
    while (*link >= 0 && ROW(in->cell_number, in->cell_step, *link) <= number) {
        link = &ROW(in->cell_next, in->cell_step, *link);
    }
    ROW(in->cell_next, in->cell_step, cell) = *link;
    *link = cell;
}

/* The cell of each row for which `cell` is below nought: of its bill, a shape of charge, its group and its number there.
 * `charge` is the shape's. */
EXPORT void tx_make_cells(Slots *in, int64_t shape, int64_t charge, const int64_t *bill, const int64_t *combo,
                          const int64_t *number, const int64_t *rate, int64_t count, int64_t *cell) {
    int64_t rows[AHEAD], home[AHEAD], line_home[AHEAD];
    Key keys[AHEAD], line_keys[AHEAD];
    for (int64_t from = 0; from < count;) {
        int64_t width = 0;
        for (; from < count && width < AHEAD; from++) {
            if (cell[from] >= 0) continue;
            const Key key = {(uint64_t)bill[from] << 32 | (uint64_t)shape,
                             (uint64_t)combo[from] << 16 | (uint64_t)number[from]};
            rows[width] = from;
            keys[width] = held_key(key);
            home[width] = home_of(keys[width], in->cell_size);
            line_keys[width] = line_key(bill[from], charge, combo[from]);
            line_home[width] = home_of(line_keys[width], in->line_size);
            __builtin_prefetch(&in->cell_table[home[width]], 1);
            __builtin_prefetch(&in->cell_values[home[width]], 1);
            __builtin_prefetch(&in->line_table[line_home[width]], 1);
            __builtin_prefetch(&in->line_values[line_home[width]], 1);
            __builtin_prefetch(&ROW(in->bill_line, in->bill_step, bill[from]), 1);
            width++;
        }
        for (int64_t i = 0; i < width; i++) {
            const int64_t row = rows[i], at = seek(in->cell_table, in->cell_size, keys[i], home[i]);
            if (at >= 0) {
                cell[row] = in->cell_values[at];
                continue;
            }
            const int64_t made = in->cells++;
            const int64_t line = line_of(in, line_keys[i], line_home[i], bill[row], charge, combo[row], rate[row]);
            in->cell_table[~at] = keys[i];
            in->cell_values[~at] = (uint32_t)made;
            ROW(in->cell_line, in->cell_step, made) = (int32_t)line;
            ROW(in->cell_number, in->cell_step, made) = (int32_t)number[row];
            attach(in, (int32_t)made, line, (int32_t)number[row]);
            cell[row] = made;
        }
    }
}

/* The cells of lines, chained in the order in which the price book writes them. Twin: rating/state.py. */
#include "taximeter.h"

/* Puts each cell, in turn, into the chain of its line behind those of a lower or equal number.
 *
 * `first` (by line), `following` and `number` (by cell) are whole columns; `following` of these cells is -1 before. */
EXPORT void tx_attach_cells(int32_t *first, int64_t line_step, int32_t *following, const int32_t *number,
                            int64_t cell_step, const int64_t *cells, const int64_t *lines, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        const int32_t cell = (int32_t)cells[i];
        int32_t before = -1, at = ROW(first, line_step, lines[i]);
        while (at >= 0 && ROW(number, cell_step, at) <= ROW(number, cell_step, cell)) {
            before = at;
            at = ROW(following, cell_step, at);
        }
        ROW(following, cell_step, cell) = at;
        if (before < 0) {
            ROW(first, line_step, lines[i]) = cell;
        } else {
            ROW(following, cell_step, before) = cell;
        }
    }
}

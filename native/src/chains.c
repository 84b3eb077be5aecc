/* The cells of lines, chained in the order in which the price book writes them. Twin: rating/state.py. */
#include "taximeter.h"

/* Puts each cell, in turn, into the chain of its line behind those of a lower or equal number.
 *
 * `first` (by line), `following` and `number` (by cell) are whole columns; `following` of these cells is -1 before. */
EXPORT void tx_attach_cells(int32_t *first, int32_t *following, const int32_t *number, const int64_t *cells,
                            const int64_t *lines, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        const int32_t cell = (int32_t)cells[i];
        int32_t before = -1, at = first[lines[i]];
        while (at >= 0 && number[at] <= number[cell]) {
            before = at;
            at = following[at];
        }
        following[cell] = at;
        if (before < 0) {
            first[lines[i]] = cell;
        } else {
            following[before] = cell;
        }
    }
}

/* Aggregate and rate: what a batch brings to cells, lines and bills, event by event in the log's order.

   Owns the plain case: totals that add up, are the greatest, the least, the latest or the mean; prices that are a table
   of tiers for each total; bills of one segment. The twin is rating.replay, which this hands every event to that it
   does not do itself: `tx_fold_order` says of which bills it keeps off, `tx_fold_run` stops at a single event
   whose numbers are not plainly in bounds (nothing of that event is written then), and after one that reaches a level.

   Assumes, as the twin does: rows and cells of a part, and all that tables point at, are in bounds; one event brings a
   cell something once at most. The tables' columns are those of rating.state; nothing here is kept after a call. */
#include "taximeter.h"

typedef i128 wide __attribute__((aligned(8), may_alias)); /* a row of a column of width 2 */

enum { ADDS, GREATEST, LEAST, LATEST, MEAN };
enum { DONE, REACHED, ODD };
enum { FAR = 24, NEAR = 12 };
enum { ITEMS_MAX = 128 }; /* what one event brings at most, to be worked through here */

static const int64_t HALF = 500000000000; /* ONE / 2 */

/* What a batch brings by one meter to one channel of totals (rating.cells.Contributions). */
typedef struct {
    const int64_t *row, *bill, *cell, *rate;
    const wide *value; /* NULL: each brings ONE */
    int64_t size, kind, counted, odd;
} Part;

/* One of them. What it names stands beside it, so that a run reads along one line of memory. */
typedef struct {
    wide value;
    int32_t cell, bill, part, at;
} Item;

/* A column of a table, wherever its rows stand (numpy's `strides`). */
typedef struct {
    char *first;
    int64_t step;
} Column;

#define AT(type, column, row) (*(type *)((column).first + (row) * (column).step))
#define CELL(type, name) AT(type, f->cell_##name, cell)
#define LINE(type, name) AT(type, f->line_##name, line)
#define BILL(type, name) AT(type, f->bill_##name, head)

typedef struct {
    /* The batch. */
    const Part *parts;
    int64_t part_count, rows;
    const int64_t *time, *offset;
    /* The tables. */
    Column cell_line, cell_number, cell_events, cell_value, cell_at, cell_quantity, cell_amount, cell_rest;
    Column line_rate, line_quantity, line_gross, line_rest, line_amount;
    Column line_events, line_revision, line_first, line_last, line_through;
    Column bill_head, bill_next, bill_spend, bill_level, bill_touched;
    /* The compiled rates: `rate_table` is the first of a rate's tables, one for each of its cells' numbers. */
    const int64_t *rate_table;
    const wide *rate_free, *rate_minimum, *rate_maximum;
    const uint8_t *rate_enters, *rate_odd;
    const int64_t *table_first, *table_count;
    const wide *table_zero; /* what nought costs where it enters the first tier, 24 digits after the point */
    const uint8_t *table_below, *table_down;
    const wide *tier_start, *tier_last, *tier_base, *tier_unit, *tier_block;
    /* Room: `start` for rows + 2, `items` and `changed` for as many as all parts bring, marks for each bill and line. */
    int32_t *start;
    Item *items;
    int64_t *changed, *odd_heads;
    uint8_t *line_marks, *bill_marks;
    /* Where it stands. */
    int64_t row, until, changed_count, odd_count, count;
    wide amount_change;
} Fold;

/* What stood in the rows that one item changes. */
typedef struct {
    int64_t cell, line, head, events, at, cell_rest, line_rest, line_events, revision, first, last, through;
    i128 value, cell_quantity, cell_amount, quantity, gross, amount, spend;
    uint8_t touched;
} Before;

static inline u128 magnitude(i128 x) { return x < 0 ? -(u128)x : (u128)x; }

/* Whether a number stays so far from 38 digits (10^38) that no check of the twin's can fail. */
static inline int is_large(i128 x) {
    const i128 limit = (i128)1 << 123; /* 1.06 * 10^37 */
    return unlikely(x > limit || x < -limit);
}

static inline int width(u128 x) {
    uint64_t high = (uint64_t)(x >> 64), low = (uint64_t)x;
    return high ? 128 - __builtin_clzll(high) : low ? 64 - __builtin_clzll(low) : 0;
}

/* x * y into `product`; false where it might not fit 126 bits. */
static inline int multiply(i128 x, i128 y, i128 *product) {
    if (likely(x == (int64_t)x && y == (int64_t)y)) {
        *product = (i128)(int64_t)x * (int64_t)y;
        return 1;
    }
    if (width(magnitude(x)) + width(magnitude(y)) > 126) return 0;
    *product = x * y;
    return 1;
}

/* x / ONE of a magnitude below 2^127. ONE is 2^12 * 5^12, so that digits of 32 bits are divided by 28 bits. */
static inline u128 divide_one(u128 x, int64_t *left) {
    const uint64_t by = 244140625; /* 5^12 */
    if (likely((uint64_t)(x >> 64) == 0)) {
        *left = (int64_t)((uint64_t)x % (uint64_t)ONE);
        return (uint64_t)x / (uint64_t)ONE;
    }
    u128 n = x >> 12;
    uint64_t high = (uint64_t)(n >> 64), low = (uint64_t)n;
    uint64_t top = high / by, rest = high % by; /* below 2^28, so that a digit behind it stays below 2^60 */
    uint64_t part = rest << 32 | low >> 32;
    uint64_t middle = part / by;
    part = part % by << 32 | (low & 0xffffffffu);
    uint64_t last = part / by;
    *left = (int64_t)((part % by) << 12 | (uint64_t)(x & 4095));
    return ((u128)top << 64) + ((u128)middle << 32) + last;
}

/* `exact` (24 digits after the point) rounded half up, mirrored below nought, and what rounding took from it. */
static inline i128 round_one(i128 exact, int64_t *rest) {
    int64_t left;
    u128 quotient = divide_one(magnitude(exact), &left);
    if (left >= HALF) {
        quotient++;
        left -= ONE;
    }
    *rest = exact < 0 ? -left : left;
    return exact < 0 ? -(i128)quotient : (i128)quotient;
}

/* The same of `amount * ONE + rest`, where `rest` is a few units of ONE at most. */
static inline i128 settle_one(i128 amount, int64_t *rest) {
    while (*rest > HALF) amount++, *rest -= ONE;
    while (*rest < -HALF) amount--, *rest += ONE;
    int64_t odd = *rest;
    /* A half goes away from nought: with the sign of amount * ONE + rest, which is that of amount but at nought. */
    if (odd == HALF && amount >= 0) amount++, *rest = -HALF;
    if (odd == -HALF && amount <= 0) amount--, *rest = HALF;
    return amount;
}

/* The exact price of a quantity under a table; false where it may not fit. */
static inline int price(const Fold *f, int64_t table, int enters, i128 quantity, i128 *exact) {
    int64_t tier = f->table_first[table];
    if (quantity <= 0) {
        *exact = quantity ? 0 : enters ? f->table_zero[table] : 0;
        return quantity == 0 || !f->table_below[table] || multiply(f->tier_unit[tier], quantity, exact);
    }
    int64_t last = tier + f->table_count[table] - 1;
    while (last - tier > 8) { /* the last one is open: its bound is no number */
        int64_t middle = tier + (last - tier) / 2;
        if (quantity > f->tier_last[middle]) tier = middle + 1;
        else last = middle;
    }
    while (tier < last && quantity > f->tier_last[tier]) tier++;
    i128 units = quantity - f->tier_start[tier], block = f->tier_block[tier];
    if (block) {
        i128 blocks = likely((u128)units >> 63 == 0 && (u128)block >> 63 == 0) ? (int64_t)units / (int64_t)block
                                                                                   : units / block;
        blocks += !f->table_down[table] && blocks * block != units;
        if (!multiply(blocks, ONE, &units)) return 0;
    }
    if (!multiply(f->tier_unit[tier], units, exact)) return 0;
    return !__builtin_add_overflow(*exact, f->tier_base[tier], exact);
}

static inline void put_back(Fold *f, const Before *b) {
    int64_t cell = b->cell, line = b->line, head = b->head;
    CELL(int64_t, events) = b->events, CELL(int64_t, at) = b->at, CELL(wide, value) = b->value;
    CELL(wide, quantity) = b->cell_quantity, CELL(wide, amount) = b->cell_amount;
    CELL(int64_t, rest) = b->cell_rest;
    LINE(wide, quantity) = b->quantity, LINE(wide, gross) = b->gross, LINE(int64_t, rest) = b->line_rest;
    LINE(wide, amount) = b->amount, LINE(int64_t, events) = b->line_events, LINE(int64_t, revision) = b->revision;
    LINE(int64_t, first) = b->first, LINE(int64_t, last) = b->last, LINE(int64_t, through) = b->through;
    BILL(wide, spend) = b->spend, BILL(uint8_t, touched) = b->touched;
}

/* The total of a cell after one more value. */
static inline int count(int64_t kind, int64_t events, i128 held, int newer, i128 value, i128 *total) {
    switch (kind) {
    case GREATEST: *total = events && held > value ? held : value; break;
    case LEAST: *total = events && held < value ? held : value; break;
    case LATEST: *total = newer ? value : held; break;
    default:
        if (__builtin_add_overflow(held, value, total)) return 0;
    }
    return !is_large(*total);
}

/* One item of the event at `row`; false, and nothing written, where its numbers are not plainly in bounds. */
static inline int bring(Fold *f, const Item *item, int64_t row, Before *b) {
    const Part *part = f->parts + item->part;
    int64_t cell = item->cell, line = CELL(int32_t, line), head = item->bill; /* a plain bill is its head */
    int64_t rate = LINE(int32_t, rate), time = f->time[row], events = CELL(int64_t, events);
    if (unlikely(rate < 0 || f->rate_odd[rate])) return 0;
    b->cell = cell, b->line = line, b->head = head, b->events = events;
    b->at = CELL(int64_t, at), b->value = CELL(wide, value);
    i128 total, quantity, billed, exact, amount, gross, lines_quantity, formed, spend, change;
    int newer = events == 0 || time >= b->at;
    if (!count(part->kind, events, b->value, newer, item->value, &total)) return 0;
    quantity = total;
    if (part->kind == MEAN) {
        u128 whole = magnitude(total), by = (u128)(events + 1), mean = whole / by;
        mean += 2 * (whole % by) >= by;
        quantity = total < 0 ? -(i128)mean : (i128)mean;
    }
    billed = quantity;
    if (quantity > 0) {
        billed -= f->rate_free[rate];
        if (billed < 0) billed = 0;
    }
    int64_t cell_rest, rest, table = f->rate_table[rate] + CELL(int32_t, number);
    if (!price(f, table, f->rate_enters[rate], billed, &exact)) return 0;
    amount = round_one(exact, &cell_rest);
    /* The line. */
    b->cell_quantity = CELL(wide, quantity), b->cell_amount = CELL(wide, amount), b->cell_rest = CELL(int64_t, rest);
    b->quantity = LINE(wide, quantity), b->gross = LINE(wide, gross), b->line_rest = LINE(int64_t, rest);
    b->amount = LINE(wide, amount);
    if (is_large(b->cell_quantity) || is_large(b->cell_amount) || is_large(b->quantity) || is_large(b->gross) ||
        is_large(amount))
        return 0;
    lines_quantity = part->counted ? b->quantity + quantity - b->cell_quantity : b->quantity;
    rest = b->line_rest + cell_rest - b->cell_rest;
    gross = settle_one(b->gross + amount - b->cell_amount, &rest);
    formed = gross;
    if (formed > f->rate_maximum[rate]) formed = f->rate_maximum[rate];
    if (formed < f->rate_minimum[rate]) formed = f->rate_minimum[rate];
    /* The bill. */
    b->spend = BILL(wide, spend), b->touched = BILL(uint8_t, touched);
    if (is_large(formed) || is_large(b->amount) || is_large(b->spend) || is_large(f->amount_change)) return 0;
    change = formed - b->amount;
    spend = b->spend + change;
    if (is_large(lines_quantity) || is_large(gross) || is_large(spend)) return 0;
    b->line_events = LINE(int64_t, events), b->revision = LINE(int64_t, revision);
    b->first = LINE(int64_t, first), b->last = LINE(int64_t, last), b->through = LINE(int64_t, through);
    CELL(int64_t, events) = events + 1, CELL(int64_t, at) = newer ? time : b->at, CELL(wide, value) = total;
    CELL(wide, quantity) = quantity, CELL(wide, amount) = amount, CELL(int64_t, rest) = cell_rest;
    LINE(wide, quantity) = lines_quantity, LINE(wide, gross) = gross, LINE(int64_t, rest) = rest;
    LINE(wide, amount) = formed, LINE(int64_t, events) += part->counted, LINE(int64_t, revision) += part->counted;
    if (time < b->first) LINE(int64_t, first) = time;
    if (time > b->last) LINE(int64_t, last) = time;
    if (f->offset[row] > b->through) LINE(int64_t, through) = f->offset[row];
    BILL(wide, spend) = spend, BILL(uint8_t, touched) = 1;
    f->amount_change += change;
    if (!f->line_marks[line]) f->line_marks[line] = 1, f->changed[f->changed_count++] = line;
    return 1;
}

/* Finds which periods are not to be touched here, and puts what the parts bring to all others in the log's order.
   `bill_marks` has a 1 for those that are known before; all of them are in `odd_heads` then. Returns how many items are
   left to the twin. */
EXPORT int64_t tx_fold_order(Fold *f) {
    int64_t odd = 0;
    for (int64_t p = 0; p < f->part_count; p++) {
        const Part *part = f->parts + p;
        for (int64_t i = 0; i < part->size; i++) {
            int64_t bill = part->bill[i], head = AT(int32_t, f->bill_head, bill);
            int whole = head == bill && AT(int32_t, f->bill_next, bill) < 0;
            int plain = whole && !part->odd && !f->rate_odd[part->rate[i]];
            if (likely(plain) || f->bill_marks[head]) continue;
            f->bill_marks[head] = 1;
            f->odd_heads[f->odd_count++] = head;
        }
    }
    memset(f->start, 0, (size_t)(f->rows + 2) * sizeof *f->start);
    for (int64_t p = 0; p < f->part_count; p++) {
        const Part *part = f->parts + p;
        for (int64_t i = 0; i < part->size; i++) {
            if (unlikely(f->odd_count) && f->bill_marks[AT(int32_t, f->bill_head, part->bill[i])]) odd++;
            else f->start[part->row[i] + 2]++;
        }
    }
    for (int64_t row = 2; row <= f->rows; row++) f->start[row + 1] += f->start[row];
    f->count = f->start[f->rows + 1];
    for (int64_t p = 0; p < f->part_count; p++) {
        const Part *part = f->parts + p;
        for (int64_t i = 0; i < part->size; i++) {
            if (unlikely(f->odd_count) && f->bill_marks[AT(int32_t, f->bill_head, part->bill[i])]) continue;
            wide value = part->value ? part->value[i] : (i128)ONE;
            f->items[f->start[part->row[i] + 1]++] =
                (Item){value, (int32_t)part->cell[i], (int32_t)part->bill[i], (int32_t)p, (int32_t)i};
        }
    } /* Each row's items now stand from start[row] to start[row + 1]. */
    return odd;
}

/* Asks for the memory of items to come: a batch goes through tables far larger than the caches, in no order, and what
   that takes is waiting. First the cell, whose row says which line is next. */
#define ASK(column, row) __builtin_prefetch((column).first + (row) * (column).step, 1)

/* Always inlined: a function that only asks has no effect, and gcc would leave out the call. */
static inline __attribute__((always_inline)) void ask(const Fold *f, int64_t i) {
    if (i + FAR < f->count) {
        int64_t cell = f->items[i + FAR].cell, bill = f->items[i + FAR].bill;
        ASK(f->cell_line, cell);
        ASK(f->cell_number, cell);
        ASK(f->cell_events, cell);
        ASK(f->cell_value, cell);
        ASK(f->cell_at, cell);
        ASK(f->cell_quantity, cell);
        ASK(f->cell_amount, cell);
        ASK(f->cell_rest, cell);
        ASK(f->bill_spend, bill);
        ASK(f->bill_level, bill);
        ASK(f->bill_touched, bill);
    }
    if (i + NEAR < f->count) {
        int64_t line = AT(int32_t, f->cell_line, f->items[i + NEAR].cell);
        ASK(f->line_rate, line);
        ASK(f->line_quantity, line);
        ASK(f->line_gross, line);
        ASK(f->line_rest, line);
        ASK(f->line_amount, line);
        ASK(f->line_events, line);
        ASK(f->line_revision, line);
        ASK(f->line_first, line);
        ASK(f->line_last, line);
        ASK(f->line_through, line);
        __builtin_prefetch(f->line_marks + line, 1);
    }
}

/* Works through the events from `row` to `until` (without). DONE,
or what there is to do at the event at `row`: REACHED,
   it is counted and a period that it is in stands at a level; ODD, nothing of it is counted. */
EXPORT int64_t tx_fold_run(Fold *f) {
    Before before[ITEMS_MAX];
    for (; f->row < f->until; f->row++) {
        int32_t from = f->start[f->row], to = f->start[f->row + 1];
        if (to - from > ITEMS_MAX) return ODD;
        i128 amount_change = f->amount_change;
        int64_t changed = f->changed_count;
        for (int32_t i = from; i < to; i++) {
            ask(f, i);
            if (likely(bring(f, f->items + i, f->row, before + (i - from)))) continue;
            while (i-- > from) put_back(f, before + (i - from));
            while (f->changed_count > changed) f->line_marks[f->changed[--f->changed_count]] = 0;
            f->amount_change = amount_change;
            return ODD;
        }
        for (int32_t i = from; i < to; i++) {
            int64_t head = before[i - from].head;
            if (unlikely(BILL(wide, spend) >= BILL(wide, level))) return REACHED;
        }
    }
    return DONE;
}

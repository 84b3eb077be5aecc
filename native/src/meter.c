/* From the events of a batch to subscriptions, billing periods and totals. Twins: rating/metering.py, rating/cells.py.
 *
 * Everything belongs to the caller; the structures are mirrored there, field by field. */
#include "index.h"

static const int32_t SEVERAL = -2;

typedef struct {
    int64_t rows;                      /* of the batch; so many are the columns of it that follow */
    const uint8_t *fresh;              /* which rows are asked about */
    const int32_t *kind, *customer;    /* -1: no meter's kind */
    const int64_t *time;
    const int32_t *customer_subscription;
    int64_t subscriptions, step;       /* how many there are, and the bytes of a row; of their table are the next two */
    const int32_t *timeline, *calendar;
    const int64_t *first, *start, *plan; /* timelines: where each begins among the entries, and the entries */
    /* What is found: room for `rows` each */
    int64_t *row;
    int32_t *row_kind;
    int64_t *subscription, *row_plan, *since;
    int32_t *row_calendar;             /* -1 where no plan covers the event */
    int64_t *least, *most;             /* for each calendar the times of its events; 2^62 and -2^62 before */
} Pairing;

/* One pair for each event that is asked about: its subscription and the plan in force; -1 where none is. Returns how
 * many, or -1 where a customer has several subscriptions, which this does not handle. */
EXPORT int64_t tx_pair(const Pairing *in) {
    int64_t count = 0;
    for (int64_t row = 0; row < in->rows; row++) {
        if (!in->fresh[row] || in->kind[row] < 0) continue;
        int64_t subscription = in->customer_subscription[in->customer[row]];
        if (unlikely(subscription == SEVERAL)) return -1;
        const int64_t timeline = in->subscriptions ? ROW(in->timeline, in->step, subscription < 0 ? 0 : subscription) : 0;
        const int64_t last = in->first[timeline + 1] - 1, time = in->time[row];
        int64_t entry = in->first[timeline];
        while (entry < last && time >= in->start[entry + 1]) entry++;
        const int64_t plan = subscription >= 0 ? in->plan[entry] : -1;
        if (plan < 0) subscription = -1;
        int32_t calendar = -1;
        if (subscription >= 0) {
            calendar = ROW(in->calendar, in->step, subscription);
            if (time < in->least[calendar]) in->least[calendar] = time;
            if (time > in->most[calendar]) in->most[calendar] = time;
        }
        in->row[count] = row;
        in->row_kind[count] = in->kind[row];
        in->subscription[count] = subscription;
        in->row_plan[count] = plan;
        in->since[count] = in->start[entry];
        in->row_calendar[count++] = calendar;
    }
    return count;
}

typedef struct {
    int64_t count;                         /* pairs; so many are the columns that follow */
    const int64_t *row, *subscription;
    int64_t *since;                        /* becomes the beginning of the segment */
    const int32_t *calendar;
    const int64_t *time;                   /* of the batch */
    const int64_t *starts, *begins;        /* where periods begin, and where each calendar's stand among them */
    const int64_t *ends;                   /* of subscriptions */
    int64_t step;                          /* the bytes of a row of their table */
    const Key *table;                      /* the index of bills */
    int64_t size;
    const uint32_t *values;
    int64_t *start, *end, *bill;           /* what is found; a bill that is not there is -1 */
} Periods;

/* The calendar's period of each pair (noughts where no plan covers it), the segment and its bill. Returns the least end
 * of a period, cut to its subscription's own; 2^62 where there is none. */
EXPORT int64_t tx_periods(const Periods *in) {
    int64_t least = (int64_t)1 << 62, home[AHEAD];
    for (int64_t from = 0; from < in->count; from += AHEAD) {
        const int64_t width = in->count - from < AHEAD ? in->count - from : AHEAD;
        Key keys[AHEAD];
        for (int64_t i = 0; i < width; i++) {
            const int64_t pair = from + i;
            int64_t start = 0, end = 0;
            if (in->calendar[pair] >= 0) {
                const int64_t *starts = in->starts + in->begins[in->calendar[pair]];
                const int64_t time = in->time[in->row[pair]];
                int64_t low = 0, high = in->begins[in->calendar[pair] + 1] - in->begins[in->calendar[pair]] - 2;
                while (low < high) { /* the last start that is not after the time; there is one, and one after it */
                    const int64_t middle = (low + high + 1) / 2;
                    if (starts[middle] <= time) low = middle;
                    else high = middle - 1;
                }
                start = starts[low];
                end = starts[low + 1];
                const int64_t until = ROW(in->ends, in->step, in->subscription[pair]);
                if (end < least) least = end;
                if (until < least) least = until;
            }
            in->start[pair] = start;
            in->end[pair] = end;
            if (in->since[pair] < start) in->since[pair] = start;
            keys[i].low = ((uint64_t)in->subscription[pair] << 1) | 1;
            keys[i].high = (uint64_t)in->since[pair];
            home[i] = home_of(keys[i], in->size);
            __builtin_prefetch(&in->table[home[i]]);
            __builtin_prefetch(&in->values[home[i]]);
        }
        for (int64_t i = 0; i < width; i++) {
            const int64_t pair = from + i;
            const int64_t at = in->calendar[pair] < 0 ? -1 : seek(in->table, in->size, keys[i], home[i]);
            in->bill[pair] = at < 0 ? -1 : (int64_t)in->values[at];
        }
    }
    return least;
}

/* For each row one number for what it has in several coded columns (a code of -1, for absent, counts as the last), and
 * marks in `seen` (noughts before, as long as the product of the sizes) which numbers there are. */
EXPORT void tx_combine(const int64_t *rows, int64_t count, const int32_t *const *columns, const int64_t *sizes,
                       int64_t width, int64_t *code, uint8_t *seen) {
    for (int64_t i = 0; i < count; i++) {
        int64_t found = 0;
        for (int64_t column = 0; column < width; column++) {
            const int32_t own = columns[column][rows[i]];
            found = found * sizes[column] + (own < 0 ? sizes[column] - 1 : own);
        }
        code[i] = found;
        seen[found] = 1;
    }
}

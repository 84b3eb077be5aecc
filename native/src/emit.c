/* Line items as JSON: many lines into one buffer, byte for byte what `rating.items.line_item` and msgspec write.

   Owns: how numbers, times, texts, identities and tiers are written. It keeps nothing: every array is the caller's, and
   all of them are read only but the buffers and `ids`, where the identity of a line stays once it is known.

   Assumes what the engine's tables promise: numbers of rows are in range (-1 where the tables say so), and chains of
   cells end. What it does not write (see `write_line`) it leaves empty, and that line is written by hand. */
#include "blake2b.h"

/* Texts one behind the other: text k is the bytes `end[k]` to `end[k + 1]`. */
typedef struct {
    const uint8_t *bytes;
    const int64_t *end;
} texts;

/* The tables below are rows of int64 (see `rating.emit_native`). */
typedef struct {
    int64_t bound[2]; /* the greatest quantity in it; of a table's last tier without meaning */
    int64_t start[2]; /* what is taken off a quantity to show what of it stands in this tier */
    int64_t before[2]; /* what the tiers below it come to */
    int64_t block[2];
    int64_t by_hand;
} tier_row;

typedef struct {
    int64_t first, last; /* tiers */
    int64_t flags;
    int64_t zero_blocks; /* how many blocks are billed where nothing is used */
} table_row;

typedef struct {
    int64_t table; /* of its first cell */
    int64_t free[2];
    int64_t texts; /* in `rates`: its head; and of each dimension the name, and the name as JSON */
    int64_t names; /* how many dimensions; -1: its lines are written by hand */
    int64_t apart; /* its lines are more than the sum of what their cells cost */
} rate_row;

enum { WHOLE = 1, BLOCKS_DOWN = 2, SILENT = 4, UNIT_BELOW = 8 };
enum { HEAD, MIDDLE, TAIL, END, FULL, TIER_TEXTS };
enum { TENANT_MEMBER, TENANT, BEFORE_OFFSET, DEFAULT_ID }; /* the fixed texts */
enum { KEY_LENGTH = 35, TIME_LENGTH = 27 };

typedef struct {
    /* What is asked for, and where it goes: the JSON, and for each line 35 bytes of key and the end of its JSON. */
    const int64_t *lines;
    int64_t count;
    uint8_t *out;
    int64_t room;
    uint8_t *keys;
    int64_t *ends;
    uint8_t (*ids)[16];
    /* The tables of the state. */
    const int32_t *line_bill, *line_charge, *line_combo, *line_rate, *line_cell;
    const int64_t *line_quantity, *line_amount, *line_events, *line_revision, *line_first, *line_last, *line_through;
    uint8_t *line_written;
    const int32_t *cell_number, *cell_next;
    const int64_t *cell_quantity, *cell_amount;
    const int32_t *bill_subscription, *bill_plan, *bill_head, *bill_next;
    const int64_t *bill_start, *bill_end;
    const int32_t *subscription_customer;
    int64_t line_step, cell_step, bill_step, subscription_step; /* bytes from a row of such a table to the next */
    const int32_t *own; /* of the first subscriptions: the number of the name of its own, -1 for a default one */
    int64_t owns;       /* how many those are; all others are default ones */
    /* What does not change under one catalogue. */
    const rate_row *rate;
    const table_row *table;
    const tier_row *tier;
    const int64_t *combo_first; /* the first value of each combination; a value is "0" (none) or "1" and its text */
    texts fixed;                /* see the numbers above */
    texts customers;
    texts names;                /* of subscriptions that are no default ones: two each, customer and id */
    texts charges, combos, rates;
    texts plans;  /* two each: what stands before the period, and before the tiers */
    texts tables; /* what a quantity of nought shows */
    texts tiers;
} emission;

/* Writing: nothing is written past the end; what did not fit is seen in `full`. ---------------------------------- */

/* A time and its text; of length nought where it has none. */
typedef struct {
    int64_t micros, length;
    uint8_t text[TIME_LENGTH];
} timed;

typedef struct {
    uint8_t *at, *end;
    int full;
    timed start, finish, first, last; /* of the line before: most lines of a batch share their period */
} writer;

static inline void put(writer *to, const void *bytes, int64_t count) {
    if (unlikely(to->end - to->at < count)) {
        to->full = 1;
        return;
    }
    copy(to->at, bytes, count);
    to->at += count;
}

#define PUT(to, literal) put(to, literal, sizeof(literal) - 1)

static inline int64_t length_of(const texts *of, int64_t k) { return of->end[k + 1] - of->end[k]; }

static inline const uint8_t *text_of(const texts *of, int64_t k) { return of->bytes + of->end[k]; }

static inline void put_text(writer *to, const texts *of, int64_t k) { put(to, text_of(of, k), length_of(of, k)); }

/* A text inside its quotes, escaped as msgspec does it. */
static void put_escaped(writer *to, const uint8_t *text, int64_t count) {
    static const char HEX[] = "0123456789abcdef";
    static const char SHORT[32] = {['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'};
    int64_t from = 0;
    for (int64_t at = 0; at < count; at++) {
        const uint8_t c = text[at];
        if (likely(c >= 0x20 && c != '"' && c != '\\')) continue;
        put(to, text + from, at - from);
        from = at + 1;
        if (c >= 0x20) {
            put(to, (char[]){'\\', (char)c}, 2);
        } else if (SHORT[c]) {
            put(to, (char[]){'\\', SHORT[c]}, 2);
        } else {
            put(to, (char[]){'\\', 'u', '0', '0', HEX[c >> 4], HEX[c & 15]}, 6);
        }
    }
    put(to, text + from, count - from);
}

static const char PAIRS[] = "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
                            "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

/* The digits of a number, with noughts before it up to `least` of them; they end at `end`. Returns where they begin. */
static inline uint8_t *digits_before(uint8_t *end, uint64_t number, int least) {
    uint8_t *at = end;
    while (number >= 100) {
        at -= 2;
        memcpy(at, PAIRS + 2 * (number % 100), 2);
        number /= 100;
    }
    if (number >= 10) {
        at -= 2;
        memcpy(at, PAIRS + 2 * number, 2);
    } else if (number || at == end) {
        *--at = (uint8_t)('0' + number);
    }
    while (end - at < least) *--at = '0';
    return at;
}

static void put_u128(writer *to, u128 number) {
    static const uint64_t STEP = 1000000000000000000u; /* 10^18 */
    uint8_t room[40], *end = room + sizeof room, *at = end;
    while (number >> 64 || (uint64_t)number >= STEP) {
        at = digits_before(at, (uint64_t)(number % STEP), 18);
        number /= STEP;
    }
    at = digits_before(at, (uint64_t)number, 1);
    put(to, at, end - at);
}

static void put_int(writer *to, int64_t number) {
    uint8_t room[40], *end = room + sizeof room;
    uint8_t *at = digits_before(end, number < 0 ? -(uint64_t)number : (uint64_t)number, 1);
    if (number < 0) *--at = '-';
    put(to, at, end - at);
}

/* The shortest plain decimal text of a scaled number. */
static void put_scaled(writer *to, i128 scaled) {
    u128 size = (u128)scaled, whole;
    uint64_t fraction;
    if (scaled < 0) {
        PUT(to, "-");
        size = -size;
    }
    if (likely(!(size >> 64))) {
        whole = (uint64_t)size / (uint64_t)ONE;
        fraction = (uint64_t)size % (uint64_t)ONE;
    } else {
        whole = size / (uint64_t)ONE;
        fraction = (uint64_t)(size - whole * (uint64_t)ONE);
    }
    put_u128(to, whole);
    if (!fraction) return;
    uint8_t room[40], *end = room + sizeof room, *at = digits_before(end, fraction, 12) - 1;
    *at = '.';
    while (end[-1] == '0') end--;
    put(to, at, end - at);
}

/* A time is from 0001-01-01 to 9999-12-31. */
static const int64_t DAY = 86400000000, TIME_LEAST = -719162 * 86400000000, TIME_END = 2932897 * 86400000000;

/* ISO 8601 in UTC, as many digits of the second as needed. Returns the length; 0 where there is no text. */
static int64_t format_time(int64_t micros, uint8_t text[TIME_LENGTH]) {
    if (micros < TIME_LEAST || micros >= TIME_END) return 0;
    const int64_t days = (micros - TIME_LEAST) / DAY; /* since the first day of the year 1 */
    const uint32_t within = (uint32_t)((micros - TIME_LEAST) % DAY / 1000000);
    uint32_t fraction = (uint32_t)((micros - TIME_LEAST) % 1000000);
    /* Years that begin in March, in cycles of 400 of them (146,097 days): 0000-03-01 is 306 days before 0001-01-01. */
    const uint32_t shifted = (uint32_t)days + 306, cycle = shifted / 146097, day = shifted % 146097;
    const uint32_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    const uint32_t of_year = day - (365 * year + year / 4 - year / 100), month = (5 * of_year + 2) / 153;
    const uint32_t whole_year = year + 400 * cycle + (month >= 10);
    memcpy(text, "0000-00-00T00:00:00", 19);
    memcpy(text, PAIRS + 2 * (whole_year / 100), 2);
    memcpy(text + 2, PAIRS + 2 * (whole_year % 100), 2);
    memcpy(text + 5, PAIRS + 2 * (month < 10 ? month + 3 : month - 9), 2);
    memcpy(text + 8, PAIRS + 2 * (of_year - (153 * month + 2) / 5 + 1), 2);
    memcpy(text + 11, PAIRS + 2 * (within / 3600), 2);
    memcpy(text + 14, PAIRS + 2 * (within / 60 % 60), 2);
    memcpy(text + 17, PAIRS + 2 * (within % 60), 2);
    int64_t length = 19;
    if (fraction) {
        length = 26;
        text[19] = '.';
        digits_before(text + length, fraction, 6);
        while (text[length - 1] == '0') length--;
    }
    text[length] = 'Z';
    return length + 1;
}

/* The time's text, by way of the one that was written before. Returns whether it has one. */
static inline int keep_time(timed *kept, int64_t micros) {
    if (kept->micros != micros || !kept->length) {
        kept->micros = micros;
        kept->length = format_time(micros, kept->text);
    }
    return kept->length > 0;
}

static inline int put_time(writer *to, timed *kept, int64_t micros) {
    const int found = keep_time(kept, micros);
    put(to, kept->text, kept->length);
    return found;
}

/* Lines ---------------------------------------------------------------------------------------------------------- */

#define LINE(of, name, row) ROW((of)->line_##name, (of)->line_step, row)
#define CELL(of, name, row) ROW((of)->cell_##name, (of)->cell_step, row)
#define BILL(of, name, row) ROW((of)->bill_##name, (of)->bill_step, row)
#define LINE_WIDE(of, name, row) wide(&LINE(of, name, row), 0)
#define CELL_WIDE(of, name, row) wide(&CELL(of, name, row), 0)

static inline i128 wide(const int64_t *of, int64_t row) {
    return (i128)((u128)(uint64_t)of[2 * row + 1] << 64 | (uint64_t)of[2 * row]);
}

static void add_sized(blake2b *to, const uint8_t *bytes, int64_t count) {
    const uint32_t size = (uint32_t)count; /* a text is below 4 GiB */
    blake2b_add(to, (const uint8_t *)&size, 4);
    blake2b_add(to, bytes, (size_t)count);
}

static inline void add_text(blake2b *to, const texts *of, int64_t k) { add_sized(to, text_of(of, k), length_of(of, k)); }

/* The values of a line's dimensions: how many, and the first of them; where there are none, each is absent. A flat
   charge (no `rate`) has no dimensions. */
typedef struct {
    int64_t names, first, absent;
} group;

static group group_of(const emission *of, const rate_row *rate, int64_t combo) {
    if (!rate) return (group){0, 0, 1};
    const int64_t first = of->combo_first[combo], values = of->combo_first[combo + 1] - first;
    return (group){values && values < rate->names ? values : rate->names, first, !values};
}

/* Dimension k: a value's text, its length in `count`; NULL for an absent one. */
static inline const uint8_t *value_of(const emission *of, const group *own, int64_t k, int64_t *count) {
    if (own->absent) return NULL;
    const uint8_t *tagged = text_of(&of->combos, own->first + k);
    *count = length_of(&of->combos, own->first + k) - 1;
    return *tagged == '1' ? tagged + 1 : NULL;
}

/* By which texts a bill's subscription is known. */
typedef struct {
    const texts *customers, *ids;
    int64_t customer, id;
} owner;

static inline owner owner_of(const emission *of, int64_t bill) {
    const int64_t subscription = BILL(of, subscription, bill);
    const int64_t own = subscription < of->owns ? of->own[subscription] : -1;
    if (own >= 0) return (owner){&of->names, &of->names, 2 * own, 2 * own + 1};
    const int64_t customer = ROW(of->subscription_customer, of->subscription_step, subscription);
    return (owner){&of->customers, &of->fixed, customer, DEFAULT_ID};
}

/* What the identity of a line is the hash of: what `schemas.identity.digest` makes of the parts that
   `rating.naming.line_id` names. Returns whether there is one. */
static int hash_name(const emission *of, int64_t line, int64_t bill, const rate_row *rate, timed *start,
                     blake2b *hash) {
    const owner who = owner_of(of, bill);
    const group own = group_of(of, rate, LINE(of, combo, line));
    if (!keep_time(start, BILL(of, start, bill))) return 0;
    blake2b_begin(hash);
    add_text(hash, &of->fixed, TENANT);
    add_text(hash, who.customers, who.customer);
    add_text(hash, who.ids, who.id);
    add_sized(hash, start->text, start->length);
    add_text(hash, &of->charges, LINE(of, charge, line));
    for (int64_t k = 0; k < own.names; k++) {
        int64_t count = 0;
        const uint8_t *value = value_of(of, &own, k, &count);
        add_text(hash, &of->rates, rate->texts + 1 + 2 * k);
        add_sized(hash, (const uint8_t *)(value ? "1" : "0"), 1);
        if (value) add_sized(hash, value, count);
    }
    return 1;
}

/* What is charged, and for which group. */
static void put_group(writer *to, const emission *of, const rate_row *rate, int64_t line) {
    if (!rate) {
        const int64_t charge = LINE(of, charge, line);
        PUT(to, "\"charge\":\"");
        put_escaped(to, text_of(&of->charges, charge), length_of(&of->charges, charge));
        PUT(to, "\",\"meter\":null,\"dimensions\":{");
        return;
    }
    const group own = group_of(of, rate, LINE(of, combo, line));
    put_text(to, &of->rates, rate->texts);
    for (int64_t k = 0; k < own.names; k++) {
        int64_t count = 0;
        const uint8_t *value = value_of(of, &own, k, &count);
        if (k) PUT(to, ",");
        put_text(to, &of->rates, rate->texts + 2 + 2 * k);
        if (value) {
            PUT(to, "\"");
            put_escaped(to, value, count);
            PUT(to, "\"");
        } else {
            PUT(to, "null");
        }
    }
}

/* How many blocks what stands in a tier is billed as. */
static i128 count_blocks(const table_row *table, i128 block, i128 quantity, i128 amount) {
    if (quantity <= 0) return quantity == 0 && amount ? table->zero_blocks : 0;
    return quantity / block + (!(table->flags & BLOCKS_DOWN) && quantity % block);
}

/* What one cell shows, after a comma unless it is the first that shows something. Returns whether it could. */
static int put_cell(writer *to, const emission *of, const rate_row *rate, int64_t cell, int *first) {
    const int64_t number = rate->table + CELL(of, number, cell);
    const table_row *table = &of->table[number];
    i128 quantity = CELL_WIDE(of, quantity, cell);
    if (table->flags & SILENT) return 1;
    if (quantity > 0) {
        quantity -= wide(rate->free, 0);
        if (quantity < 0) quantity = 0;
    }
    if (quantity < 0) return !(table->flags & UNIT_BELOW);
    if (quantity == 0) {
        if (!length_of(&of->tables, number)) return 1;
        if (!*first) PUT(to, ",");
        *first = 0;
        put_text(to, &of->tables, number);
        return 1;
    }
    int64_t at = table->first;
    while (at < table->last && quantity > wide(of->tier[at].bound, 0)) at++;
    const tier_row *tier = &of->tier[at];
    if (tier->by_hand) return 0;
    if (!*first) PUT(to, ",");
    *first = 0;
    if (!(table->flags & WHOLE)) {
        for (int64_t full = table->first; full < at; full++) {
            put_text(to, &of->tiers, TIER_TEXTS * full + FULL);
            PUT(to, ",");
        }
    }
    const i128 inside = quantity - wide(tier->start, 0);
    i128 amount;
    if (__builtin_sub_overflow(CELL_WIDE(of, amount, cell), wide(tier->before, 0), &amount)) return 0;
    put_text(to, &of->tiers, TIER_TEXTS * at + HEAD);
    put_scaled(to, inside);
    put_text(to, &of->tiers, TIER_TEXTS * at + MIDDLE);
    put_scaled(to, amount);
    put_text(to, &of->tiers, TIER_TEXTS * at + TAIL);
    const i128 block = wide(tier->block, 0);
    if (block > 0) {
        put_u128(to, (u128)count_blocks(table, block, inside, amount));
        put_text(to, &of->tiers, TIER_TEXTS * at + END);
    }
    return 1;
}

/* The tiers of a line: those of its cells, in the order of the price book. Returns whether it could. */
static int put_tiers(writer *to, const emission *of, const rate_row *rate, int64_t line) {
    if (!rate) {
        PUT(to, "{\"from\":\"0\",\"quantity\":\"1\",\"unit_amount\":\"0\",\"flat_amount\":\"");
        put_scaled(to, LINE_WIDE(of, amount, line));
        PUT(to, "\",\"amount\":\"");
        put_scaled(to, LINE_WIDE(of, amount, line));
        PUT(to, "\"}");
        return 1;
    }
    int first = 1;
    for (int64_t cell = LINE(of, cell, line); cell >= 0; cell = CELL(of, next, cell)) {
        if (!put_cell(to, of, rate, cell, &first)) return 0;
    }
    return 1;
}

/* Whether a line is none of: under no plan; of a rate that is not simply the sum of what its cells cost; in a segment of
   a period that has several; priced by usage of which there is none. */
static int is_plain(const emission *of, int64_t line, int64_t bill, const rate_row *rate) {
    if (BILL(of, plan, bill) < 0) return 0;
    if (!rate) return 1;
    return rate->names >= 0 && BILL(of, head, bill) == bill && BILL(of, next, bill) < 0 && LINE(of, events, line) > 0;
}

static inline const rate_row *rate_of(const emission *of, int64_t line) {
    return LINE(of, rate, line) < 0 ? NULL : &of->rate[LINE(of, rate, line)];
}

static inline int is_known(const uint8_t id[16]) {
    static const uint8_t UNKNOWN[16];
    return memcmp(id, UNKNOWN, 16) != 0;
}

/* One line. Returns 0, whatever it has written by then, for one that is to be written by hand: one that is not plain, a
   total below nought that costs something, a tier whose bounds do not fit, a time that has no text. */
static int write_line(writer *to, const emission *of, int64_t line, uint8_t key[KEY_LENGTH]) {
    static const char HEX[] = "0123456789abcdef";
    const int64_t bill = LINE(of, bill, line), plan = BILL(of, plan, bill);
    const owner who = owner_of(of, bill);
    const rate_row *rate = rate_of(of, line);
    const uint8_t *id = of->ids[line];
    if (!is_plain(of, line, bill, rate) || !is_known(id)) return 0;
    memcpy(key, "li_", 3);
    for (int at = 0; at < 16; at++) {
        key[3 + 2 * at] = (uint8_t)HEX[id[at] >> 4];
        key[4 + 2 * at] = (uint8_t)HEX[id[at] & 15];
    }
    PUT(to, "{\"id\":\"");
    put(to, key, KEY_LENGTH);
    PUT(to, "\",\"revision\":");
    put_int(to, LINE(of, revision, line));
    PUT(to, ",");
    put_text(to, &of->fixed, TENANT_MEMBER);
    PUT(to, "\"customer\":\"");
    put_escaped(to, text_of(who.customers, who.customer), length_of(who.customers, who.customer));
    PUT(to, "\",\"subscription\":\"");
    put_escaped(to, text_of(who.ids, who.id), length_of(who.ids, who.id));
    PUT(to, "\",");
    put_group(to, of, rate, line);
    put_text(to, &of->plans, 2 * plan);
    int has_times = put_time(to, &to->start, BILL(of, start, bill));
    PUT(to, "\",\"end\":\"");
    has_times &= put_time(to, &to->finish, BILL(of, end, bill));
    PUT(to, "\"},\"quantity\":\"");
    put_scaled(to, LINE_WIDE(of, quantity, line));
    PUT(to, "\",\"amount\":\"");
    put_scaled(to, LINE_WIDE(of, amount, line));
    put_text(to, &of->plans, 2 * plan + 1);
    if (!put_tiers(to, of, rate, line)) return 0;
    PUT(to, "],\"events\":");
    put_int(to, LINE(of, events, line));
    if (LINE(of, events, line)) {
        PUT(to, ",\"first_event\":\"");
        has_times &= put_time(to, &to->first, LINE(of, first, line));
        PUT(to, "\",\"last_event\":\"");
        const int64_t last = LINE(of, last, line);
        has_times &= put_time(to, last == to->first.micros ? &to->first : &to->last, last);
        PUT(to, "\"");
    } else {
        PUT(to, ",\"first_event\":null,\"last_event\":null");
    }
    if (LINE(of, through, line) < 0) {
        PUT(to, ",\"through\":null}");
    } else {
        put_text(to, &of->fixed, BEFORE_OFFSET);
        put_int(to, LINE(of, through, line));
        PUT(to, "}}");
    }
    return has_times;
}

/* Choosing: what there is to say -------------------------------------------------------------------------------- */

/* Whether a line is simply the sum of what its cells cost, in a segment that is its whole period. */
static inline int is_sum(const emission *of, int64_t line) {
    const int64_t rate = LINE(of, rate, line), bill = LINE(of, bill, line);
    if (rate < 0 || of->rate[rate].apart || LINE(of, events, line) == 0) return 0;
    return BILL(of, head, bill) == bill && BILL(of, next, bill) < 0;
}

/* Those of `lines` that have something to say: a nought one only where it takes an earlier one back. They count as
   written from now on. First come those that are the sum of their cells, then all others, each in the order of `lines`.
   `chosen`, `aside`: room for all of them. Returns how many there are. */
EXPORT int64_t tx_choose_lines(const emission *of, int64_t *chosen, int64_t *aside) {
    int64_t sums = 0, others = 0;
    for (int64_t at = 0; at < of->count; at++) {
        const int64_t line = of->lines[at];
        if (at + 16 < of->count) {
            const int64_t next = of->lines[at + 16];
            __builtin_prefetch(&LINE(of, quantity, next));
            __builtin_prefetch(&LINE(of, events, next));
            __builtin_prefetch(&LINE(of, written, next), 1);
        }
        if (at + 8 < of->count) __builtin_prefetch(&BILL(of, head, LINE(of, bill, of->lines[at + 8])));
        const int nought = LINE_WIDE(of, quantity, line) == 0 && LINE_WIDE(of, amount, line) == 0;
        if (nought && LINE(of, written, line) != 1) continue;
        LINE(of, written, line) = 1;
        if (is_sum(of, line)) chosen[sums++] = line;
        else aside[others++] = line;
    }
    memcpy(chosen + sums, aside, (size_t)others * sizeof *aside);
    return sums + others;
}

/* The rows of a line lie far from each other in memory: they are sent for before they are needed, in strides, each of
   what the one before it has brought. (Inlined by force: gcc drops the call of a function that only does this.) */
enum { STRIDE = 2 };

__attribute__((always_inline)) static inline void send_for(const emission *of, int64_t at) {
#define SEND(place) __builtin_prefetch(&(place))
    if (at + 5 * STRIDE < of->count) {
        const int64_t line = of->lines[at + 5 * STRIDE];
        SEND(LINE(of, quantity, line)), SEND(LINE(of, events, line)), SEND(LINE(of, bill, line));
        SEND(of->ids[line]);
    }
    if (at + 4 * STRIDE < of->count) {
        const int64_t line = of->lines[at + 4 * STRIDE], cell = LINE(of, cell, line);
        SEND(BILL(of, start, LINE(of, bill, line))), SEND(BILL(of, subscription, LINE(of, bill, line)));
        SEND(of->combo_first[LINE(of, combo, line)]);
        if (cell >= 0) SEND(CELL(of, quantity, cell)), SEND(CELL(of, next, cell));
    }
    if (at + 3 * STRIDE < of->count) {
        const int64_t line = of->lines[at + 3 * STRIDE], cell = LINE(of, cell, line);
        const int64_t next = cell < 0 ? -1 : CELL(of, next, cell);
        SEND(ROW(of->subscription_customer, of->subscription_step, BILL(of, subscription, LINE(of, bill, line))));
        SEND(of->combos.end[of->combo_first[LINE(of, combo, line)]]);
        if (next >= 0) SEND(CELL(of, quantity, next)), SEND(CELL(of, next, next));
    }
    if (at + 2 * STRIDE < of->count) {
        const int64_t line = of->lines[at + 2 * STRIDE];
        const owner who = owner_of(of, LINE(of, bill, line));
        SEND(who.customers->end[who.customer]);
        SEND(of->combos.bytes[of->combos.end[of->combo_first[LINE(of, combo, line)]]]);
    }
    if (at + STRIDE < of->count) {
        const owner who = owner_of(of, LINE(of, bill, of->lines[at + STRIDE]));
        SEND(*text_of(who.customers, who.customer));
    }
#undef SEND
}

/* The identities of the lines `[from, end)` that are not known yet; of a line that has none, or is not plain, nothing.
   What is read here, and when the lines are written, is sent for on the way. */
static void make_ids(const emission *of, int64_t from, int64_t end, timed *start) {
    blake2b hashes[BLAKE2B_LANES];
    uint8_t *ids[BLAKE2B_LANES];
    int waiting = 0;
    for (int64_t at = from; at < end; at++) {
        send_for(of, at);
        const int64_t line = of->lines[at], bill = LINE(of, bill, line);
        const rate_row *rate = rate_of(of, line);
        if (is_known(of->ids[line]) || !is_plain(of, line, bill, rate)) continue;
        if (!hash_name(of, line, bill, rate, start, &hashes[waiting])) continue;
        ids[waiting++] = of->ids[line];
        if (waiting == BLAKE2B_LANES) {
            blake2b_end_all(hashes, ids);
            waiting = 0;
        }
    }
    for (int lane = 0; lane < waiting; lane++) blake2b_end(&hashes[lane], ids[lane]);
}

/* Writes the lines one after the other until the buffer is full. Returns how many are done; one that is to be written by
   hand has an empty text. */
EXPORT int64_t tx_write_lines(const emission *of) {
    enum { AT_ONCE = 32 };
    writer to = {.at = of->out, .end = of->out + of->room};
    timed start = {0};
    for (int64_t at = 0; at < of->count; at++) {
        if (at % AT_ONCE == 0) make_ids(of, at, at + AT_ONCE < of->count ? at + AT_ONCE : of->count, &start);
        uint8_t *const begun = to.at;
        const int done = write_line(&to, of, of->lines[at], of->keys + KEY_LENGTH * at);
        if (to.full) return at;
        if (!done) to.at = begun;
        of->ends[at] = to.at - of->out;
    }
    return of->count;
}

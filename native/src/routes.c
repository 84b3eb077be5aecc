/* Which route each row's subject has. The twin is the dictionary of `ingest.route.Router.routes`.
 *
 * The table is the caller's: routes stand one behind the other, and `slots` says which of them has a subject of that
 * hash. A route whose partition is NOWHERE says that its subject has none.
 */
#include "codes.h"

#define NOWHERE (-1)
#define UNKNOWN (-2)

/* A row of `ingest.route.RouteTable`, which `tx_route` reads too. */
typedef struct {
    span subject;
    span customer;
    int64_t partition;
} route;

typedef struct {
    const route *routes;
    int32_t *slots; /* -1, or the number of a route; a power of two of them, more than there are routes */
    int64_t mask;
    uint64_t seed;
} routes;

/* Makes the routes `[start, end)` findable. No subject may be there already. */
EXPORT void tx_add_routes(const routes *table, int64_t start, int64_t end) {
    for (int64_t number = start; number < end; number++) {
        uint64_t at = hash_of(table->routes[number].subject, table->seed) & (uint64_t)table->mask;
        while (table->slots[at] >= 0) at = (at + 1) & (uint64_t)table->mask;
        table->slots[at] = (int32_t)number;
    }
}

static int32_t find(const routes *table, span subject) {
    for (uint64_t at = hash_of(subject, table->seed) & (uint64_t)table->mask;; at = (at + 1) & (uint64_t)table->mask) {
        int32_t number = table->slots[at];
        if (number < 0) return UNKNOWN;
        const route *one = table->routes + number;
        if (same(one->subject, subject)) return one->partition == NOWHERE ? NOWHERE : number;
    }
}

/* The number of each row's route to `found`: NOWHERE where its subject has none, UNKNOWN where the table does not know
 * it. Gives the least of them. */
EXPORT int64_t tx_find_routes(const event *rows, int64_t count, const routes *table, int32_t *found) {
    int32_t least = INT32_MAX;
    for (int64_t i = 0; i < count; i++) {
        found[i] = i && same(rows[i].subject, rows[i - 1].subject) ? found[i - 1] : find(table, rows[i].subject);
        if (found[i] < least) least = found[i];
    }
    return least;
}

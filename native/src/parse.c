/* Bodies of requests -> rows of events. The twin is the rest of `ingest.parse`.
 *
 * Takes events that are beyond doubt: each attribute known or a plain extension, no escape where a text is kept, no
 * name twice, nothing out of bounds. Every other event of a text whose borders are clear is marked as *odd* (its id is
 * absent, its data the event's whole text), and the twin reads that one. A text whose borders are not clear is not read
 * at all. Everything is checked that the twin checks; where this is stricter (very many names in one object, times of
 * rare shapes), the twin has the last word.
 */
#include "json.h"
#include "times.h"

enum { TEXT_MAX, DATA_MAX, DEPTH_MAX, NAMES_MAX, EXTENSIONS_MAX, EXTENSIONS_SIZE_MAX, YEAR_MIN, YEAR_MAX };
enum { ARRAY, TEXTS, LINES };

#define DEPTH_ROOM 64     /* levels that are read at all: recursion ends there */
#define NAMES_ROOM 512    /* names of all objects that are open at once */
#define OBJECT_ROOM 128   /* names of one object: each is compared to those before it */
#define EXTENSIONS_ROOM 64

typedef struct {
    span text;
    uint64_t lead;
} kept_name;

typedef struct {
    const uint8_t *end;
    int64_t depth, depth_max; /* levels open, and allowed */
    int64_t names, names_max; /* names seen, and allowed */
    int distinct;             /* whether a name may stand only once in its object, and may have no escape */
    int64_t open;             /* names of the objects that are open */
    kept_name held[NAMES_ROOM];
} scan;

static void begin(scan *s, const uint8_t *end, int64_t depth_max, int64_t names_max, int distinct) {
    s->end = end;
    s->depth = s->names = s->open = 0; /* what is held needs no nought: only what is open is read */
    s->depth_max = depth_max;
    s->names_max = names_max;
    s->distinct = distinct;
}

static const uint8_t *skip_value(scan *s, const uint8_t *p);

/* Notes a name of the object whose names begin at `base`; nought where it stands there already, or there is no room. */
static int add_name(scan *s, int64_t base, span text) {
    if (s->open == NAMES_ROOM || s->open - base == OBJECT_ROOM) return 0;
    uint64_t lead = lead_of(text);
    for (int64_t i = base; i < s->open; i++)
        if (s->held[i].lead == lead && same(s->held[i].text, text)) return 0;
    s->held[s->open++] = (kept_name){text, lead};
    return 1;
}

static const uint8_t *skip_object(scan *s, const uint8_t *p) {
    const uint8_t *end = s->end;
    int64_t base = s->open;
    p = skip_white(p + 1, end);
    if (p < end && *p == '}') return p + 1;
    for (;;) {
        span text;
        int plain = 1;
        p = skip_name(p, end, &text, &plain);
        if (p == NULL || ++s->names > s->names_max) return NULL;
        if (s->distinct && (!plain || !add_name(s, base, text))) return NULL;
        p = skip_value(s, p);
        if (p == NULL) return NULL;
        p = skip_white(p, end);
        if (p >= end) return NULL;
        if (*p == '}') {
            s->open = base;
            return p + 1;
        }
        if (*p != ',') return NULL;
        p = skip_white(p + 1, end);
    }
}

static const uint8_t *skip_array(scan *s, const uint8_t *p) {
    const uint8_t *end = s->end;
    p = skip_white(p + 1, end);
    if (p < end && *p == ']') return p + 1;
    for (;;) {
        p = skip_value(s, p);
        if (p == NULL) return NULL;
        p = skip_white(p, end);
        if (p >= end) return NULL;
        if (*p == ']') return p + 1;
        if (*p != ',') return NULL;
        p = skip_white(p + 1, end);
    }
}

/* A value of any kind; NULL where it is no JSON, or is beyond what the scan allows. */
static const uint8_t *skip_value(scan *s, const uint8_t *p) {
    if (p >= s->end) return NULL;
    if (*p != '{' && *p != '[') return skip_scalar(p, s->end);
    if (++s->depth > s->depth_max) return NULL;
    p = *p == '{' ? skip_object(s, p) : skip_array(s, p);
    s->depth--;
    return p;
}

/* Events ------------------------------------------------------------------------------------------ */

enum { ID = 1, SOURCE = 2, TYPE = 4, SUBJECT = 8, VERSION = 16, TIME = 32, CONTENT_TYPE = 64, DATA = 128 };
#define REQUIRED (ID | SOURCE | TYPE | SUBJECT | VERSION)

static int is(span text, const char *word) {
    return text.size == (int64_t)strlen(word) && memcmp(text.at, word, (size_t)text.size) == 0;
}

/* Which attribute a name is; nought for an extension, -1 for what is left to the twin. */
static int attribute(span name) {
    switch (name.size) {
    case 2: return is(name, "id") ? ID : 0;
    case 4: return is(name, "type") ? TYPE : is(name, "time") ? TIME : is(name, "data") ? DATA : 0;
    case 6: return is(name, "source") ? SOURCE : 0;
    case 7: return is(name, "subject") ? SUBJECT : 0;
    case 10: return is(name, "dataschema") ? -1 : 0;
    case 11: return is(name, "specversion") ? VERSION : is(name, "data_base64") ? -1 : 0;
    case 15: return is(name, "datacontenttype") ? CONTENT_TYPE : 0;
    default: return 0;
    }
}

/* Whether a (valid) text has at least one and at most `limit` characters, and no control character. */
static int is_attribute(span text, int64_t limit) {
    int64_t characters = 0, i = 0;
    if (text.size == 0 || text.size > 4 * limit) return 0;
    for (; i + 8 <= text.size; i += 8) {
        uint64_t word = load64(text.at + i), delete = word ^ (ONES * 0x7f);
        if ((word | ((delete - ONES) & ~delete)) & HIGHS) break;
    }
    for (characters = i; i < text.size; i++) {
        uint8_t c = text.at[i];
        if (c == 0x7f || (c == 0xc2 && text.at[i + 1] < 0xa0)) return 0; /* valid UTF-8: a lead byte has its next */
        characters += (c & 0xc0) != 0x80;
    }
    return characters <= limit;
}

typedef struct {
    span name, value;
} extension;

static int is_extension(span name) {
    if (name.size < 1 || name.size > 20) return 0;
    for (int64_t i = 0; i < name.size; i++)
        if (!is_digit(name.at[i]) && (name.at[i] < 'a' || name.at[i] > 'z')) return 0;
    return 1;
}

/* Puts an extension in its place by name; nought where the name stands there already, or there is no room. */
static int add_extension(extension *found, int64_t *count, extension one) {
    if (*count == EXTENSIONS_ROOM) return 0;
    int64_t at = *count;
    for (; at > 0; at--) {
        span other = found[at - 1].name;
        int order = memcmp(one.name.at, other.at, (size_t)(one.name.size < other.size ? one.name.size : other.size));
        if (order == 0 && one.name.size == other.size) return 0;
        if (order > 0 || (order == 0 && one.name.size > other.size)) break;
        found[at] = found[at - 1];
    }
    found[at] = one;
    ++*count;
    return 1;
}

/* Writes the extensions as a JSON object: never longer than where they stood. Null is the same as absent. */
static int64_t write_extensions(const extension *found, int64_t count, int64_t count_max, uint8_t *to) {
    uint8_t *at = to;
    int64_t written = 0;
    for (int64_t i = 0; i < count; i++) {
        span name = found[i].name, value = found[i].value;
        if (value.at[0] == 'n') continue;
        *at++ = written++ ? ',' : '{';
        *at++ = '"';
        memcpy(at, name.at, (size_t)name.size);
        at += name.size;
        *at++ = '"';
        *at++ = ':';
        memcpy(at, value.at, (size_t)value.size);
        at += value.size;
    }
    if (written > count_max) return -1;
    if (written) *at++ = '}';
    return at - to;
}

static const uint8_t EMPTY[] = "{}";

/* The event at p; NULL where it is not plain. `side`: where its extensions are written, moved behind them. */
static const uint8_t *read_event(const uint8_t *p, const uint8_t *end, const int64_t *limits, event *to, uint8_t **side) {
    scan s;
    begin(&s, end, limits[DEPTH_MAX], limits[NAMES_MAX], 1);
    extension extensions[EXTENSIONS_ROOM];
    int64_t count = 0;
    int seen = 0;
    if (p >= end || *p != '{') return NULL;
    to->time = to->extensions = (span){NULL, 0};
    to->data = (span){EMPTY, 2};
    to->micros = ABSENT;
    p = skip_white(p + 1, end);
    for (;;) {
        span name, value;
        int plain = 1;
        p = skip_name(p, end, &name, &plain);
        if (p == NULL || !plain || p >= end) return NULL;
        int known = attribute(name);
        if (known < 0 || (seen & known)) return NULL;
        seen |= known;
        const uint8_t *first = p;
        if (known == DATA) {
            if (*p != '{') return NULL;
            p = skip_value(&s, p);
            if (p == NULL || p - first > limits[DATA_MAX]) return NULL;
            to->data = (span){first, p - first};
        } else if (*p == '"') {
            p = skip_string(p, end, &plain);
            if (p == NULL || !plain) return NULL;
            value = (span){first + 1, p - first - 2};
            switch (known) {
            case ID: to->id = value; break;
            case SOURCE: to->source = value; break;
            case TYPE: to->type = value; break;
            case SUBJECT: to->subject = value; break;
            case TIME:
                if (!read_time(value, limits[YEAR_MIN], limits[YEAR_MAX], &to->micros)) return NULL;
                to->time = value;
                break;
            case VERSION:
                if (!is(value, "1.0")) return NULL;
                break;
            case CONTENT_TYPE:
                if (!is(value, "application/json")) return NULL;
                break;
            default:
                if (!is_extension(name) || !add_extension(extensions, &count, (extension){name, {first, p - first}}))
                    return NULL;
            }
            if ((known & (ID | SOURCE | TYPE | SUBJECT)) && !is_attribute(value, limits[TEXT_MAX])) return NULL;
        } else {
            if (known != 0 || *p == '{' || *p == '[' || !is_extension(name)) return NULL;
            p = skip_scalar(p, end);
            if (p == NULL || !add_extension(extensions, &count, (extension){name, {first, p - first}})) return NULL;
        }
        p = skip_white(p, end);
        if (p >= end) return NULL;
        if (*p == '}') break;
        if (*p != ',') return NULL;
        p = skip_white(p + 1, end);
    }
    if ((seen & REQUIRED) != REQUIRED) return NULL;
    if (count) {
        int64_t size = write_extensions(extensions, count, limits[EXTENSIONS_MAX], *side);
        if (size < 0 || size > limits[EXTENSIONS_SIZE_MAX]) return NULL;
        if (size) to->extensions = (span){*side, size};
        *side += size;
    }
    return p + 1;
}

/* An event that is a text of its own, with white space around it at most; else an odd one. */
static void read_alone(span text, const int64_t *limits, event *to, uint8_t **side) {
    const uint8_t *end = text.at + text.size, *p = read_event(skip_white(text.at, end), end, limits, to, side);
    if (p != NULL && skip_white(p, end) == end) return;
    to->id = (span){NULL, 0};
    to->data = text;
}

static int64_t read_array(span text, const int64_t *limits, event *rows, int64_t room, uint8_t *side) {
    const uint8_t *end = text.at + text.size, *p = skip_white(text.at, end);
    int64_t count = 0;
    if (p >= end || *p != '[') return -1;
    p = skip_white(p + 1, end);
    if (p < end && *p == ']') return skip_white(p + 1, end) == end ? 0 : -1;
    for (;;) {
        if (count == room) return -1;
        event *to = rows + count;
        const uint8_t *next = read_event(p, end, limits, to, &side);
        if (next == NULL) {
            scan any;
            begin(&any, end, DEPTH_ROOM, INT64_MAX, 0);
            next = skip_value(&any, p);
            if (next == NULL) return -1;
            to->id = (span){NULL, 0};
            to->data = (span){p, next - p};
        }
        to->position = count++;
        p = skip_white(next, end);
        if (p >= end) return -1;
        if (*p == ']') return skip_white(p + 1, end) == end ? count : -1;
        if (*p != ',') return -1;
        p = skip_white(p + 1, end);
    }
}

/* Each of `count` texts, which stand one behind the other with one byte between. */
static int64_t read_texts(span text, const int64_t *sizes, int64_t count, const int64_t *limits, event *rows,
                          uint8_t *side) {
    const uint8_t *at = text.at;
    for (int64_t i = 0; i < count; i++) {
        read_alone((span){at, sizes[i]}, limits, rows + i, &side);
        rows[i].position = i;
        at += sizes[i] + 1;
    }
    return count;
}

static int64_t read_lines(span text, const int64_t *limits, event *rows, int64_t room, int64_t *lines,
                          uint8_t *side) {
    const uint8_t *at = text.at, *end = at + text.size; /* `at` ends one behind the end: there stands a nought */
    int64_t count = 0;
    for (int64_t line = 1; at < end; line++) {
        const uint8_t *stop = memchr(at, '\n', (size_t)(end - at)), *last = stop == NULL ? end : stop;
        const uint8_t *first = skip_white(at, last);
        at = last + 1;
        if (first == last) continue;
        while (last[-1] == ' ' || last[-1] == '\r' || last[-1] == '\t') last--;
        if (count == room) return -1;
        read_alone((span){first, last - first}, limits, rows + count, &side);
        rows[count].position = count;
        lines[count++] = line;
    }
    return count;
}

/* Reads a body into `rows`, which has `room`; gives how many events there are, or -1 where the twin must read it all.
 *
 * `form`: an array; texts, whose `sizes` are given for `room` of them; or lines, whose numbers go to `sizes`.
 * `side`: as many bytes as the text has, where extensions are written.
 */
EXPORT int64_t tx_parse(const uint8_t *text, int64_t size, int64_t form, int64_t *sizes, event *rows, int64_t room,
                        uint8_t *side, const int64_t *limits) {
    span whole = {text, size};
    if (limits[DEPTH_MAX] > DEPTH_ROOM) return -1;
    if (form == ARRAY) return read_array(whole, limits, rows, room, side);
    if (form == TEXTS) return read_texts(whole, sizes, room, limits, rows, side);
    return read_lines(whole, limits, rows, room, sizes, side);
}

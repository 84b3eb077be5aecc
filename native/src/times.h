/* Times as texts -> microseconds since 1970-01-01T00:00:00Z. The twin is `schemas.times.parse_time`, which also reads
 * rarer shapes. */
#pragma once
#include "json.h"

static inline int64_t two(const uint8_t *p) { return (p[0] - '0') * 10 + (p[1] - '0'); }

/* Days from 1970-01-01 to a day of the proleptic Gregorian calendar, `year` above nought. */
static inline int64_t days_to(int64_t year, int64_t month, int64_t day) {
    year -= month <= 2;
    int64_t era = year / 400, of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* Microseconds of YYYY-MM-DDThh:mm:ss[.d to .ddddddddd](Z|+hh:mm|-hh:mm), and 1 where it is a time of 1970 or later. */
static inline int read_time(span text, int64_t year_min, int64_t year_max, int64_t *micros) {
    static const char shape[] = "dddd-dd-ddTdd:dd:dd";
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const uint8_t *p = text.at, *end = p + text.size;
    if (text.size < 20) return 0;
    for (int i = 0; i < 19; i++)
        if (shape[i] == 'd' ? !is_digit(p[i]) : p[i] != shape[i]) return 0;
    int64_t year = two(p) * 100 + two(p + 2), month = two(p + 5), day = two(p + 8);
    int64_t hour = two(p + 11), minute = two(p + 14), second = two(p + 17);
    if (year < year_min || year > year_max || month < 1 || month > 12) return 0;
    int leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (day < 1 || day > days[month - 1] + (month == 2 && leap)) return 0;
    if (hour > 23 || minute > 59 || second > 59) return 0;
    int64_t fraction = 0;
    p += 19;
    if (*p == '.') {
        int digits = 0;
        for (p++; p < end && is_digit(*p); p++, digits++)
            if (digits < 6) fraction = fraction * 10 + (*p - '0');
        if (digits < 1 || digits > 9) return 0;
        for (; digits < 6; digits++) fraction *= 10;
    }
    int64_t offset = 0;
    if (end - p == 6 && (*p == '+' || *p == '-')) {
        if (!is_digit(p[1]) || !is_digit(p[2]) || p[3] != ':' || !is_digit(p[4]) || !is_digit(p[5])) return 0;
        if (two(p + 1) > 23 || two(p + 4) > 59) return 0;
        offset = (two(p + 1) * 60 + two(p + 4)) * (*p == '-' ? 60 : -60);
    } else if (end - p != 1 || *p != 'Z') {
        return 0;
    }
    *micros = (((days_to(year, month, day) * 24 + hour) * 60 + minute) * 60 + second + offset) * 1000000 + fraction;
    return *micros >= 0;
}

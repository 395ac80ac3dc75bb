/* log_lines.c : see log_lines.h. */
#include "log_lines.h"

static bool separates(uint8_t c) { return c <= ' ' || strchr(",:;=()[]{}<>\"'|/", c) != NULL; }

/* The line text[at..end) with parameters taken out, appended to dst and ended; its parameters to l->word. */
static taut_status make_template(log_lines *l, const uint8_t *text, size_t at, size_t end, taut_bytes *dst, uint32_t *n)
{
    static const uint8_t mark = LOG_PARAMETER, newline = '\n';
    *n = 0;
    while (at < end) {
        size_t stop = at;
        bool   digit = false;
        while (stop < end && !separates(text[stop])) digit |= text[stop] >= '0' && text[stop] <= '9', stop++;
        if (digit) {
            log_word w = {(uint32_t)at, (uint32_t)(stop - at)};
            TAUT_TRY(taut__bytes_add(&l->word, &w, sizeof w));
            TAUT_TRY(taut__bytes_add(dst, &mark, 1));
            ++*n;
        } else {
            TAUT_TRY(taut__bytes_add(dst, text + at, stop - at));
        }
        for (at = stop; at < end && separates(text[at]); at++) TAUT_TRY(taut__bytes_add(dst, text + at, 1));
    }
    return taut__bytes_add(dst, &newline, 1);
}

static uint32_t hash_of(const uint8_t *p, size_t n)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 16777619u;
    return h;
}

static uint32_t place_of(const log_lines *l, uint32_t t) { return taut__get32(l->place.p + 4 * (size_t)t); }

static taut_status grow(log_lines *l)
{
    uint32_t  size = l->table_size ? 2 * l->table_size : 256;
    uint32_t *table = taut__alloc(size, sizeof *table);
    if (!table) return taut__fail(TAUT_E_NOMEM, "log: no memory for %u templates", size);
    for (uint32_t t = 0; t < l->count; t++) {
        const uint8_t *p = l->templates.p + place_of(l, t);
        const uint8_t *end = memchr(p, '\n', l->templates.n - place_of(l, t));
        uint32_t       h = hash_of(p, (size_t)(end - p) + 1);
        while (table[h & (size - 1)]) h++;
        table[h & (size - 1)] = t + 1;
    }
    taut__free(l->table);
    l->table = table;
    l->table_size = size;
    return TAUT_OK;
}

/* The number of the template that was just appended at `at`; it is taken away again if it was known. */
static taut_status find(log_lines *l, uint32_t at, uint32_t *number)
{
    const uint8_t *p;
    size_t         n = l->templates.n - at;
    uint32_t       h, t;
    uint8_t        place[4];
    if (2 * (l->count + 1) > l->table_size) TAUT_TRY(grow(l));
    p = l->templates.p + at;
    for (h = hash_of(p, n); (t = l->table[h & (l->table_size - 1)]) != 0; h++) {
        uint32_t other = place_of(l, t - 1);
        if (other + n <= at && memcmp(l->templates.p + other, p, n) == 0) {
            l->templates.n = at;
            *number = t - 1;
            return TAUT_OK;
        }
    }
    taut__put32(place, at);
    TAUT_TRY(taut__bytes_add(&l->place, place, 4));
    l->table[h & (l->table_size - 1)] = ++l->count;
    *number = l->count - 1;
    return TAUT_OK;
}

taut_status log_parse(log_lines *l, const uint8_t *text, size_t n)
{
    for (size_t at = 0; at < n; l->lines++) {
        const uint8_t *end = memchr(text + at, '\n', n - at);
        log_line       line = {.first = (uint32_t)(l->word.n / sizeof(log_word))};
        uint32_t       begin = (uint32_t)l->templates.n;
        TAUT_TRY(make_template(l, text, at, (size_t)(end - text), &l->templates, &line.n));
        TAUT_TRY(find(l, begin, &line.template));
        TAUT_TRY(taut__bytes_add(&l->line, &line, sizeof line));
        at = (size_t)(end - text) + 1;
    }
    return TAUT_OK;
}

void log_free(log_lines *l)
{
    taut__bytes_free(&l->templates);
    taut__bytes_free(&l->line);
    taut__bytes_free(&l->word);
    taut__bytes_free(&l->place);
    taut__free(l->table);
    *l = (log_lines){0};
}

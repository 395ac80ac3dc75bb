/* log_lines.h : lines of a log as templates and parameters (Liu, Zhu, He, He, Zheng and Lyu, "Logzip: extracting hidden
 * structures via iterative clustering for log compression", ASE 2019; here the structure comes from the text alone: a word
 * that holds a digit is a parameter). */
#ifndef TAUT_LOG_LINES_H
#define TAUT_LOG_LINES_H

#include "../shard/bytes.h"

enum { LOG_PARAMETER = 1 }; /* the byte that stands for a parameter in a template; no log may hold it */

typedef struct log_word { /* a parameter: where it lies in the text */
    uint32_t at, len;
} log_word;

typedef struct log_line {
    uint32_t template, first, n; /* number of its template; its parameters: word[first .. first+n) */
} log_line;

typedef struct log_lines {
    taut_bytes templates;    /* each ends with a newline */
    taut_bytes line, word;   /* arrays of log_line and log_word */
    taut_bytes place;        /* u32 per template: where it begins in templates */
    uint32_t   lines, count; /* count: of templates */
    uint32_t  *table;        /* hash table of templates: number + 1 */
    uint32_t   table_size;
} log_lines;

taut_status log_parse(log_lines *l, const uint8_t *text, size_t n); /* text ends with a newline; no byte 0 or 1 in it */
void        log_free(log_lines *l);

static inline const log_line *log_line_at(const log_lines *l, size_t i)
{
    return (const log_line *)(const void *)l->line.p + i;
}
static inline const log_word *log_word_at(const log_lines *l, size_t i)
{
    return (const log_word *)(const void *)l->word.p + i;
}

#endif

/* words.h : the tokens of a sample as 64-bit hashes, for methods that count them.
 *  text, bytes, files : words, that is runs of letters, digits, _ and bytes above 127, with A-Z made small, and runs of the other
 *                       visible characters (the word and punctuation pattern that DSIR uses); white space parts them
 *  tokens, integers   : the numbers themselves */
#ifndef TAUT_WORDS_H
#define TAUT_WORDS_H

#include "../../../comm/base/base.h"
#include "pool.h"

typedef struct taut__words {
    const uint8_t *at, *end;
    size_t         width; /* bytes of a number; 0: text */
} taut__words;

static inline taut__words taut__words_of(const taut__pool *p, const uint8_t *data, size_t bytes)
{
    bool numbers = p->kind == TAUT_KIND_TOKENS || p->kind == TAUT_KIND_INT || p->kind == TAUT_KIND_LABEL;
    return (taut__words){data, data + bytes, numbers ? taut_type_bytes(p->type) : 0};
}

static inline int taut__word_class(uint8_t c) /* 0: white space, 1: word, 2: other */
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c >= 128) return 1;
    return c <= ' ' || c == 127 ? 0 : 2;
}

/* The next token; false at the end. */
static inline bool taut__word_next(taut__words *w, uint64_t *hash)
{
    uint64_t h = 0x9e3779b97f4a7c15u;
    int class;
    if (w->width) {
        if ((size_t)(w->end - w->at) < w->width) return false;
        for (size_t i = 0; i < w->width; i++) h = (h ^ *w->at++) * 0x100000001b3u;
        *hash = taut__mix64(h);
        return true;
    }
    while (w->at < w->end && taut__word_class(*w->at) == 0) w->at++;
    if (w->at == w->end) return false;
    class = taut__word_class(*w->at);
    for (; w->at < w->end && taut__word_class(*w->at) == class; w->at++) {
        uint8_t c = *w->at;
        h = (h ^ (c >= 'A' && c <= 'Z' ? (uint8_t)(c | 32) : c)) * 0x100000001b3u;
    }
    *hash = taut__mix64(h);
    return true;
}

#endif

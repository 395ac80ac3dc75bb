/* frame.h : what `taut top` shows, as lines of text for a screen of given size. */
#ifndef TAUT_TOP_FRAME_H
#define TAUT_TOP_FRAME_H

#include "../report/run_log.h"

enum { FRAME_WIDTH_MIN = 20, FRAME_WIDTH_MAX = 400 };

typedef struct frame_look {
    int    width, height; /* columns, lines; everything is cut to them */
    bool   color;         /* ANSI colours */
    bool   blocks;        /* UTF-8 blocks; else ASCII */
    double quiet_s;       /* since the log last grew; NaN: unknown */
} frame_look;

/* The frame, `height` lines at most, each ended by \n: for free(). NULL: out of memory. */
char *frame_text(const run_log *r, const frame_look *look);

#endif

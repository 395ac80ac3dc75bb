/* settings.h : the settings of a communicator: taut_config, overridden by TAUT_* of the environment. One table (settings.c)
 * holds names, ranges, defaults and help; it fills taut__settings, and answers taut_setting_get(). */
#ifndef TAUT_CONFIG_H
#define TAUT_CONFIG_H

#include "../../compressors/codec.h"

enum { TAUT_TEXTS = 16, TAUT_TEXT = 256 };

/* Words of the settings, in the order in which settings.c lists them. Objective and metric: scheduler/budget.h. */
enum { TAUT_FEEDBACK_AUTO, TAUT_FEEDBACK_ON, TAUT_FEEDBACK_OFF, TAUT_FEEDBACK_MOMENTUM };
enum { TAUT_HIERARCHY_AUTO, TAUT_HIERARCHY_ON, TAUT_HIERARCHY_OFF };
enum { TAUT_DROPPED_CLEAR, TAUT_DROPPED_RESTORE };
enum { TAUT_DELIVERY_PLAIN, TAUT_DELIVERY_ASSURED };
enum { TAUT_CHECKSUM_ON, TAUT_CHECKSUM_OFF };
enum { TAUT_ALGORITHM_AUTO, TAUT_ALGORITHM_NATIVE, TAUT_ALGORITHM_SRA, TAUT_ALGORITHM_RING, TAUT_ALGORITHM_GATHER };

typedef struct taut__settings {
    taut_config c;               /* every field filled in and checked; strings point into text: never copy the struct */
    const char *metrics;         /* path of a file of metrics; "": none */
    uint32_t    metrics_seconds; /* between two of it */
    int32_t     fake_hosts;      /* tests: so many consecutive ranks count as one host; 0 = ask the system */
    const char *data_link;       /* core/data_lines.c */
    const char *faults;          /* tests: what happens to messages (transport/faulty.c) */
    taut_spec   spec;            /* c.codec */
    int32_t objective, metric, feedback, algorithm, hierarchy, dropped, checksum, delivery; /* enums of texts of c */
    char    text[TAUT_TEXTS][TAUT_TEXT];
} taut__settings;

taut_status taut__settings_load(const taut_config *cfg, taut__settings *s); /* cfg NULL: all defaults */

/* What all ranks must have alike, as lines "TAUT_SEED=1", for comparing: line i, i < taut__settings_lines(). Returns dst. */
size_t      taut__settings_lines(void);
const char *taut__settings_line(const taut__settings *s, size_t i, char *dst, size_t cap);

/* TAUT_E_INVALID if feedback was asked for around a codec that is no contraction (codec.h, expands): residuals would grow for ever. */
taut_status taut__settings_feedback(const taut__settings *s, const taut_spec *spec);
/* Does feedback bring back what this spec, given or planned, leaves over? */
bool taut__settings_feeds(const taut__settings *s, const taut_spec *spec);

#endif

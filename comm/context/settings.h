/* settings.h : the settings of a communicator: taut_config, overridden by TAUT_* of the environment. One table (settings.c)
 * holds names, ranges, defaults and help; it fills taut__settings, and answers taut_setting_get(). */
#ifndef TAUT_CONFIG_H
#define TAUT_CONFIG_H

#include "../../compressors/codec.h"

enum { TAUT_TEXTS = 9, TAUT_TEXT = 256 };

typedef struct taut__settings {
    taut_config c;              /* every field filled in and checked; strings point into text: never copy the struct */
    int32_t     fake_hosts;     /* tests: so many consecutive ranks count as one host; 0 = ask the system */
    taut_spec   spec;           /* c.codec */
    char        text[TAUT_TEXTS][TAUT_TEXT];
} taut__settings;

taut_status taut__settings_load(const taut_config *cfg, taut__settings *s); /* cfg NULL: all defaults */

#endif

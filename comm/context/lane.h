/* lane.h : opening and closing of lanes (context.h). */
#ifndef TAUT_LANE_H
#define TAUT_LANE_H

#include "context.h"

void taut__lane_close(taut__lane *lane); /* its work is done; one that was never opened is fine */

#endif

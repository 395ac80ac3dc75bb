/* repeats_report.h : the repeat audit of `taut data info --repeats`. */
#ifndef TAUT_REPEATS_REPORT_H
#define TAUT_REPEATS_REPORT_H

#include "../../compressors/dataset/repeats.h"

/* Opens the shards, audits them together, prints; json: and an object. An exit code. */
int repeats_report(size_t n, char **path, taut__repeats_config *config, bool json);

#endif

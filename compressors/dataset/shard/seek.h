/* seek.h : the seek table at the end of a shard, for foreign readers of zstd's seekable format. Ours do not use it. */
#ifndef TAUT_SEEK_H
#define TAUT_SEEK_H

#include "layout.h"

/* The table is what the frames of the file and the index say it must be. TAUT_E_CORRUPT otherwise. */
taut_status taut__seek_check(const taut_shard *s);

#endif

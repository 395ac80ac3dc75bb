/* export.h : shards to formats of others. A format is one table; export.c reads the samples of all shards in order, and hands one after the
 * other to it. Files appear complete or not at all (shard/output.h). */
#ifndef TAUT_DATASET_EXPORT_H
#define TAUT_DATASET_EXPORT_H

#include "../../../comm/base/base.h"
#include "../../../comm/taut_data.h"
#include "../shard/output.h"

typedef enum taut__file_kind { TAUT__FILES_ANY, TAUT__FILES_JPEG, TAUT__FILES_PNG } taut__file_kind;

typedef struct taut__export {
    const char                *path;
    const taut_export_options *options;
    const taut_shard *const   *shard;
    size_t                     shards, fields;
    taut_field                 field[64]; /* of all shards alike */
    taut__file_kind            files[64]; /* of kind file: what all of them are */
    uint32_t                  *number;    /* of field f in shard s: number[f * shards + s] */
    uint64_t                   samples;
} taut__export;

typedef struct taut__exporter {
    const char *name, *help;
    taut_status (*open)(const taut__export *e,
                        void              **state); /* *state is closed also after a failure, if it is not NULL */
    taut_status (*sample)(void *state, uint64_t number, const uint8_t *const *data, const size_t *bytes);
    taut_status (*finish)(void *state);
    void (*close)(void *state); /* what was not finished is removed */
} taut__exporter;

extern const taut__exporter taut__export_mds, taut__export_tar, taut__export_npy;

/* taut__path_join() : "folder/name"; taut__free() it. NULL: out of memory. */
char *taut__path_join(const char *folder, const char *name);
/* A folder that is there, or is made. */
taut_status taut__make_folder(const char *path);

/* The header of a .npy of `type`: with `samples` as the first axis, or for one sample (samples UINT64_MAX) of n elements where the
 * field is variable. */
taut_status taut__npy_write_head(const taut_field *f, uint64_t samples, uint64_t n, taut_bytes *out);

#endif

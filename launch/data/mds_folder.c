/* mds_folder.c : see mds_folder.h. index.json: {"version": 2, "shards": [{"format": "mds", "raw_data": {"basename", "bytes"}, "zip_data":
 * null or the like, ...}]} (mosaicml-streaming, streaming/base/format/index.py). */
#include "mds_folder.h"
#include "../cli.h"
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int take_shard(const char *folder, const char *index, size_t i, json_t *shard, char ***files, size_t *n)
{
    json_t *format = json_object_get(shard, "format"), *raw = json_object_get(shard, "raw_data"),
           *name = json_object_get(raw, "basename"), *zip = json_object_get(shard, "zip_data");
    struct stat st;
    char      **more, *path;
    size_t      room;
    if (!json_is_string(format) || strcmp(json_string_value(format), "mds") != 0)
        return cli_fail("%s: shard %zu: format '%s': must be mds", index, i,
                        json_is_string(format) ? json_string_value(format) : "?");
    if (!json_is_string(name) || strchr(json_string_value(name), '/'))
        return cli_fail("%s: shard %zu: no basename of its raw_data", index, i);
    room = strlen(folder) + strlen(json_string_value(name)) + 2;
    path = malloc(room);
    more = realloc(*files, (*n + 1) * sizeof *more);
    if (more) *files = more;
    if (!more || !path) {
        free(path);
        return cli_fail("out of memory");
    }
    snprintf(path, room, "%s%s%s", folder, folder[strlen(folder) - 1] == '/' ? "" : "/", json_string_value(name));
    (*files)[(*n)++] = path;
    if (stat(path, &st) == 0) return CLI_OK;
    if (json_is_object(zip))
        return cli_fail("%s: shard %zu is compressed (%s), so samples cannot be reached without the ones before: "
                        "decompress it to %s first, or write it without compression",
                        index, i, json_string_value(json_object_get(zip, "basename")), json_string_value(name));
    return cli_fail("%s: shard %zu: %s: %s", index, i, path, strerror(errno));
}

int mds_folder_list(const char *folder, char ***files, size_t *n)
{
    size_t       room = strlen(folder) + 16, before = *n, i;
    char        *path = malloc(room);
    json_error_t why;
    json_t      *o, *shards, *shard;
    int          rc = CLI_OK;
    if (!path) return cli_fail("out of memory");
    snprintf(path, room, "%s/index.json", folder);
    o = json_load_file(path, 0, &why);
    if (!o)
        rc = cli_fail("%s: a folder can be indexed if it is a data set of Mosaic Streaming: index.json: %s", folder,
                      why.text);
    shards = json_object_get(o, "shards");
    if (rc == CLI_OK && json_integer_value(json_object_get(o, "version")) != 2)
        rc =
            cli_fail("%s: version %lld: must be 2", path, (long long)json_integer_value(json_object_get(o, "version")));
    if (rc == CLI_OK && !json_is_array(shards)) rc = cli_fail("%s: no list of shards", path);
    json_array_foreach(shards, i, shard) if (rc == CLI_OK) rc = take_shard(folder, path, i, shard, files, n);
    if (rc == CLI_OK && *n == before) rc = cli_fail("%s: no shards in it", path);
    json_decref(o);
    free(path);
    return rc;
}

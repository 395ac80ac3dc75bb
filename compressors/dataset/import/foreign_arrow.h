/* foreign_arrow.h : Arrow's columnar format as files and streams hold it (arrow.apache.org/docs/format/Columnar.html, "Serialization and
 * Interprocess Communication"; format/Schema.fbs, Message.fbs, File.fbs). foreign_arrow_schema.c: which columns there are;
 * foreign_arrow_batch.c: where their values lie in a batch; foreign_arrow.c: the messages. */
#ifndef TAUT_FOREIGN_ARROW_H
#define TAUT_FOREIGN_ARROW_H

#include "foreign_flatbuffer.h"
#include "formats.h"

enum { TAUT__ARROW_NODES = 1024, TAUT__ARROW_COLUMNS = 64 };

/* Type of Schema.fbs */
enum {
    ARROW_NULL = 1,
    ARROW_INT = 2,
    ARROW_FLOAT = 3,
    ARROW_BINARY = 4,
    ARROW_UTF8 = 5,
    ARROW_BOOL = 6,
    ARROW_DECIMAL = 7,
    ARROW_DATE = 8,
    ARROW_TIME = 9,
    ARROW_TIMESTAMP = 10,
    ARROW_INTERVAL = 11,
    ARROW_LIST = 12,
    ARROW_STRUCT = 13,
    ARROW_FIXED_BINARY = 15,
    ARROW_FIXED_LIST = 16,
    ARROW_MAP = 17,
    ARROW_DURATION = 18,
    ARROW_LARGE_BINARY = 19,
    ARROW_LARGE_UTF8 = 20,
    ARROW_LARGE_LIST = 21
};

typedef struct taut__arrow_node { /* a field of the schema, depth first */
    int       type;
    taut_type element;       /* of ints, floats */
    bool      known;         /* element is one that we have */
    uint32_t  width;         /* bytes of fixed binaries, elements of fixed lists */
    size_t    children, end; /* end: the node behind this one's last descendant */
    bool      encoded;       /* by a dictionary: */
    int64_t   dictionary;
    taut_type index;
} taut__arrow_node;

typedef struct taut__arrow_entry { /* a value of a dictionary */
    uint64_t at, bytes;
    uint32_t buffer;
} taut__arrow_entry;

typedef struct taut__arrow_dictionary {
    int64_t    id;
    size_t     node;
    taut_bytes entries; /* taut__arrow_entry */
    unsigned   times;   /* batches of it so far */
} taut__arrow_dictionary;

typedef struct taut__arrow_column {
    char   name[128];
    size_t node, field;
    bool   wanted, label; /* label: of a dictionary: its indices are the classes */
} taut__arrow_column;

typedef struct taut__arrow {
    taut__import          *im;
    taut__source          *s;
    taut__arrow_node       node[TAUT__ARROW_NODES];
    size_t                 nodes;
    taut__arrow_column     column[TAUT__ARROW_COLUMNS];
    size_t                 columns;
    taut__arrow_dictionary dictionary[TAUT__ARROW_COLUMNS];
    size_t                 dictionaries;
    uint32_t               whole; /* buffer number of the file */
    uint64_t               batches;
    taut_bytes             unpacked[2]; /* of compressed offsets and indices */
} taut__arrow;

/* Schema message -> nodes, columns, fields of the import. */
taut_status             taut__arrow_schema(taut__arrow *a, const taut__fb *schema);
taut__arrow_dictionary *taut__arrow_find(taut__arrow *a, int64_t id);

/* body: offset of the message's body in the file, body_bytes of it. */
taut_status taut__arrow_record_batch(taut__arrow *a, const taut__fb *batch, uint64_t body, uint64_t body_bytes);
taut_status taut__arrow_dictionary_batch(taut__arrow *a, const taut__fb *batch, uint64_t body, uint64_t body_bytes);

#endif

/* import.h : from files that people have to the samples of a shard. A format is one table: it describes the fields (which
 * may take a first pass over the input), then feeds one sample after the other. Every function that can fail has printed a
 * message that names file and line (cli.h) and returns an exit code; CLI_OK is success. */
#ifndef TAUT_IMPORT_H
#define TAUT_IMPORT_H

#include "../../comm/taut_data.h"
#include "../cli.h"
#include <stdio.h>

enum { IMPORT_FIELDS = 64 };

/* Bytes that are read at a time: of lines, by zlib, of text. */
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION /* so few that lines and characters end elsewhere, and nothing large is allocated per input */
enum { LINES_CHUNK = 61, GZIP_CHUNK = 256, TEXT_CHUNK = 101 };
#else
enum { LINES_CHUNK = 1 << 16, GZIP_CHUNK = 1 << 18, TEXT_CHUNK = 1 << 20 };
#endif

typedef struct import_options {
    const char *format;    /* name of a format; NULL: by the look of the first input */
    const char *split;     /* text: "windows", "lines", "documents"; NULL: windows of a file, documents of a folder */
    const char *separator; /* text: documents end with this; NULL: a document is a file. \n and \t are understood */
    uint64_t    window;    /* text: bytes of a window */
    const char *label;     /* jsonl, csv: this field holds the classes */
    cli_list    select;    /* jsonl, csv: only these fields; empty: all */
    const char *delimiter; /* csv: one character */
    bool        bytes;     /* text: any bytes, no check for UTF-8 */
    bool        float64;   /* jsonl, csv: decimal numbers stay float64; else float32 */
} import_options;

typedef struct import import;
typedef struct import_format {
    const char *name, *help;
    bool (*knows)(const char *path); /* looks like one of these */
    int (*describe)(import *im);     /* fills field[0..fields), labels */
    int (*feed)(import *im);         /* calls im->sink once per sample */
    void (*close)(import *im);       /* releases im->state */
} import_format;

struct import {
    const import_options *options;
    const import_format  *format;
    char                **input;
    int                   inputs;
    taut_field            field[IMPORT_FIELDS];
    size_t                fields;
    char                 *labels; /* names of classes, a line each; NULL = none. free() */
    int (*sink)(void *ctx, const void *const *data, const size_t *bytes);
    void        *ctx;
    void        *state; /* of the format */
    cli_progress line;  /* of a first pass */
};

/* Chooses the format, describes. `im` has options, input and inputs set, the rest zero. */
int  import_open(import *im);
int  import_feed(import *im);
void import_close(import *im);

extern const import_format import_text, import_jsonl, import_csv, import_idx, import_npy, import_files;

/* ---- for formats ---- */

/* A buffer that grows; free(b.p). */
typedef struct import_buffer {
    char  *p;
    size_t n, cap;
} import_buffer;
int  import_reserve(import_buffer *b, size_t more); /* CLI_FAILED: out of memory */
int  import_append(import_buffer *b, const void *src, size_t n);
bool import_ends_with(const char *text, const char *tail); /* without regard to case; also TAIL.gz */

/* A file, plain or gzip, as a stream of bytes. */
typedef struct import_stream {
    struct gzFile_s *f;
    const char      *path;
    uint64_t         line; /* of the last line read, from 1 */
    size_t           at, filled;
    char             chunk[LINES_CHUNK]; /* of stream_line */
} import_stream;
int  stream_open(import_stream *s, const char *path); /* an empty file is an error */
void stream_close(import_stream *s);
/* up to cap bytes; *n = 0 at the end */
int stream_read(import_stream *s, void *dst, size_t cap, size_t *n);
/* appends one line with its newline to b; *got = false at the end */
int stream_line(import_stream *s, import_buffer *b, bool *got);

/* For formats that go through their input twice: CLI_FAILED, naming what cannot be (a pipe). */
int import_twice(const import *im);

/* Regular files below `path` (or path itself), sorted by name; free each and the list. */
int  list_files(const char *path, char ***files, size_t *n);
void list_free(char **files, size_t n);

/* Columns of numbers and texts: their types, from all that was seen. */
typedef struct column {
    char     name[TAUT_FIELD_NAME];
    bool     text, real, array; /* at least one value was */
    bool     whole;             /* at least one whole number */
    uint64_t shortest, longest; /* elements of arrays */
    int64_t  low, high;         /* of whole numbers */
    bool     label;
    bool     huge; /* at least one whole number beyond 64 bits */
    /* the first number beyond float32, and where it stands; wide_path NULL: none */
    double      wide;
    const char *wide_path;
    uint64_t    wide_line;
} column;
void column_whole(column *c, int64_t v);
void column_real(column *c, double v, const char *path, uint64_t line);
void column_huge(column *c, double v, const char *path,
                 uint64_t line); /* digits: a decimal number where others are, else a text */
void column_length(column *c, uint64_t n);
/* Is the number v (whole), or one that is not whole, among those that the first pass saw? Files change while they are read. */
bool column_holds(const column *c, bool is_whole, int64_t v);
/* The field of a column; `im` has those of the columns before. Columns whose names differ only in what fields cannot be called are an error. */
int column_field(import *im, const column *c, const char *path);
/* v as an element of this type */
void put_number(void *dst, taut_type t, double real, int64_t whole, bool is_whole);

/* Class names: sorted, numbered. */
typedef struct classes {
    char    **name;
    size_t    n;
    uint32_t *slot; /* numbers + 1 by the hash of the name; 0: none */
    size_t    slots;
} classes;
enum { CLASSES_MAX = 65536 };
bool   classes_full(const classes *c, const char *name);         /* there is no room, and this is none of them */
int    classes_note(classes *c, const char *name, size_t bytes); /* before sorting */
int    classes_close(classes *c, char **labels);                 /* sorts, numbers; labels: one per line */
size_t classes_find(const classes *c, const char *name);         /* c->n: there is none */
void   classes_free(classes *c);

#endif

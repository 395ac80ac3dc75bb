/* cli.h : command lines. One table per subcommand parses, validates and prints --help.
 * Depends on libc and taut.h's taut_last_error() only, so that every program in launch/ can use it. */
#ifndef TAUT_CLI_H
#define TAUT_CLI_H

#include "../comm/taut.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 }; /* exit codes */
enum { CLI_RUN = -1 };                              /* cli_parse: go on */

enum { CLI_LIST_MAX = 64 };
typedef struct cli_list { /* value of an option that may be repeated */
    const char *item[CLI_LIST_MAX];
    size_t      n;
} cli_list;

typedef struct cli_range { /* "64K:64M": from..to, each `factor` times the last; "64K": that one */
    uint64_t from, to, factor;
} cli_range;

/* What an option's value is, and what cli_option.value points to. */
typedef enum cli_kind {
    CLI_FLAG,  /* bool: given or not; takes no value */
    CLI_INT,   /* int64_t in min..max */
    CLI_REAL,  /* double in min..max */
    CLI_SIZE,  /* uint64_t in min..max; K, M, G are powers of 1024 */
    CLI_RANGE, /* cli_range in min..max, FROM:TO[:FACTOR] */
    CLI_TEXT,  /* const char *, never empty */
    CLI_LIST,  /* cli_list of such texts, one per use */
    CLI_WORD   /* const char *, one of `words` */
} cli_kind;

/* cli_option : the default is what *value holds before cli_parse(); --help prints it. Tables end with name NULL. */
typedef struct cli_option {
    const char *name;    /* "codec", typed --codec VALUE or --codec=VALUE; one letter: "o", typed -o VALUE */
    const char *metavar; /* "SPEC"; NULL for a flag */
    cli_kind    kind;
    void       *value;
    const char *help;
    double      min, max; /* of numbers; both 0 = any that is not negative */
    const char *words;    /* CLI_WORD: "time|bytes" */
} cli_option;
#define CLI_JSON(ptr)                                                                                                  \
    {                                                                                                                  \
        "json", NULL, CLI_FLAG, (ptr), "last line of stdout is one JSON object", 0, 0, NULL                            \
    }
#define CLI_END                                                                                                        \
    {                                                                                                                  \
        NULL, NULL, CLI_FLAG, NULL, NULL, 0, 0, NULL                                                                   \
    }

typedef struct cli_command {
    const char       *name;     /* "taut bench codec" */
    const char       *operands; /* "IN.f32 OUT.taut"; "" = none */
    const char       *summary;  /* one line */
    const char       *details;  /* (optional) printed after the options: examples, meaning of fields */
    const cli_option *options;
    int               min_operands, max_operands;
} cli_command;

/* cli_parse() : reads argv[1..argc). Operands are moved to argv[0..*operands). Returns CLI_RUN, or the exit code:
 *  CLI_OK after --help, CLI_USAGE after a message that names the bad value and the allowed ones. */
int cli_parse(const cli_command *cmd, int argc, char **argv, int *operands);

/* cli_speak() : whether this process prints messages, help and progress; of many ranks only one should. On at start. */
void cli_speak(bool on);

/* Messages on stderr, "taut bench codec: ...", after cli_parse() has set the name. All return an exit code. */
int cli_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));  /* CLI_FAILED */
int cli_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* CLI_USAGE, points to --help */
/* These two add taut_last_error(): for what went wrong, and for a value that the library refuses. */
int cli_status(taut_status s, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* CLI_FAILED */
int cli_bad(taut_status s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));    /* CLI_USAGE */

#ifdef __clang_analyzer__ /* which does not see what they return */
#define cli_fail(...)      ((void)(cli_fail)(__VA_ARGS__), (int)CLI_FAILED)
#define cli_usage(...)     ((void)(cli_usage)(__VA_ARGS__), (int)CLI_USAGE)
#define cli_status(s, ...) ((void)(cli_status)(s, __VA_ARGS__), (int)CLI_FAILED)
#define cli_bad(s, ...)    ((void)(cli_bad)(s, __VA_ARGS__), (int)CLI_USAGE)
#endif

/* cli_nearest() : the word of `words` (n of them) that `text` most likely meant; NULL if none is close. */
const char *cli_nearest(const char *text, const char *const *words, size_t n);

/* For the start of long work. cli_writable() : a file of this name can be made: its folder is there and may be written to, it is no folder itself.
 *  cli_replaceable() : the same for one that a rename puts there, which would take the place of a device or a pipe. cli_unwritable(), cli_unreplaceable() : why
 *  not; NULL: it can. cli_apart() : it is none of the n files that are read, by any name. cli_apart_lists() : nor one of those that are joined
 *  by commas in each of n lists, NULL among them for none; path may be NULL. option: in front of messages. cli_lies_in() : is this the folder, by any
 *  name, in which the file lies or would lie? */
const char *cli_unwritable(const char *path);
const char *cli_unreplaceable(const char *path);
int         cli_writable(const char *option, const char *path);
int         cli_replaceable(const char *option, const char *path);
int         cli_apart(const char *option, const char *path, size_t n, char *const *input);
int         cli_apart_lists(const char *option, const char *path, size_t n, const char *const *list);
bool        cli_lies_in(const char *path, const char *folder);

/* One number with an optional K, M, G; false if it is not that. For tests and for operands. */
bool cli_size(const char *text, uint64_t *value);

/* Progress line on stderr: only on a terminal, only after two seconds, at most five times a second. Zero-initialise. */
typedef struct cli_progress {
    double start, last;
    bool   shown;
} cli_progress;
void cli_progress_show(cli_progress *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void cli_progress_end(cli_progress *p); /* clears the line */

/* cli_begin() : before any file is opened: standard streams that are closed get a place that refuses, so that no file takes
 *  their numbers and what is printed. */
void cli_begin(void);

/* cli_end() : what main() returns: `code`, or CLI_FAILED after a message where something that was printed did not arrive,
 *  on a full disk or a closed pipe. */
int cli_end(int code);

/* cli_leave() : the same for programs that load libtorch; in a release build it does not come back, and nothing is unloaded. */
int cli_leave(int code);

/* cli_threads() : the first number of OMP_NUM_THREADS ("4,2" asks 4 of the outermost loops), `otherwise` where it is not set,
 *  0 where it is no number, INT_MAX where it is one beyond that. */
int cli_threads(int otherwise);

/* cli_device() : the number of the CUDA device that this rank takes of those that it sees: ranks of one host take them in turn, as mpirun and srun number
 * ranks there; where each sees its own alone (srun --gpus-per-task=1), that is 0. -1: nobody says which rank of the host this is. */
int cli_device(void);

double cli_now(void); /* monotonic seconds */

#endif

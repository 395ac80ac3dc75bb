/* nccl_table.h : the functions of NCCL that are used, as one table: found with dlopen when they are first asked for, so that the library loads
 * where NCCL is not. What is declared here is written down from NCCL's documented interface, of which these parts have not changed since
 * 2.10: results, numbers and operations are ints, communicators are opaque. */
#ifndef TAUT_NCCL_TABLE_H
#define TAUT_NCCL_TABLE_H

#include "../base/base.h"

typedef struct ncclComm *taut__nccl_comm;
struct CUstream_st;

enum { TAUT__NCCL_OK = 0, TAUT__NCCL_IN_PROGRESS = 7 };
enum {
    TAUT__NCCL_I8 = 0,
    TAUT__NCCL_I32 = 2,
    TAUT__NCCL_U32 = 3,
    TAUT__NCCL_F16 = 6,
    TAUT__NCCL_F32 = 7,
    TAUT__NCCL_F64 = 8,
    TAUT__NCCL_BF16 = 9
};
enum { TAUT__NCCL_SUM = 0, TAUT__NCCL_AVG = 4 };
enum { TAUT__NCCL_LEAST = 21400 }; /* 2.14: communicators that do not block */

typedef struct taut__nccl_id {
    char bytes[128];
} taut__nccl_id; /* passed by value */

/* Settings of a communicator as of 2.14, of which `blocking` is the only one: size and version tell later ones that theirs are missing. */
typedef struct taut__nccl_config {
    size_t       size;
    unsigned int magic, version;
    int          blocking;
} taut__nccl_config;
enum { TAUT__NCCL_CONFIG_MAGIC = (int)0xcafebeef, TAUT__NCCL_CONFIG_VERSION = 21400 };

typedef struct taut__nccl {
    int (*version)(int *v);
    const char *(*error_text)(int result);
    const char *(*last_error)(taut__nccl_comm comm); /* NULL: not there */
    int (*unique_id)(taut__nccl_id *id);
    int (*init)(taut__nccl_comm *comm, int ranks, taut__nccl_id id, int rank, taut__nccl_config *config);
    int (*destroy)(taut__nccl_comm comm);
    int (*abort)(taut__nccl_comm comm);
    int (*async_error)(taut__nccl_comm comm, int *result);
    int (*count)(taut__nccl_comm comm, int *n);
    int (*device)(taut__nccl_comm comm, int *n);
    int (*rank)(taut__nccl_comm comm, int *n);
    int (*group_start)(void);
    int (*group_end)(void);
    int (*send)(const void *buf, size_t n, int type, int peer, taut__nccl_comm comm, struct CUstream_st *stream);
    int (*recv)(void *buf, size_t n, int type, int peer, taut__nccl_comm comm, struct CUstream_st *stream);
    int (*all_reduce)(const void *from, void *to, size_t n, int type, int op, taut__nccl_comm comm,
                      struct CUstream_st *stream);
    int (*all_gather)(const void *from, void *to, size_t n, int type, taut__nccl_comm comm, struct CUstream_st *stream);
    int (*all_to_all)(const void *from, void *to, size_t n, int type, taut__nccl_comm comm,
                      struct CUstream_st *stream); /* NULL: before 2.28 */
} taut__nccl;

/* The table; NULL with *why (static text, or of this process for good) where NCCL cannot be used: not found, too old, a function missing.
 * The library's name is TAUT_NCCL_LIBRARY, else libnccl.so.2; looked up once. */
const taut__nccl *taut__nccl_get(const char **why);
int               taut__nccl_version(void); /* of the table in use, as 22809; 0: none */
/* Tests: another table; NULL: what dlopen finds. Not while one is used. */
void taut__nccl_use(const taut__nccl *table);
bool taut__nccl_is_given(void);
/* All functions that a handle of dlopen, or RTLD_NEXT, has; NULL for others. */
void taut__nccl_fill(void *handle, taut__nccl *table);
/* Opens `name` now, whatever was opened before: what taut__nccl_get does the first time. */
taut_status taut__nccl_open(const char *name, taut__nccl *table, int *version);

taut_status taut__nccl_failed(const taut__nccl *n, taut__nccl_comm comm, int result,
                              const char *call); /* TAUT_E_TRANSPORT, with NCCL's words */

#endif

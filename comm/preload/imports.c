/* imports.c : see imports.h. */
#include "imports.h"
#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

bool taut__reduces_behind_a_request(const char *name)
{
    return strcasestr(name, "mpi") && (strcasestr(name, "iallreduce") || strcasestr(name, "allreduce_init"));
}

/* Theirs define what a program imports, and import it from each other. */
static bool of_an_mpi(const char *path)
{
    static const char *const prefix[] = {"libmpi", "libpmpi", "libfmpi", "libopen-", "libtaut", "mca_"};
    const char              *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    for (size_t i = 0; i < sizeof prefix / sizeof *prefix; i++)
        if (strncmp(name, prefix[i], strlen(prefix[i])) == 0) return true;
    return false;
}

typedef struct tables {
    const ElfW(Sym) * symbol;
    const char *text;
    size_t      symbols; /* at least all that are imported */
} tables;

static const void *pointer(const struct dl_phdr_info *o, ElfW(Addr) at) /* most systems have relocated it */
{
    return (const void *)(at < o->dlpi_addr ? at + o->dlpi_addr : at);
}

static tables tables_of(const struct dl_phdr_info *o)
{
    const ElfW(Dyn) *d = NULL;
    const uint32_t *hash = NULL, *gnu = NULL;
    tables          t = {0};
    for (int i = 0; i < o->dlpi_phnum; i++)
        if (o->dlpi_phdr[i].p_type == PT_DYNAMIC) d = (const ElfW(Dyn) *)(o->dlpi_addr + o->dlpi_phdr[i].p_vaddr);
    for (; d && d->d_tag != DT_NULL; d++) {
        const void *p = pointer(o, d->d_un.d_ptr);
        if (d->d_tag == DT_SYMTAB) t.symbol = p;
        if (d->d_tag == DT_STRTAB) t.text = p;
        if (d->d_tag == DT_HASH) hash = p;
        if (d->d_tag == DT_GNU_HASH) gnu = p;
    }
    /* chains of DT_HASH: all symbols; before the first one hashed by DT_GNU_HASH: those that others define */
    t.symbols = hash ? hash[1] : gnu ? gnu[1] : 0;
    if (!t.text) t.symbol = NULL;
    return t;
}

typedef struct question {
    bool (*wanted)(const char *);
    bool found;
} question;

static int look(struct dl_phdr_info *o, size_t size, void *arg)
{
    question *q = arg;
    (void)size;
    if (of_an_mpi(o->dlpi_name) || strncmp(o->dlpi_name, "linux-", 6) == 0) return 0; /* the latter: of the kernel */
    tables t = tables_of(o);
    for (size_t i = 1; t.symbol && i < t.symbols && !q->found; i++)
        q->found = t.symbol[i].st_shndx == SHN_UNDEF && q->wanted(t.text + t.symbol[i].st_name);
    return q->found;
}

bool taut__program_imports(bool (*wanted)(const char *name))
{
    question q = {wanted, false};
    dl_iterate_phdr(look, &q);
    return q.found;
}

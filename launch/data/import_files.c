/* import_files.c : folders of images, or of any files, passed through as they are. Where the files of one input lie in
 * sub-folders, the name of the first one is their class. */
#include "import.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct folder {
    char **file;
    char **class; /* borrowed from the list of classes; NULL where there are none */
    size_t  n;
    classes classes;
} folder;

static bool is_image(const char *path)
{
    static const char *const tails[] = {".jpg", ".jpeg", ".png",  ".webp", ".gif",
                                        ".bmp", ".tif",  ".tiff", ".ppm",  ".pgm"};
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++)
        if (import_ends_with(path, tails[i])) return true;
    return false;
}

static bool knows(const char *path)
{
    struct stat st;
    char      **files;
    size_t      n = 0, images = 0;
    if (stat(path, &st) != 0) return false;
    if (!S_ISDIR(st.st_mode)) return is_image(path);
    cli_speak(false); /* only a look; what is wrong is said when the folder is read */
    if (list_files(path, &files, &n) == CLI_OK) {
        for (size_t i = 0; i < n; i++) images += is_image(files[i]);
        list_free(files, n);
    }
    cli_speak(true);
    return n > 0 && images == n;
}

/* The folder right below `root` on the way to `file`; NULL if the file lies in root itself. Caller frees. */
static char *class_of(const char *root, const char *file)
{
    const char *at = file + strlen(root);
    size_t      n;
    if (strncmp(root, file, strlen(root)) != 0) return NULL;
    while (*at == '/') at++;
    n = strcspn(at, "/");
    return at[n] ? strndup(at, n) : NULL;
}

static int add_input(folder *d, const char *path)
{
    char **files, **grown;
    size_t n;
    int    rc = list_files(path, &files, &n);
    if (rc != CLI_OK) return rc;
    grown = realloc(d->file, (d->n + n) * sizeof *grown);
    if (grown) d->file = grown;
    grown = grown ? realloc(d->class, (d->n + n) * sizeof *grown) : NULL;
    if (!grown) {
        list_free(files, n);
        return cli_fail("out of memory for a list of %zu files", n);
    }
    d->class = grown;
    for (size_t i = 0; i < n; i++, d->n++) {
        d->file[d->n] = files[i];
        d->class[d->n] = class_of(path, files[i]);
        if (d->class[d->n] && rc == CLI_OK) rc = classes_note(&d->classes, d->class[d->n], strlen(d->class[d->n]));
    }
    free(files);
    return rc;
}

static int describe(import *im)
{
    folder *d = calloc(1, sizeof *d);
    int     rc = CLI_OK;
    if (!d) return cli_fail("out of memory");
    im->state = d;
    for (int i = 0; i < im->inputs && rc == CLI_OK; i++) rc = add_input(d, im->input[i]);
    if (rc != CLI_OK) return rc;
    im->fields = 1;
    im->field[0] = (taut_field)TAUT_FIELD_INIT;
    strcpy(im->field[0].name, "file");
    im->field[0].kind = TAUT_KIND_FILE;
    im->field[0].variable = 1;
    for (size_t i = 0; i < d->n; i++)
        if (!d->class[i] && d->classes.n)
            return cli_fail("%s: lies in no sub-folder, where others have one that names their class", d->file[i]);
    if (!d->classes.n) return CLI_OK;
    if ((rc = classes_close(&d->classes, &im->labels)) != CLI_OK) return rc;
    im->fields = 2;
    im->field[1] = (taut_field)TAUT_FIELD_INIT;
    strcpy(im->field[1].name, "label");
    im->field[1].kind = TAUT_KIND_LABEL;
    im->field[1].type = d->classes.n > 256 ? TAUT_U16 : TAUT_U8;
    return CLI_OK;
}

/* gzip files are not unpacked here: whatever the file is, its bytes are the sample */
static int read_file(const char *path, import_buffer *b)
{
    FILE  *f = fopen(path, "rb");
    size_t n;
    int    rc = CLI_OK;
    b->n = 0;
    if (!f) return cli_fail("%s: cannot be opened: %s", path, strerror(errno));
    do {
        if ((rc = import_reserve(b, 1 << 16)) != CLI_OK) break;
        n = fread(b->p + b->n, 1, b->cap - b->n, f);
        b->n += n;
    } while (n > 0);
    if (rc == CLI_OK && ferror(f)) rc = cli_fail("%s: cannot be read: %s", path, strerror(errno));
    if (rc == CLI_OK && b->n == 0) rc = cli_fail("%s: is empty", path);
    fclose(f);
    return rc;
}

static int feed(import *im)
{
    folder       *d = im->state;
    import_buffer b = {0};
    int           rc = CLI_OK;
    for (size_t i = 0; i < d->n && rc == CLI_OK; i++) {
        uint16_t class = d->class[i] ? (uint16_t)classes_find(&d->classes, d->class[i]) : 0;
        uint8_t     label[2] = {(uint8_t) class, (uint8_t)(class >> 8)};
        const void *data[2] = {NULL, label};
        size_t      bytes[2] = {0, taut_type_bytes(im->field[1].type)};
        if ((rc = read_file(d->file[i], &b)) != CLI_OK) break;
        data[0] = b.p;
        bytes[0] = b.n;
        rc = im->sink(im->ctx, data, bytes);
    }
    free(b.p);
    return rc;
}

static void release(import *im)
{
    folder *d = im->state;
    if (!d) return;
    for (size_t i = 0; i < d->n; i++) free(d->class[i]);
    free(d->class);
    list_free(d->file, d->n);
    classes_free(&d->classes);
    free(d);
}

const import_format import_files = {"files", "folders of images or of any files, passed through", knows, describe, feed,
                                    release};

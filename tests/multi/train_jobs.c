/* train_jobs.c : jobs of `taut train`, many in one process, since libtorch takes longer to start than a small job: run by test_train.sh, alone
 * or under mpirun.
 *
 *   train_jobs FOLDER JOBS
 *
 * JOBS: a file, a line for each: NAME [VARIABLE=VALUE ...] OPTIONS..., words without blanks inside; the variables are set for that job alone.
 * What a job says goes to FOLDER/NAME.out and NAME.err, its exit code to NAME.rc. */
#include "launch/cli.h"
#include "launch/train/job.h"
#include "launch/train/ranks.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WORDS = 96, LINE = 4096, PATH = 1024 };

static void must(bool ok, const char *what)
{
    if (!ok) ranks_abort(fault(CLI_FAILED, "train_jobs: %s", what));
}

static const char *path_of(const char *folder, const char *name, const char *end)
{
    static char path[PATH];
    snprintf(path, sizeof path, "%s/%s.%s", folder, name, end);
    return path;
}

/* A stream of this rank goes to the file, which is that of all ranks. */
static void redirect(int stream, const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
    must(fd >= 0 && dup2(fd, stream) >= 0, path);
    close(fd);
}

/* A job's variables, which come before its options. Returns how many. */
static int variables(char **word, int n, bool set)
{
    int i = 0;
    for (; i < n && word[i][0] != '-' && strchr(word[i], '='); i++) {
        char *value = strchr(word[i], '=');
        *value = 0;
        must((set ? setenv(word[i], value + 1, 1) : unsetenv(word[i])) == 0, word[i]);
        *value = '=';
    }
    return i;
}

static void run_line(const char *folder, char *line)
{
    char *word[WORDS], *argv[WORDS], *rest = line;
    int   n = 0, argc = 1;
    while (n < WORDS - 1 && (word[n] = strtok_r(rest, " \n", &rest))) n++;
    if (n == 0) return;
    must(n < WORDS - 1, "a line has too many words");
    int set = variables(word + 1, n - 1, true);
    argv[0] = (char *)(uintptr_t) "taut-train";
    for (int i = 1 + set; i < n; i++) argv[argc++] = word[i];
    argv[argc] = NULL;
    redirect(STDOUT_FILENO, path_of(folder, word[0], "out"));
    redirect(STDERR_FILENO, path_of(folder, word[0], "err"));
    int code = job_run(argc, argv);
    fflush(stdout);
    variables(word + 1, n - 1, false);
    if (ranks_rank() != 0) return;
    FILE *f = fopen(path_of(folder, word[0], "rc"), "w");
    must(f && fprintf(f, "%d\n", code) > 0 && fclose(f) == 0, "exit code");
}

int main(int argc, char **argv)
{
    char line[LINE];
    ranks_start(&argc, &argv);
    cli_speak(ranks_rank() == 0);
    must(argc == 3, "train_jobs FOLDER JOBS");
    FILE *f = fopen(argv[2], "r");
    must(f != NULL, argv[2]);
    while (fgets(line, sizeof line, f)) {
        must(strchr(line, '\n') != NULL, "a line is too long");
        run_line(argv[1], line);
    }
    fclose(f);
    ranks_end();
    return cli_leave(CLI_OK);
}

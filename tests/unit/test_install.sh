#!/bin/sh
# `make install` into an empty DESTDIR gives a tree that works: a program finds taut with pkg-config, compiles, links
# and runs; the command runs from there; uninstall leaves nothing behind.
set -u
BUILD=${BUILD:-build/release}
. tests/support/shell.sh
case $BUILD in
*asan* | *tsan*)
    echo "SKIP sanitizer builds are not installed"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
    ;;
esac

root=$dir/root prefix=/opt/taut
run_make() { make --no-print-directory BUILD="$BUILD" DESTDIR="$root" PREFIX=$prefix "$@"; }
hidden() { find "$root" ! -type l ! -perm -o+r | grep . && return 1; return 0; }
umask 077 # as of a careful root
expect "make install" run_make install
umask 022
expect "everybody may read it" hidden

cat >"$dir/prog.c" <<'C'
#include <taut.h>
#include <stdio.h>
int main(void)
{
    size_t bytes, shape[1] = {4096};
    taut_status s = taut_encode_bound("quant:bits=4", 1, shape, &bytes);
    printf("%d %s\n", taut_version() == TAUT_VERSION, taut_status_name(s));
    return s != TAUT_OK || taut_version() != TAUT_VERSION;
}
C
PKG_CONFIG_PATH=$root$prefix/lib/pkgconfig
PKG_CONFIG_SYSROOT_DIR=$root
export PKG_CONFIG_PATH PKG_CONFIG_SYSROOT_DIR
compile() { ${CC:-cc} -std=c11 -Wall -Werror -o "$dir/prog" "$dir/prog.c" $(pkg-config --cflags --libs taut); }
version() { [ "$(pkg-config --modversion taut)" = "$("$root$prefix/bin/taut" --version | cut -d' ' -f2)" ]; }
gone() { [ -z "$(find "$root" ! -type d)" ]; }
expect "a program compiles against taut.pc" compile
expect "and runs" env LD_LIBRARY_PATH="$root$prefix/lib" "$dir/prog"
expect "taut.pc and the command have one version" version
expect "the installed command runs" "$root$prefix/bin/taut" info
# ---- man pages and completion, made from what the command says itself ----
share=$root$prefix/share
pages() { # one for every subcommand that it lists
    "$root$prefix/bin/taut" --help | sed -n 's/^  taut \([a-z]*\( [a-z]*\)\{0,1\}\)  .*/\1/p' | sed 's/ *$//' | tr ' ' '-' | while read -r sub; do
        [ "$sub" != train ] || [ -x "$BUILD/libexec/taut-train" ] || continue # it is told as left out by the build
        zcat "$share/man/man1/taut-$sub.1.gz" | grep -q SYNOPSIS || echo "no man page of $sub"
    done | grep . && return 1
    zcat "$share/man/man1/taut-plan.1.gz" | grep -q 'break\\-even'
}
complete() { # complete EXPECTED WORDS...: what the last word may become
    expected=$1
    shift
    said=$(bash -c 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _taut; IFS="|"; echo "${COMPREPLY[*]}"' - "$share/bash-completion/completions/taut" "$@")
    [ "$said" = "$expected" ] || { echo "$*: '$said', expected '$expected'"; return 1; }
}
if command -v help2man >/dev/null; then expect "a man page for every subcommand" pages; else
    skip "help2man is not here: man pages"
fi
if command -v bash >/dev/null; then
    expect "completion of subcommands" complete "report" taut rep
    expect "completion of their second words" complete "codec" taut bench cod
    expect "completion of options" complete "--break-even" taut plan --br
    touch "$dir/a-file with spaces.jsonl"
    expect "completion of files" complete "$dir/a-file with spaces.jsonl" taut report "$dir/a-f"
fi
documents() { [ -s "$share/doc/taut/guide.md" ] && [ -s "$share/doc/taut/grafana.json" ]; }
expect "the guide is installed" documents
expect "make uninstall" run_make uninstall
expect "uninstall leaves no file" gone

# ---- word by word as the README says, into a prefix that no loader knows: programs start without help ----
unset PKG_CONFIG_SYSROOT_DIR LD_LIBRARY_PATH
root= prefix=$dir/prefix
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
hints() { grep -q "PKG_CONFIG_PATH=$prefix/lib/pkgconfig" "$dir/said" && grep -q "PATH=$prefix/bin" "$dir/said"; }
# PKG_CONFIG_PATH is not set yet for the one who installs
expect "make install PREFIX=..." sh -c "env -u PKG_CONFIG_PATH make --no-print-directory BUILD='$BUILD' PREFIX='$prefix' install >'$dir/said' 2>&1"
expect "it says what to add to PATH and PKG_CONFIG_PATH" hints
expect "a program compiles" compile
expect "and starts" "$dir/prog"
mpicc=${MPICC:-mpicc} mpirun=${MPIRUN:-mpirun}
if "$prefix/bin/taut" info --json | grep -q '"mpi": true' && command -v "$mpicc" >/dev/null && command -v "$mpirun" >/dev/null; then
    sed -n '/^```c$/,/^```$/p' README.md | grep -v '^```' >"$dir/train.c"
    readme() (cd "$dir" && "$mpicc" train.c $(pkg-config --cflags --libs taut) -o train)
    start() { OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1 "$mpirun" -n 2 "$dir/train"; }
    expect "the README's program compiles" readme
    expect "and runs on two ranks" start
else
    skip "no MPI: the README's program"
fi
expect "batch scripts and what they call" sh -c "'$prefix/bin/taut-requeue' --help && '$prefix/bin/taut-torchrun' --help && '$prefix/bin/taut-sweep' --help && test -s '$prefix/share/taut/slurm/mpirun.sbatch'"
# what they would start on two nodes of four GPUs: srun has one processor a task unless it is told (Slurm 22.05), and the workers of a node share its processors
mkdir "$dir/instead"
printf '#!/bin/sh\necho "$OMP_NUM_THREADS threads: $*"\n' >"$dir/instead/taut-requeue"
chmod +x "$dir/instead/taut-requeue"
starts() { # SCRIPT PROCESSORS TEXT
    (unset OMP_NUM_THREADS SLURM_CPUS_PER_TASK; [ -z "$2" ] || export SLURM_CPUS_PER_TASK="$2"
    PATH=$dir/instead:$PATH PROGRAM=Makefile PER_NODE=4 SLURM_JOB_ID=7 SLURM_JOB_NAME=j SLURM_JOB_NODELIST=n SLURM_NNODES=2 SLURM_GPUS_ON_NODE=4 \
        sh "launch/slurm/$1.sbatch") | grep -q -- "$3"
}
for script in gpu torchrun; do
    expect "$script.sbatch, 16 processors" starts $script 16 '^4 threads: srun --cpus-per-task=16 --kill'
    expect "$script.sbatch, none said" starts $script '' '^1 threads: srun --kill'
done
expect "srun.sbatch, 16 processors" starts srun 16 '^16 threads: srun --cpus-per-task=16 --mpi=pmix'
modules=$(ls /usr/lib/*/modulecmd.tcl 2>/dev/null | head -n 1)
load() { MODULEPATH=$prefix/share/taut/modulefiles "$modules" sh load taut | grep -q "PATH=$prefix/bin"; }
if [ -n "$modules" ]; then expect "module load taut" load; else skip "no Environment Modules: the module file"; fi
expect "make uninstall PREFIX=..." run_make uninstall
expect "uninstall leaves no file in the prefix" [ -z "$(find "$prefix" ! -type d)" ]
finish

#!/bin/sh
# The Makefile: what changed is built again and nothing else, what a build leaves out is removed, the machine is looked at once,
# and what was asked for but is missing is an error with its name.
set -u
. tests/support/shell.sh
unset MAKEFLAGS MFLAGS CI MPIRUN
unset MPI TORCH TORCH_DIR BLAS ZSTD JPEG CUDA NCCL NVCC MODE # of the make that runs this
mk() { make --no-print-directory BUILD="$dir/b" Q= "$@" 2>&1; }
plain="TORCH=0 TORCH_DIR=/nowhere" # where the machine is looked at, and it is not about libtorch: compiling with its headers takes longer than all else
compiles() { mk "$@" | grep -c -- '-c -o'; }
expect() { if [ "$2" = "$3" ]; then pass; else fail "$1: $2, expected $3"; fi; }

# ---- what files are compiled for, a CPU is asked for ----
for isa in $(sed -n 's/^\(AVX2\|AVX512\|VBMI2\)_FLAGS *:= //p' Makefile | tr ' ' '\n' | sed -n 's/^-m//p'); do
    grep -qi "supports(\"$isa\"\|has_[a-z0-9_]*$isa" compressors/dispatch.c && pass || fail "files are compiled with -m$isa, which dispatch.c does not ask for"
done

# ---- stamps ----
o=$dir/b/launch/json.o
expect "a first build compiles" "$(compiles "$o")" 1
expect "a second one does nothing" "$(compiles "$o")" 0
expect "MPI=0 compiles again" "$(compiles MPI=0 "$o")" 1
expect "and then rests" "$(compiles MPI=0 "$o")" 0
expect "other CFLAGS compile again" "$(compiles MPI=0 CFLAGS=-O0 "$o")" 1
expect "a make of something else does not" "$(mk print-config >/dev/null; compiles MPI=0 CFLAGS=-O0 "$o")" 0

# ---- what a build leaves out ----
mkdir -p "$dir/b/libexec" "$dir/b/tests/multi"
touch "$dir/b/libexec/taut-train" "$dir/b/tests/multi/test_ranks_mpi"
mk MPI=0 TORCH=0 prune >/dev/null
if [ -e "$dir/b/libexec/taut-train" ] || [ -e "$dir/b/tests/multi/test_ranks_mpi" ]; then fail "programs of an earlier build with MPI and libtorch are left"; else pass; fi

# ---- probes: a compiler wrapper that counts how often it is asked ----
cat >"$dir/mpicc" <<EOF2
#!/bin/sh
echo asked >>"$dir/asked"
exec ${MPICC:-mpicc} "\$@"
EOF2
chmod +x "$dir/mpicc"
asked() { cat "$dir/asked" 2>/dev/null | wc -l; }
mk $plain MPICC="$dir/mpicc" help >/dev/null
expect "make help asks nothing" "$(asked)" 0
mk $plain MPICC="$dir/mpicc" print-config >/dev/null
first=$(asked)
[ "$first" -gt 0 ] && pass || fail "print-config did not ask $dir/mpicc"
mk $plain MPICC="$dir/mpicc" print-config >/dev/null
expect "a second print-config asks no more" "$(asked)" "$first"
rm -f "$(grep -l "$dir/mpicc" build/probes/*.mk 2>/dev/null)" 2>/dev/null

# ---- asked for, but missing ----
refuses() { # refuses WORDS ARGUMENTS...
    words=$1
    shift
    out=$(mk "$@" print-config) && { fail "make $*: no error"; return; }
    case $out in *"$words"*) pass ;; *) fail "make $*: no '$words' in: $out" ;; esac
}
refuses "MPI=1 was asked for" $plain MPI=1 MPICC=nosuchcc
refuses "TORCH=pip was asked for" TORCH=pip PYTHON=/nowhere/python
refuses "TORCH_DIR=/nowhere: no include/torch" TORCH_DIR=/nowhere
refuses "CUDA=1 was asked for" $plain CUDA=1 NVCC=nosuchnvcc
refuses "PREFIX=$dir/a b: must be without spaces" $plain uninstall PREFIX="$dir/a b"
refuses "PREFIX=here: must be an absolute path" $plain uninstall PREFIX=here
mkdir -p "$dir/c" && echo "cc -DTAUT_HAVE_MPI -O2" >"$dir/c/.C"
refuses "was made with MPI, which is not found now" $plain BUILD="$dir/c" MPICC=nosuchcc DESTDIR="$dir/d" install
refuses "MODE=fast: must be" MODE=fast
out=$(mk test T=nosuch) && fail "make test T=nosuch: no error"
case $out in *"no tests/*/test_nosuch"*) pass ;; *) fail "make test T=nosuch: $out" ;; esac

# ---- setup, of one who may not install: what is optional is left out, what is needed is an error ----
mkdir "$dir/bin"
printf '#!/bin/sh\n[ "$4" = "$LACKS" ] || echo "ok installed"\n' >"$dir/bin/dpkg-query"
printf '#!/bin/sh\necho 1000\n' >"$dir/bin/id"
printf '#!/bin/sh\nexit 1\n' | tee "$dir/bin/sudo" >"$dir/bin/apt-get"
chmod +x "$dir/bin"/*
setup() { LACKS=$1 SKIP_SETUP= PATH="$dir/bin:$PATH" launch/setup >"$dir/log" 2>&1; }
setup gnuplot-nox && grep -q 'left out: gnuplot-nox' "$dir/log" && pass || fail "setup without gnuplot: $(cat "$dir/log")"
setup libjansson-dev && fail "setup without jansson: no error"
grep -q 'run as root: apt-get install libjansson-dev' "$dir/log" && pass || fail "setup without jansson: $(cat "$dir/log")"

# ---- MPICH ----
if command -v mpicc.mpich >/dev/null; then
    case $(mk MPICC=mpicc.mpich print-config) in *"MPICH "*) pass ;; *) fail "mpicc.mpich is not seen as MPICH" ;; esac
    # not optimised: it is about names and types
    sources=$(ls comm/*/*_mpi.c comm/*_mpi.c launch/*_mpi.c launch/train/ranks.c 2>/dev/null)
    for f in $sources; do rm -f "$dir/b/${f%.c}.o"; done
    # shellcheck disable=SC2046
    out=$(mk -k CI=1 MPICC=mpicc.mpich CFLAGS=-O0 $(for f in $sources; do echo "$dir/b/${f%.c}.o"; done))
    for f in $sources; do if [ -s "$dir/b/${f%.c}.o" ]; then pass; else fail "MPICH: $f: $(echo "$out" | grep -m 1 "$f.*error")"; fi; done
    if command -v clang >/dev/null; then # which does not know all of GCC's warnings
        if out=$(mk $plain CI=1 CC=clang MPICC=mpicc.mpich CFLAGS=-O0 "$dir/b/preload-mpich/comm/transport/words_mpi.o"); then pass; else fail "MPICH, clang: $(echo "$out" | grep -m 1 'error')"; fi
    fi
else
    skip "mpicc.mpich is not here (libmpich-dev)"
fi
finish

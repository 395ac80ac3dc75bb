#!/bin/bash
# test_spack.sh : launch/slurm/spack/package.py without Spack: its commands, as a double of Spack's language says them (spack_double.py). Those of the default
# variants are run, in a copy of the sources; of the others the Makefile is asked what it would build. Run alone.
set -u
BUILD=${BUILD:-build/release}
passed=0 failed=0
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
finish() { echo "$passed passed, $failed failed, ${1:-0} skipped"; [ "$failed" -eq 0 ]; exit; }
command -v python3 >/dev/null && git rev-parse --git-dir >/dev/null 2>&1 || { echo "SKIP no python3, or no checkout"; finish 1; }
ok() { # TEXT COMMAND...
    local text=$1; shift
    if "$@" >"$dir/log" 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAIL $text: $(tail -n 5 "$dir/log")"; fi
}
says() { python3 -B tests/long/spack_double.py "$@"; }
recipe=launch/slurm/spack/package.py
for version in 0 1; do ok "the recipe in Spack $version" says $version $recipe "$dir/prefix"; done
mkdir "$dir/source"
git ls-files -coz --exclude-standard | tar -c --null -T - | tar -x -C "$dir/source"
# what Spack has in the environment
export CC=gcc CXX=g++ CCACHE_BASEDIR=$dir/source CCACHE_NOHASHDIR=1
while read -r step command; do
    ok "$step: $command" make -C "$dir/source" ${command#make}
done < <(says 1 $recipe "$dir/prefix")
[ "$(says 1 $recipe "$dir/prefix" | wc -l)" = 3 ] || { failed=$((failed + 1)); echo "FAIL not three steps"; }
ok "what was installed" "$dir/prefix/bin/taut" info
ok "it has MPI" sh -c '"$1" info | grep -q "mpi  *found"' sh "$dir/prefix/bin/taut"
# of the other variants: on is found here, or named as missing; off is off
config() { # VARIANT NAME STATE
    local flags
    flags=$(says 1 $recipe "$dir/prefix" $1 | sed -n 's/^build make //p')
    ok "$1" sh -c 'cd "$1" && make print-config $2 2>&1 | tee /dev/stderr | grep -q "^  $3  *$4 \|$3=1 was asked for"' sh "$dir/source" "$flags" "$2" "$3"
}
config "~mpi" MPI off
config "~zstd" ZSTD off
config "~zstd" JPEG off
config "~jpeg" JPEG off
config "~blas" BLAS off
config "+cuda" CUDA found
config "~torch" TORCH off
ok "+torch asks for the libtorch of a wheel" sh -c 'python3 -B tests/long/spack_double.py 1 "$1" /p +torch | grep -c "TORCH=pip PYTHON=/usr/bin/python3" | grep -qx 3' sh $recipe
finish

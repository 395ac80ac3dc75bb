#!/bin/bash
# test_container.sh : launch/slurm/taut.def, without Apptainer: its sections, as they stand, in a Debian of the same release (debootstrap) with what Apptainer
# mounts into a container. %files, %post, %test, %runscript, %environment; and ranks inside that a mpirun outside starts. Needs root and a mirror. A compiler
# cache of this machine is lent to %post. Run alone.
set -u
passed=0 failed=0
dir=$(mktemp -d)
root=$dir/root
def=launch/slurm/taut.def
finish() { echo "$passed passed, $failed failed, ${1:-0} skipped"; [ "$failed" -eq 0 ]; exit; }
skip() { echo "SKIP $*"; finish 1; }
leave() {
    for m in root/.ccache tmp dev/shm dev sys proc; do umount "$root/$m" 2>/dev/null; done
    grep -q " $root/" /proc/mounts || rm -rf "$dir"
}
trap leave EXIT
ok() { # TEXT COMMAND...
    local text=$1; shift
    if "$@" >"$dir/log" 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAIL $text: $(tail -n 5 "$dir/log")"; fi
}
section() { awk -v want="%$1" '/^%/ { on = $1 == want; next } on' "$def"; }
[ "$(id -u)" = 0 ] || skip "not root"
command -v debootstrap >/dev/null || skip "no debootstrap"
[ "$(sed -n 's/^From: debian://p' "$def")" = 12 ] || { failed=1; echo "FAIL $def is not of Debian 12"; finish; }
mirror=$(sed -n 's/^deb  *\(\[[^]]*\] *\)\{0,1\}\(http[^ ]*\).*/\2/p; s/^URIs: *\(http[^ ]*\).*/\1/p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1)
debootstrap --variant=minbase bookworm "$root" "${mirror:-http://deb.debian.org/debian}" >"$dir/log" 2>&1 || skip "debootstrap: $(tail -n 2 "$dir/log")"
cp -a /etc/apt/apt.conf.d "$root/etc/apt/" 2>/dev/null
cp /etc/resolv.conf "$root/etc/" 2>/dev/null
for m in proc sys dev dev/shm tmp; do mount --bind "/$m" "$root/$m" || skip "cannot mount /$m"; done
inside() { # FILE ARGUMENTS...: a script with them, as root of the container
    local script=$1; shift
    chroot "$root" env -i PATH="${EARLIER:-}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" CCACHE_BASEDIR=/opt/taut CCACHE_NOHASHDIR=1 sh "/root/$script" "$@"
}
for s in post test runscript environment; do section $s >"$root/root/$s"; [ -s "$root/root/$s" ] || { failed=1; echo "FAIL $def has no %$s"; finish; }; done
{ cat "$root/root/environment"; echo 'exec "$@"'; } >"$root/root/with"
{ cat "$root/root/environment" "$root/root/runscript"; } >"$root/root/run"
{ cat "$root/root/environment" "$root/root/test"; } >"$root/root/tested"
sed -i '1i set -e' "$root/root/tested"

# %files: what is in the folder, but for what was built
section files | while read -r from to; do
    [ -n "$from" ] || continue
    mkdir -p "$root$to"
    git ls-files -coz --exclude-standard "$from" | tar -c --null -T - | tar -x -C "$root$to"
done
echo 'apt-get update -q' >"$root/root/update"
inside update >"$dir/log" 2>&1 || skip "apt-get update in the root: $(tail -n 2 "$dir/log")"
cache=$(ccache -k cache_dir 2>/dev/null)
if [ -d "${cache:-}" ]; then
    echo 'apt-get install -y -q --no-install-recommends ccache' >"$root/root/update"
    inside update >"$dir/log" 2>&1 && mkdir -p "$root/root/.ccache" && mount --bind "$cache" "$root/root/.ccache" && EARLIER=/usr/lib/ccache:
fi
ok "%post" inside post
EARLIER=
ok "%test" inside tested
ok "%runscript" inside run info
ok "%runscript, a wrong command" sh -c '! "$@"' sh chroot "$root" sh /root/run no-such-command
ok "the built folder is gone" sh -c '! [ -e "$1" ]' sh "$root/opt/taut/build"
ok "taut train" inside with taut train --steps 2 --dim 16 --blocks 1 --heads 2 --ctx 16 --batch 2
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
ok "mpirun outside, ranks inside" mpirun --oversubscribe -n 2 chroot "$root" sh /root/with taut bench allreduce --codec quant:bits=4 --sizes 64K --json
cp "$dir/log" "$dir/bench"
ok "they are two ranks" grep -q '"ranks": 2' "$dir/bench"
ok "train over both" mpirun --oversubscribe -n 2 chroot "$root" sh /root/with taut train --steps 2 --dim 16 --blocks 1 --heads 2 --ctx 16 --batch 2
finish

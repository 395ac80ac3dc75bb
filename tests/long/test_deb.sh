#!/bin/sh
# make deb: packages that install in a bare Debian root (debootstrap), whose commands, man pages, completion and pkg-config file work there, against which a
# program compiles, and which leave nothing behind when they are removed. Needs root, debootstrap and a mirror; else only what the packages contain is looked at.
set -u
BUILD=${BUILD:-build/release}
passed=0 failed=0 skipped=0
dir=$(mktemp -d)
trap 'umount "$dir/root/proc" 2>/dev/null; rm -rf "$dir"' EXIT
fail() {
    failed=$((failed + 1))
    echo "FAIL $*"
}
ok() { # ok TEXT COMMAND...
    text=$1
    shift
    if "$@" >"$dir/log" 2>&1; then passed=$((passed + 1)); else fail "$text: $(tail -n 5 "$dir/log")"; fi
}
finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
    exit
}
skip() {
    skipped=$((skipped + 1))
    echo "SKIP $*"
    finish
}
command -v dpkg-deb >/dev/null || skip "no dpkg-deb"
ok "make deb" make --no-print-directory BUILD="$BUILD" deb
set -- build/deb/libtaut0_*.deb build/deb/libtaut-dev_*.deb build/deb/taut-tools_*.deb
for deb in "$@"; do
    ok "$deb" dpkg-deb --info "$deb"
    dpkg-deb -c "$deb" >"$dir/files"
    awk '$2 != "root/root" { print; bad = 1 } END { exit bad }' "$dir/files" >"$dir/log" && passed=$((passed + 1)) || fail "$deb: not owned by root: $(head -n 3 "$dir/log")"
done
dpkg-deb -c "$1" | grep -q './usr/lib/libtaut.so.0$' && passed=$((passed + 1)) || fail "libtaut0 has no libtaut.so.0"
dpkg-deb -f "$1" Depends | grep -q 'libc6' && passed=$((passed + 1)) || fail "libtaut0 depends on: $(dpkg-deb -f "$1" Depends)"
dpkg-deb -c "$3" | grep -q 'man1/taut-report.1.gz' || command -v help2man >/dev/null && passed=$((passed + 1)) || fail "taut-tools has no man pages"

[ "$(id -u)" = 0 ] || skip "not root: no Debian root to install into"
command -v debootstrap >/dev/null || skip "no debootstrap"
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
mirror=$(sed -n 's/^deb  *\(\[[^]]*\] *\)\{0,1\}\(http[^ ]*\).*/\2/p; s/^URIs: *\(http[^ ]*\).*/\1/p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1)
debootstrap --variant=minbase "$suite" "$dir/root" "${mirror:-http://deb.debian.org/debian}" >"$dir/log" 2>&1 || skip "debootstrap: $(tail -n 2 "$dir/log")"
cp "$@" "$dir/root/root/"
cp -a /etc/apt/apt.conf.d /etc/resolv.conf "$dir/root/etc/apt/" 2>/dev/null
cp /etc/resolv.conf "$dir/root/etc/" 2>/dev/null
mount -t proc proc "$dir/root/proc" 2>/dev/null
inside() { chroot "$dir/root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive http_proxy="${http_proxy:-}" https_proxy="${https_proxy:-}" sh -c "$1"; }
inside 'rm -f /etc/dpkg/dpkg.cfg.d/*; apt-get update -q' >"$dir/log" 2>&1 || skip "apt-get update in the root: $(tail -n 2 "$dir/log")"
before=$(cd "$dir/root" && find etc usr var/lib/dpkg/info -path '*taut*' | sort)
ok "apt-get install, without what is recommended" inside 'apt-get install -y -q --no-install-recommends man-db gcc libc6-dev pkg-config /root/*.deb'
ok "taut info" inside 'taut info'
ok "taut encode and decode" inside 'head -c 40960 /dev/zero >/tmp/z.f32; taut encode --codec quant:bits=4 /tmp/z.f32 /tmp/z.taut && taut decode /tmp/z.taut /tmp/b.f32 && cmp /tmp/z.f32 /tmp/b.f32'
ok "man taut-plan" inside 'man taut-plan | grep -q break-even'
ok "completion" inside 'apt-get install -y -q --no-install-recommends bash-completion >/dev/null 2>&1; bash -c ". /usr/share/bash-completion/bash_completion; _completion_loader taut; COMP_WORDS=(taut rep); COMP_CWORD=1; _taut; [ \"\${COMPREPLY[0]}\" = report ]"'
ok "a program compiles and runs" inside 'printf "#include <taut.h>\nint main(void) { return taut_version() != TAUT_VERSION; }\n" >/tmp/p.c && gcc /tmp/p.c $(pkg-config --cflags --libs taut) -o /tmp/p && /tmp/p'
ok "no library is missing" inside 'for f in /usr/bin/taut /usr/lib/libtaut.so.0; do ldd $f | grep "not found" && exit 1; done; true'
ok "remove" inside 'apt-get purge -y -q libtaut0 libtaut-dev taut-tools'
after=$(cd "$dir/root" && find etc usr var/lib/dpkg/info -path '*taut*' | sort)
[ "$before" = "$after" ] && passed=$((passed + 1)) || fail "left behind: $after"
finish

#!/bin/sh
# test_firewall.sh: TCP between hosts whose firewall drops or refuses: an error that names the address, on every rank, within the timeout; DDP goes over to its
# group's collectives (tests/python/check_firewall.py). Needs root, nft (package nftables), network namespaces. Last line: "N passed, N failed, N skipped".
set -u
BUILD=${BUILD:-build/release}
PYTHON=${TEST_PYTHON:-/usr/bin/python3}
export TAUT_LIBRARY=$PWD/$BUILD/lib/libtaut.so PYTHONPATH=$PWD/shim/python PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export LAB_NAME=tautw$(($$ % 10000)) LAB_NET=10.78.$(($$ % 200))
skip() {
    echo "SKIP $1"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}
case $BUILD in *asan* | *tsan*) skip "a sanitizer's library cannot be loaded by Python" ;; esac
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
command -v ip >/dev/null && command -v tc >/dev/null || skip "no iproute2"
command -v nft >/dev/null || skip "no nft (package nftables)"
"$PYTHON" -c 'import numpy' 2>/dev/null || skip "no python3-numpy"
trap 'launch/lab down >/dev/null 2>&1; rm -f "/run/$LAB_NAME.lock"' EXIT
launch/lab up 3 full >/dev/null 2>&1 || skip "no network namespaces here"
ip netns exec "$LAB_NAME-n0" nft list ruleset >/dev/null 2>&1 || skip "this kernel has no nf_tables"
"$PYTHON" tests/python/check_firewall.py "$@"

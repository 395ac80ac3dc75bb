#!/bin/sh
# test_python_wheel.sh: pip wheel and pip install of the Python package, without a network: the wheel carries libtaut, holds no path of this machine, says which
# C library it needs, and works in clean virtual environments, one of them with torch from PyPI (TORCH_VENV). Last line: "N passed, N failed, N skipped".
set -u
PYTHON=${TEST_PYTHON:-/usr/bin/python3}
. tests/support/shell.sh
skip() {
    echo "SKIP $1"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}
"$PYTHON" -m pip --version >/dev/null 2>&1 || skip "no python3-pip"
"$PYTHON" -m venv "$dir/venv" >/dev/null 2>&1 || skip "no python3-venv"
unset TAUT_LIBRARY PYTHONPATH
export PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1
root=$PWD
wheel() { ls "$dir"/wheel/taut-*-py3-none-manylinux_2_*.whl; }
expect "pip wheel" "$PYTHON" -m pip wheel ./shim/python --no-deps -w "$dir/wheel"
expect "its tag" wheel
carries() { "$PYTHON" -m zipfile -l "$(wheel)" | grep -q 'taut/lib/libtaut.so' && "$PYTHON" -m zipfile -e "$(wheel)" "$dir/open"; }
expect "it carries libtaut" carries
no_paths() {
    for f in "$dir"/open/taut/lib/*.so*; do
        if grep -aq -e "$root" "$f"; then echo "$f names $root" && return 1; fi
        if readelf -d "$f" | grep -E 'R(UN)?PATH' | grep -v '\[\$ORIGIN\]'; then return 1; fi
    done
}
expect "no path of this machine" no_paths
no_others() { # besides the C library and MPI, everything is in the wheel
    for need in $(readelf -d "$dir"/open/taut/lib/*.so* | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u); do
        case $need in libc.so.* | libm.so.* | ld-linux* | libmpi.so.* | libmpich.so.* | libpthread.so.*) continue ;; esac
        [ -e "$dir/open/taut/lib/$need" ] || { echo "$need is not in the wheel" && return 1; }
    done
}
expect "what libtaut needs is in the wheel" no_others
same_bytes() { "$PYTHON" -m pip wheel ./shim/python --no-deps -w "$dir/again" && cmp "$dir"/wheel/*.whl "$dir"/again/*.whl; }
expect "the same bytes from the same sources" same_bytes
expect "pip install of the wheel" "$dir/venv/bin/pip" install "$(wheel)"
clean() { (cd "$dir" && env -i PATH=/usr/bin:/bin "$dir/venv/bin/python" -c "
import taut
assert taut.__file__.startswith('$dir/venv') and taut.library_version() == taut.__version__, taut.__file__
with taut.Comm.tcp() as comm:
    assert (comm.rank, comm.size) == (0, 1)
"); }
expect "it imports in a clean virtual environment" clean
if "$PYTHON" -c 'import numpy' 2>/dev/null; then
    "$PYTHON" -m venv --system-site-packages "$dir/with" >/dev/null 2>&1
    expect "pip install ./shim/python" "$dir/with/bin/pip" install ./shim/python
    expect "the tests, with the wheel's library" "$dir/with/bin/python" tests/python/check_basics.py
fi
# beside a torch of PyPI, in a virtual environment that has nothing else of ours
torch=${TORCH_VENV:-build/venv-torch}
if [ -x "$torch/bin/python" ] && "$torch/bin/python" -c 'import torch, numpy' 2>/dev/null; then
    "$torch/bin/python" -m venv "$dir/torch" >/dev/null 2>&1
    site() { "$1" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])'; }
    site "$torch/bin/python" >"$(site "$dir/torch/bin/python")/torch.pth"
    expect "pip install of the wheel beside torch" "$dir/torch/bin/pip" install --no-deps "$(wheel)"
    from_wheel() { "$dir/torch/bin/python" -c "import torch, taut, taut.torch; assert taut.__file__.startswith('$dir/torch'), taut.__file__"; }
    expect "taut.torch is the wheel's" from_wheel
    expect "DistributedDataParallel with it" env LIMIT_S=600 "$dir/torch/bin/python" tests/python/check_ddp.py gradients_are_plain_ones one_line checkpoints
else
    skipped=$((skipped + 1))
    echo "SKIP no torch of PyPI (TORCH_VENV)"
fi
finish

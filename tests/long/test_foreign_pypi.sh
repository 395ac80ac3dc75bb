#!/bin/sh
# The formats' own libraries write what `taut data index` reads, and read what `taut data export` writes: numpy, pyarrow, webdataset,
# mosaicml-streaming from PyPI, in a virtual environment (build/venv-foreign, 6 GB with what mosaicml-streaming needs; or FOREIGN_VENV=<one
# that has them>). A library that cannot be installed is skipped.
set -u
BUILD=${BUILD:-build/release}
TAUT=$(cd "$BUILD" && pwd)/bin/taut
PYTHON=${PYTHON:-python3}
if ! "$TAUT" data --help 2>&1 | grep -q export; then
    echo "SKIP built without zstd"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
venv=${FOREIGN_VENV:-build/venv-foreign}
if [ ! -x "$venv/bin/python" ]; then
    "$PYTHON" -m venv "$venv" || { echo "SKIP no virtual environment"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
    for p in "numpy<2.2" pyarrow webdataset pillow mosaicml-streaming; do
        "$venv/bin/pip" install -q "$p" || echo "pip could not install $p"
    done
fi
if ! "$venv/bin/python" -c 'import numpy'; then
    echo "SKIP numpy cannot be installed: no registry?"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"$venv/bin/python" tests/long/foreign_pypi.py "$TAUT" "$dir/work"

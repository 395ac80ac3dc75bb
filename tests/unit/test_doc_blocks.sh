#!/bin/sh
# test_doc_blocks.sh: of every code block in the documents it is known what runs it (tests/support/doc_blocks.txt). Last line: "N passed, N failed[, N skipped]".
set -u
PYTHON=${TEST_PYTHON:-python3}
if ! command -v "$PYTHON" >/dev/null; then
    echo "SKIP no python3"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
exec "$PYTHON" tests/python/check_doc_blocks.py

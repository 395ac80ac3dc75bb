"""Every code block of the documents has its line in tests/support/doc_blocks.txt, every line its block, and the tests that the lines name know the document."""
import os
import sys

TOP = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, TOP + "/tests/support")
from doc_blocks import DOCUMENTS, blocks  # noqa: E402

KINDS = ("benchmark", "drawing", "formula", "format", "output", "configuration")
rows = [[part.strip() for part in line.rstrip("\n").split(" | ", 2)] for line in open(TOP + "/tests/support/doc_blocks.txt", encoding="utf-8") if line.strip() and not line.startswith("#")]
bad, used = [], set()
for document in DOCUMENTS:
    mine = [r for r in rows if r[0] == document]
    for line, text in blocks(document):
        first = text.split("\n")[0]
        row = next((r for r in mine if r[1] == "*" or first.startswith(r[1])), None)
        if row is None:
            bad.append("%s:%d: no test runs this block, says tests/support/doc_blocks.txt: %s" % (document, line, first))
        else:
            used.add(tuple(row))
for row in rows:
    if tuple(row) not in used:
        bad.append("tests/support/doc_blocks.txt: %s has no block that begins with %r" % (row[0], row[1]))
    what, _, test = row[2].partition(" ")
    if what == "run":
        path = os.path.join(TOP, test)
        known = os.path.exists(path) and open(path, encoding="utf-8").read()
        if not known or (os.path.basename(row[0]) not in known and row[1] not in known):
            bad.append("tests/support/doc_blocks.txt: %s: there is no %s, or it does not name this document" % (row[0], test))
    elif row[2] not in KINDS:
        bad.append("tests/support/doc_blocks.txt: %s: %r: must be run TEST, or one of %s" % (row[0], row[2], ", ".join(KINDS)))
print("\n".join("FAIL " + b for b in bad) + ("\n" if bad else "") + "%d passed, %d failed" % (len(used), len(bad)))
sys.exit(bool(bad))

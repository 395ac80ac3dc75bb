"""The code blocks of the documents: fenced ones, and lines indented by four or more below an empty line, a list's text or a comment of HTML."""
import glob
import os
import re

TOP = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
DOCUMENTS = ["README.md", "CONTRIBUTING.md"] + sorted(os.path.relpath(f, TOP) for f in glob.glob(TOP + "/docs/*.md"))


def blocks(document):
    """[(line number from 1, text)] of a document; indented text without its indent."""
    lines = open(os.path.join(TOP, document), encoding="utf-8").read().split("\n")
    found, i = [], 0
    while i < len(lines):
        if lines[i].startswith("```"):
            begin = i
            i += 1
            while i < len(lines) and not lines[i].startswith("```"):
                i += 1
            found.append((begin + 2, "\n".join(lines[begin + 1:i]) + "\n"))
        elif re.match(r" {4}", lines[i]) and (i == 0 or not lines[i - 1].strip() or lines[i - 1].startswith("<!--")):
            begin = i
            while i < len(lines) and (re.match(r" {4}", lines[i]) or (not lines[i].strip() and i + 1 < len(lines) and re.match(r" {4}", lines[i + 1]))):
                i += 1
            indent = min(len(s) - len(s.lstrip()) for s in lines[begin:i] if s.strip())
            found.append((begin + 1, "\n".join(s[indent:] for s in lines[begin:i]) + "\n"))
        i += 1
    return found

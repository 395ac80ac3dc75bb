"""bad_inputs.py TAUT FILES : the subcommands of `taut data` that read files, with damaged ones. FILES: a folder that
tests/support/foreign_files.py made. Each run has to end by itself with exit code 0, 1 or 2, without a word of a sanitizer; a refusal names what
was wrong; what is read back is what was put in. Prints what was tried by group, and "N passed, N failed, N skipped". SHARE=0.2: a fifth of the copies."""
import gzip, os, random, re, shutil, struct, subprocess, sys

taut, files = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
os.chdir(files)
random.seed(11)
here = os.path.dirname(os.path.abspath(__file__))
count = {}
passed = failed = skipped = 0
group = ""
SHARE = float(os.environ.get("SHARE", "1"))  # of the damaged copies
SANITIZERS = ("AddressSanitizer", "runtime error:", "LeakSanitizer", "UndefinedBehavior", "ThreadSanitizer")


def start(*words, front=(), limit=120):
    try:
        p = subprocess.run([*front, taut, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=limit)
        return p.returncode, p.stdout, p.stderr.decode(errors="replace")
    except subprocess.TimeoutExpired:
        return 124, b"", "took more than %d s" % limit


def verdict(ok, what, err=""):
    global passed, failed
    count[group] = count.get(group, 0) + 1
    if ok:
        passed += 1
    else:
        failed += 1
        print("FAIL %s: %s: %s" % (group, what, err[:300].replace("\n", " / ")), flush=True)
    return ok


def sound(code, err):
    return code in (0, 1, 2) and not any(s in err for s in SANITIZERS)


def refused(words, *cmd, codes=(1, 2), front=()):
    """exit code 1 or 2, and one sentence that has all `words` (regular expressions)"""
    code, out, err = start(*cmd, front=front)
    missing = [w for w in words if not re.search(w, err)]
    return verdict(sound(code, err) and code in codes and not missing, "%s: exit %d, missing %s" % (" ".join(cmd), code, missing), err)


def fine(*cmd, front=()):
    code, out, err = start(*cmd, front=front)
    verdict(sound(code, err) and code == 0, "%s: exit %d" % (" ".join(cmd), code), err)
    return out


def damaged(data, cuts, flips):
    """(what, bytes): cut short, longer, bits flipped, a run of zeros"""
    n, cuts, flips = len(data), int(cuts * SHARE), int(flips * SHARE + 0.5)
    places = sorted({int(n * k / cuts) for k in range(cuts)} | {n - 1, max(n - 8, 0)})
    for at in places:
        yield "cut at %d of %d" % (at, n), data[:at]
    yield "longer", data + b"\x00\x01\x02"
    for _ in range(flips):
        at, bit = random.randrange(n), random.randrange(8)
        yield "bit %d of byte %d of %d" % (bit, at, n), data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
    for _ in range(flips // 4):
        at = random.randrange(n)
        yield "zeros from %d of %d" % (at, n), (data[:at] + bytes(min(16, n - at)) + data[at + 16 :])


def save(path, data):
    with open(path, "wb") as f:
        f.write(data)


def load(path):
    with open(path, "rb") as f:
        return f.read()


def fields_of(shard):
    code, out, err = start("data", "info", shard, "--json")
    return re.findall(r'\{"name": "([^"]*)"', out.decode()) if code == 0 else []


def samples(shard):
    """what `taut data cat` gives, by field; None where it refuses"""
    found = {}
    for f in fields_of(shard):
        code, out, err = start("data", "cat", shard, "--field", f)
        if not sound(code, err):
            verdict(False, "cat %s %s: exit %d" % (shard, f, code), err)
        found[f] = out if code == 0 else None
    return found


# ---- the files, their indexes, what is in them ----
group = "setting up"
os.makedirs("w", exist_ok=True)
corpus = os.path.join(here, "..", "fuzz", "corpus", "arrow")
for a in ("plain.file", "plain.stream", "zstd.file", "legacy.stream"):
    save(a + ".arrow", load(os.path.join(corpus, a))[1:])
FORMATS = [  # name, files, options
    ("images-idx3", ["images-idx3"], []), ("floats-idx2", ["floats-idx2"], []), ("x.npy", ["x.npy"], []), ("ids.bin", ["ids.bin", "ids.idx"], []),
    ("ex.tfrecord", ["ex.tfrecord"], []), ("raw.tfrecord", ["raw.tfrecord"], ["--raw"]), ("gnu.tar", ["gnu.tar"], []), ("pax.tar", ["pax.tar"], []),
    ("ustar.tar", ["ustar.tar"], []), ("shard.00000.mds", ["mds/shard.00000.mds"], []), ("plain.file.arrow", ["plain.file.arrow"], []),
    ("plain.stream.arrow", ["plain.stream.arrow"], []), ("zstd.file.arrow", ["zstd.file.arrow"], []), ("legacy.stream.arrow", ["legacy.stream.arrow"], [])]


lines = b"".join(b"line %d of them, %d\n" % (i, i * 7919 % 30011) for i in range(3000))
save("lines", lines)
fine("data", "pack", "lines", "-o", "lines.taut", "--split", "lines", "--block", "1K", "--codec", "dict")
fine("data", "pack", "images-idx3", "labels-idx1", "-o", "im.taut", "--block", "1K")
fine("data", "index", "images-idx3", "labels-idx1", "-o", "imx.taut", "--block", "1K")


def put(name, parts, data=None, which=0):
    """the format's files in folder w, one of them with other bytes"""
    for k, p in enumerate(parts):
        save("w/" + os.path.basename(p), data if data is not None and k == which else load(p))
    return "w/" + name


def files_indexed():  # a damaged file is refused when it is indexed, or what is read from it stands in it
    global group, skipped
    group = "damaged files, indexed"
    for name, parts, options in FORMATS:
        for which, part in enumerate(parts):
            for what, data in damaged(load(part), 12, 12):
                path = put(name, parts, data, which)
                if os.path.exists("w/x.taut"):
                    os.remove("w/x.taut")
                code, out, err = start("data", "index", path, "-o", "w/x.taut", *options)
                base = os.path.basename(part)
                if code == 0:
                    back = start("data", "verify", "w/x.taut")
                    verdict(sound(0, err) and back[0] == 0, "%s, %s: indexed, but verify says" % (part, what), back[2])
                else:
                    verdict(sound(code, err) and os.path.splitext(base)[0] in err and not os.path.exists("w/x.taut"), "%s, %s: exit %d" % (part, what, code), err)

    group = "damaged files, packed"
    save("rows.jsonl", b"".join(b'{"text": "n\xc3\xa9e %d", "ids": [%d, 2], "label": "%c", "score": %d.5}\n' % (i, i, 97 + i % 3, i) for i in range(60)))
    save("rows.csv", b"name,x,label\n" + b"".join(b'"a, ""b"" %d",%d,%d\n' % (i, i - 30, i % 3) for i in range(60)))
    save("images.gz", gzip.compress(load("images-idx3")))
    for name, options in (("rows.jsonl", []), ("rows.csv", []), ("gnu.tar.txt.want", ["--split", "lines"]), ("images-idx3", []), ("images.gz", []), ("x.npy", []), ("y.npy", [])):
        for what, data in damaged(load(name), 12, 40):
            path = put(name, [name], data)
            code, out, err = start("data", "pack", path, "-o", "w/o.taut", *options)
            left = os.path.exists("w/o.taut")
            if code == 0:
                back = start("data", "verify", "w/o.taut")
                verdict(sound(0, err) and back[0] == 0, "%s, %s: packed, but verify says" % (name, what), back[2])
                os.remove("w/o.taut")
            else:
                verdict(sound(code, err) and name in err and not left, "%s, %s: exit %d" % (name, what, code), err)
    group = "damaged index.json of MDS"
    shutil.copytree("mds", "w/mds")
    for what, data in damaged(load("mds/index.json"), 8, 40):
        save("w/mds/index.json", data)
        for f in os.listdir("w/mds"):
            if f.endswith(".taut"):
                os.remove("w/mds/" + f)
        code, out, err = start("data", "index", "w/mds")
        verdict(sound(code, err) and (code == 0 or "w/mds" in err), "%s: exit %d" % (what, code), err)


def files_that_change():  # a file that changes under its index
    global group, skipped
    group = "changed under the index"
    for name, parts, options in FORMATS:
        path = put(name, parts)
        index = path + ".taut"
        if os.path.exists(index):
            os.remove(index)
        fine("data", "index", path, *options)
        right = samples(index)
        first = next(iter(right))
        readers = [["cat", index, "--field", first], ["verify", index], ["info", index], ["bench", index, "--seconds", "0", "--samples", "20"], ["info", "--repeats", "--exact", index],
                   ["export", index, "--select", first, "-o", "w/out.tar"], ["plan", "full", index, "-o", "w/x.plan"]]
        for which, part in enumerate(parts):
            good, target = load(part), "w/" + os.path.basename(part)
            changes = [("cut", good[: len(good) * 2 // 3]), ("longer", good + b"more"), ("empty", b""), ("another file", load("labels-idx1")), ("gone", None), ("a folder", None)]
            changes += [c for c in damaged(good, 0, 8) if c[0] != "longer" and len(c[1]) == len(good) and c[1] != good]
            for what, data in changes:
                if os.path.exists(target):
                    os.remove(target)
                if data is not None:
                    save(target, data)
                elif what == "a folder":
                    os.mkdir(target)
                for f, want in right.items():
                    code, out, err = start("data", "cat", index, "--field", f)
                    ok = sound(code, err) and (out == want if code == 0 else os.path.splitext(os.path.basename(part))[0] in err)
                    verdict(ok, "%s %s: cat of %s gives other samples, or no reason (exit %d)" % (part, what, f, code), err)
                if len(data or b"") != len(good):
                    for cmd in readers:
                        refused([re.escape(os.path.splitext(os.path.basename(part))[0])], "data", *cmd)
                else:
                    for cmd in readers:
                        code, out, err = start("data", *cmd)
                        verdict(sound(code, err), "%s %s: %s" % (part, what, " ".join(cmd)), err)
                for left in ("w/out.tar", "w/x.plan"):
                    if os.path.exists(left):
                        os.remove(left)
                if what == "a folder":
                    os.rmdir(target)
            save(target, good)


def shards():  # shards and indexes themselves
    global group, skipped
    group = "damaged shards"
    for shard in ("lines.taut", "im.taut", "imx.taut"):
        good, right = load(shard), samples(shard)
        for what, data in damaged(good, 10, 40):
            save("hurt.taut", data)
            found = samples("hurt.taut")
            verdict(all(v is None or v == right.get(k) for k, v in found.items()), "%s, %s: cat gives other samples" % (shard, what))
            code, out, err = start("data", "verify", "hurt.taut")
            verdict(sound(code, err) and (code == 0 or "hurt.taut" in err), "%s, %s: verify, exit %d" % (shard, what, code), err)
            for cmd in (["info"], ["info", "--repeats", "--exact"], ["bench", "--seconds", "0", "--samples", "5"], ["export", "-o", "w/out.tar"], ["plan", "rs2:budget=10%", "-o", "w/x.plan"],
                        ["plan", "dedup", "-o", "w/x.plan"]):
                words = cmd[:2] + ["hurt.taut"] + cmd[2:] if cmd[0] == "plan" else cmd + ["hurt.taut"]
                code, out, err = start("data", *words)
                verdict(sound(code, err) and (code == 0 or "hurt.taut" in err or "field" in err), "%s, %s: %s, exit %d" % (shard, what, " ".join(cmd), code), err)
                for left in ("w/out.tar", "w/x.plan"):
                    if os.path.exists(left):
                        os.remove(left)


GROUPS = [files_indexed, files_that_change, shards]
for g in GROUPS:
    if g.__name__ in os.environ.get("ONLY", g.__name__).split():
        g()
print("bad inputs: " + ", ".join("%s %d" % item for item in count.items()))
print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
sys.exit(failed > 0)

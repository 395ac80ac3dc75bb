"""foreign_pypi.py TAUT FOLDER: files written by the formats' own libraries (mosaicml-streaming, webdataset, numpy, pyarrow) are indexed and
read back, and what `taut data export` writes is read by them. Prints one line per check; the last one counts. test_foreign_pypi.sh runs it."""
import io, json, os, subprocess, sys

import numpy as np

taut, folder = sys.argv[1], sys.argv[2]
os.makedirs(folder, exist_ok=True)
os.chdir(folder)
passed = failed = skipped = 0


def run(*a):
    return subprocess.run([taut, "data", *a], capture_output=True, check=True).stdout


def cat(index, field):
    return run("cat", index, "--field", field)


def check(text, what):
    global passed, failed
    try:
        good = what()
    except Exception as e:
        good = False
        text += ": %s %s" % (e, getattr(e, "stderr", b"")[-300:])
    passed, failed = passed + bool(good), failed + (not good)
    if not good:
        print("FAIL", text, flush=True)


def library(name):
    global skipped
    try:
        return __import__(name)
    except ImportError as e:
        skipped += 1
        print("SKIP %s cannot be imported: %s" % (name, e))


rng = np.random.default_rng(4)
N = 500
label = rng.integers(0, 10, N).astype("i8")
image = rng.integers(0, 256, (N, 12, 10, 3)).astype("u1")
text = ["text %d née %s" % (i, "word " * (i % 9)) for i in range(N)]
vector = rng.normal(size=(N, 7)).astype("f4")
ids = [rng.integers(0, 50000, 1 + i % 33).astype("u2") for i in range(N)]
joined = "".join(text).encode()


def same(index, **fields):
    return all(cat(index, k) == v for k, v in fields.items()) and run("verify", index)


def numpy_both_ways():
    for name, a in (("image", image), ("vector", vector), ("wide", vector.astype("f8")), ("big", vector.astype(">f4")), ("label", label)):
        np.save(name, a)
    run("index", "image.npy", "vector.npy", "wide.npy", "big.npy", "label.npy", "-o", "npy.taut")
    check("npy", lambda: same("npy.taut", image=image.tobytes(), vector=vector.tobytes(), wide=vector.astype("f8").tobytes(), big=vector.tobytes(), label=label.tobytes()))
    run("export", "npy.taut", "-o", "arrays", "--format", "npy")
    check("npy exported", lambda: all(np.array_equal(np.load("arrays/%s.npy" % k), v) for k, v in (("image", image), ("vector", vector), ("label", label))))
    run("export", "npy.taut", "--select", "vector", "-o", "one.npy")
    check("one npy", lambda: np.array_equal(np.load("one.npy", mmap_mode="r"), vector))


def arrow():
    pa = library("pyarrow")
    if not pa:
        return
    import pyarrow.ipc as ipc
    table = pa.table({"text": text, "large": pa.array(text, pa.large_utf8()), "raw": pa.array([t.encode() for t in text], pa.binary()), "label": label,
                      "vector": pa.FixedSizeListArray.from_arrays(pa.array(vector.ravel()), 7), "ids": pa.array([i.tolist() for i in ids], pa.list_(pa.uint16())),
                      "name": pa.array(["cat dog emu".split()[i % 3] for i in range(N)]).dictionary_encode()})
    name = "".join("cat dog emu".split()[i % 3] for i in range(N)).encode()
    for kind, make in (("file", ipc.new_file), ("stream", ipc.new_stream)):
        for comp in (None, "zstd"):
            for chunk in (N, 64, 1):
                path = "%s-%s-%d.arrow" % (kind, comp, chunk)
                with make(path, table.schema, options=ipc.IpcWriteOptions(compression=comp)) as w:
                    for b in table.to_batches(max_chunksize=chunk):
                        w.write_batch(b)
                run("index", path)
                check(path, lambda: same(path + ".taut", text=joined, large=joined, raw=joined, label=label.tobytes(), vector=vector.tobytes(),
                                         ids=np.concatenate(ids).tobytes(), name=name))
    with ipc.new_stream("delta.arrow", pa.schema({"s": pa.dictionary(pa.int8(), pa.utf8())}), options=ipc.IpcWriteOptions(emit_dictionary_deltas=True)) as w:
        for values in (["a", "bb"], ["a", "bb", "ccc"], ["x", "y"]):
            d = pa.DictionaryArray.from_arrays(pa.array(range(len(values)), pa.int8()), values)
            w.write_batch(pa.record_batch([d], names=["s"]))
    run("index", "delta.arrow")
    check("dictionaries that grow and are replaced", lambda: same("delta.arrow.taut", s=b"abb" + b"abbccc" + b"xy"))
    sliced = table.slice(37, 100)
    with ipc.new_file("slice.arrow", table.schema) as w:
        w.write_table(sliced)
    run("index", "slice.arrow")
    check("a slice", lambda: same("slice.arrow.taut", text="".join(text[37:137]).encode(), vector=vector[37:137].tobytes()))


def webdataset():
    wds = library("webdataset")
    if not wds:
        return
    with wds.TarWriter("made.tar") as w:
        for i in range(N):
            w.write({"__key__": "k/%06d" % i, "txt": text[i], "cls": int(label[i]), "vector.npy": vector[i], "image.ppm": image[i], "ids.npy": ids[i]})
    run("index", "made.tar")
    check("tar of webdataset", lambda: same("made.tar.taut", txt=joined, cls=label.tobytes(), vector=vector.tobytes(), image=image.tobytes(), ids=np.concatenate(ids).tobytes()))
    run("export", "made.tar.taut", "-o", "out.tar")

    def back():
        got = list(wds.WebDataset("out.tar", shardshuffle=False).decode())
        return len(got) == N and all(s["txt"] == text[i] and s["cls"] == label[i] and np.array_equal(s["vector.npy"], vector[i]) and
                                     np.array_equal(s["image.npy"], image[i]) and np.array_equal(s["ids.npy"], ids[i]) for i, s in enumerate(got))
    check("exported tar read by webdataset", back)
    run("index", "out.tar")
    check("exported tar indexed again", lambda: same("out.tar.taut", txt=joined, cls=label.tobytes(), image=image.tobytes()))


def mosaic():
    streaming = library("streaming")
    if not streaming:
        return
    from PIL import Image
    columns = {"text": "str", "label": "int", "image": "ndarray:uint8:12,10,3", "ids": "ndarray:uint16", "any": "ndarray", "score": "float32", "pic": "pil",
               "photo": "jpeg", "digits": "str_int", "meta": "json", "raw": "bytes"}
    with streaming.MDSWriter(out="made-mds", columns=columns, size_limit=1 << 17, hashes=["xxh64"]) as w:
        for i in range(N):
            w.write({"text": text[i], "label": int(label[i]), "image": image[i], "ids": ids[i], "any": vector[i], "score": vector[i][0], "pic": Image.fromarray(image[i]),
                     "photo": Image.fromarray(image[i]), "digits": int(label[i]) - 5, "meta": {"i": i}, "raw": text[i].encode()})
    run("index", "made-mds")
    shards = sorted(f for f in os.listdir("made-mds") if f.endswith(".mds"))
    all_of = lambda field: b"".join(cat("made-mds/%s.taut" % s, field) for s in shards)
    check("MDS of several shards", lambda: len(shards) > 2 and all(run("verify", "made-mds/%s.taut" % s) for s in shards))
    for field, value in (("text", joined), ("label", label.tobytes()), ("image", image.tobytes()), ("pic", image.tobytes()), ("ids", np.concatenate(ids).tobytes()),
                         ("any", vector.tobytes()), ("score", vector[:, 0].tobytes()), ("digits", (label - 5).tobytes()), ("raw", joined),
                         ("meta", "".join(json.dumps({"i": i}) for i in range(N)).encode())):
        check("MDS: " + field, lambda: all_of(field) == value)
    run("export", *("made-mds/%s.taut" % s for s in shards), "-o", "out-mds", "--shard-bytes", "100K")

    def back():
        d = streaming.StreamingDataset(local="out-mds", shuffle=False, batch_size=1, validate_hash="xxh64")
        return len(d) == N and all(s["text"] == text[i] and s["label"] == label[i] and np.array_equal(s["image"], image[i]) and np.array_equal(s["ids"], ids[i]) and
                                   np.array_equal(s["any"], vector[i]) and s["score"] == vector[i][0] and s["raw"] == text[i].encode() and
                                   np.array_equal(s["pic"], image[i]) and s["photo"].size == (10, 12) for i, s in ((i, d[i]) for i in range(N)))
    check("exported MDS read by mosaicml-streaming", back)
    with streaming.MDSWriter(out="zip-mds", columns={"text": "str"}, compression="zstd", keep_local=True) as w:
        w.write({"text": "x"})
    check("compressed MDS is refused", lambda: b"is compressed" in subprocess.run([taut, "data", "index", "zip-mds"], capture_output=True).stderr)


for part in (numpy_both_ways, arrow, webdataset, mosaic):
    check(part.__name__, lambda: part() or True)
print("%d passed, %d failed%s" % (passed, failed, ", %d skipped" % skipped if skipped else ""))
sys.exit(failed > 0)

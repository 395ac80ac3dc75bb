"""arrow_seeds.py FOLDER: the Arrow files of tests/fuzz/corpus/arrow, by pyarrow, and NAME.FIELD.want beside them as foreign_files.py makes
them. Run by hand when they are to change: python3 arrow_seeds.py tests/fuzz/corpus/arrow."""
import struct, sys
import numpy as np, pyarrow as pa, pyarrow.ipc as ipc

N, rng = 24, np.random.default_rng(2)
text = ["née %d %s" % (i, "ab " * (i % 4)) for i in range(N)]
x = rng.normal(size=(N, 3)).astype("f4")
tokens = [rng.integers(0, 1000, i % 5).astype("i4").tolist() for i in range(N)]
names = [["cat", "dog", "emu"][i % 3] for i in range(N)]
image = rng.integers(0, 255, N * 6).astype("u1")
columns = {
    "text": pa.array(text), "big": pa.array(text, pa.large_utf8()), "bin": pa.array([t.encode() for t in text], pa.binary()),
    "x": pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), 3), "label": pa.array(rng.integers(0, 4, N)),
    "tokens": pa.array(tokens, pa.list_(pa.int32())), "name": pa.array(names).dictionary_encode(), "fb": pa.array([b"abcd"] * N, pa.binary(4)),
    "image": pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(pa.array(image), 3), 2),
}
table = pa.table(columns)


def write(name, t, options=0, stream=False, chunk=10, **k):
    path = sys.argv[1] + "/" + name
    sink = pa.BufferOutputStream()
    with (ipc.new_stream if stream else ipc.new_file)(sink, t.schema, options=ipc.IpcWriteOptions(**k)) as w:
        for b in t.to_batches(max_chunksize=chunk):
            w.write_batch(b)
    with open(path, "wb") as f:
        f.write(bytes([options]) + sink.getvalue().to_pybytes())


for comp in (None, "zstd"):
    write("%s.file" % (comp or "plain"), table, compression=comp)
    write("%s.stream" % (comp or "plain"), table, stream=True, compression=comp)
write("label.file", table.select(["x", "name"]), options=4)
write("legacy.stream", table.select(["text", "x"]), stream=True, use_legacy_format=True)
write("lz4.file", table.select(["x"]), compression="lz4")
write("nulls.file", pa.table({"x": pa.array([1, None, 3])}))
write("others.file", pa.table({"x": pa.array([1, 2]), "s": pa.array([{"a": 1}, {"a": 2}]), "b": pa.array([True, False]), "l": pa.array([[["u"]], []])}), options=8)
want = {"text": "".join(text).encode(), "big": "".join(text).encode(), "bin": "".join(text).encode(), "x": x.tobytes(),
        "label": columns["label"].to_numpy().tobytes(), "tokens": np.array(sum(tokens, []), "i4").tobytes(), "name": "".join(names).encode(), "fb": b"abcd" * N,
        "image": image.tobytes()}
for k, v in want.items():
    with open("%s/../arrow.%s.want" % (sys.argv[1], k), "wb") as f:
        f.write(v)

"""foreign_files.py FOLDER: small files of every format that `taut data index` reads, made from the formats' descriptions with Python's
standard library alone, and beside each the samples as they should come back: NAME.FIELD.want, one behind the other. Bad files are in
FOLDER/bad. Arrow files, whose metadata takes a FlatBuffers library to write, are in tests/fuzz/corpus/arrow."""
import io, json, os, random, struct, sys, tarfile, zlib

random.seed(5)
N = 120
out = sys.argv[1]
os.makedirs(out + "/bad", exist_ok=True)
os.chdir(out)

labels = [i * 7 % 4 for i in range(N)]
images = [bytes((40 * labels[i] + x * y + random.randint(0, 9)) & 255 for y in range(8) for x in range(8)) for i in range(N)]
texts = ["sample %d: née %s\n" % (i, "the quick brown fox " * (i % 5)) for i in range(N)]
floats = [struct.pack("<6f", *(random.gauss(labels[i], 1) for _ in range(6))) for i in range(N)]
tokens = [[random.randint(0, 60000) for _ in range(random.randint(1, 40))] for _ in range(N)]
blobs = [bytes(random.randint(0, 255) for _ in range(i % 50)) for i in range(N)]


def save(name, data):
    with open(name, "wb") as f:
        f.write(data)


def want(name, field, values):
    save("%s.%s.want" % (name, field), b"".join(values))


i64 = lambda values: [struct.pack("<q", v) for v in values]

# ---- IDX ----
idx = lambda kind, shape, data: struct.pack(">BBBB", 0, 0, kind, len(shape)) + struct.pack(">%dI" % len(shape), *shape) + data
save("images-idx3", idx(8, (N, 8, 8), b"".join(images)))
save("labels-idx1", idx(8, (N,), bytes(labels)))
want("idx", "image", images)
want("idx", "label", [bytes([v]) for v in labels])
save("floats-idx2", idx(13, (N, 6), struct.pack(">%df" % (6 * N), *struct.unpack("<%df" % (6 * N), b"".join(floats)))))
want("floats-idx2", "floats-idx2", floats)
save("bad/cut-idx", idx(8, (N, 8, 8), b"".join(images))[:-5])
save("bad/longer-idx", idx(8, (N, 8, 8), b"".join(images)) + b"x")
save("bad/huge-idx", idx(8, (0xFFFFFFFF, 0xFFFF, 0xFFFF), b"0"))


# ---- .npy ----
def npy(descr, shape, data, fortran=False, version=1):
    h = "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }" % (descr, fortran, shape)
    size = 10 if version == 1 else 12
    h += " " * (63 - (size + len(h)) % 64) + "\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(h)) + h.encode() + data


save("x.npy", npy("<f4", (N, 6), b"".join(floats)))
save("y.npy", npy("<i8", (N,), b"".join(i64(labels)), version=2))
want("npy", "x", floats)
want("npy", "label", i64(labels))
save("bad/fortran.npy", npy("<f4", (N, 6), b"".join(floats), True))
save("bad/half.npy", npy("<f2", (N, 6), b"0" * 12 * N))
save("bad/cut.npy", npy("<f4", (N, 6), b"".join(floats)[:-1]))
save("bad/head.npy", b"\x93NUMPY\x01\x00\xff\xff{'descr'")
save("bad/fewer.npy", npy("<f4", (N - 1, 6), b"".join(floats[1:])))


# ---- Megatron ----
def megatron(name, code, fmt, seqs):
    data, offsets, at = b"", [], 0
    for s in seqs:
        offsets.append(at)
        data += struct.pack("<%d%s" % (len(s), fmt), *s)
        at += len(s) * struct.calcsize(fmt)
    save(name + ".bin", data)
    idx = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, code, len(seqs), len(seqs) + 1)
    idx += struct.pack("<%di" % len(seqs), *map(len, seqs)) + struct.pack("<%dq" % len(seqs), *offsets)
    idx += struct.pack("<%dq" % (len(seqs) + 1), *range(len(seqs) + 1))
    save(name + ".idx", idx)
    return idx


u16 = [struct.pack("<%dH" % len(s), *s) for s in tokens]
u32 = [struct.pack("<%dI" % len(s), *s) for s in tokens]
good = megatron("ids", 8, "H", tokens)
megatron("wide", 4, "i", tokens)
want("ids", "tokens", u16)
want("wide", "tokens", u32)
outside = bytearray(good)
struct.pack_into("<q", outside, 34 + 4 * N + 8 * 50, 1 << 40)  # offset of sequence 50
for name, idx_bytes in (("outside", bytes(outside)), ("cut", good[:-9]), ("version", good[:9] + b"\x02" + good[10:])):
    save("bad/%s.idx" % name, idx_bytes)
    save("bad/%s.bin" % name, b"".join(u16))
long = bytearray(good)
struct.pack_into("<i", long, 34 + 4 * (N - 1), 1 << 20)  # length of the last sequence
save("bad/long.idx", bytes(long))
save("bad/long.bin", b"".join(u16))
minus = megatron("bad/minus", 4, "i", [[1, 2], [3, -4]])

# ---- TFRecord ----
table = []
for n in range(256):
    for _ in range(8):
        n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
    table.append(n)


def masked(data):
    c = 0xFFFFFFFF
    for b in data:
        c = table[(c ^ b) & 255] ^ c >> 8
    c ^= 0xFFFFFFFF
    return struct.pack("<I", ((c >> 15 | c << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(data):
    n = struct.pack("<Q", len(data))
    return n + masked(n) + data + masked(data)


def varint(v):
    v &= (1 << 64) - 1
    b = b""
    while v > 127:
        b += bytes([v & 127 | 128])
        v >>= 7
    return b + bytes([v])


field = lambda number, data: varint(number << 3 | 2) + varint(len(data)) + data
bytes_feature = lambda v: field(1, field(1, v))
ints_feature = lambda v: field(3, field(1, b"".join(map(varint, v))))
ints_unpacked = lambda v: field(3, b"".join(b"\x08" + varint(x) for x in v))
floats_feature = lambda b: field(2, field(1, b))


def example(features):
    return field(1, b"".join(field(1, field(1, k.encode()) + field(2, v)) for k, v in features))


def records(swap=False):
    for i in range(N):
        f = [("pixels", bytes_feature(images[i])), ("label", (ints_unpacked if i % 2 else ints_feature)([labels[i]])), ("x", floats_feature(floats[i])),
             ("text", bytes_feature(texts[i].encode())), ("ids", ints_feature([v - 30000 for v in tokens[i]]))]
        yield record(example(f[::-1] if i % 3 else f))


recs = list(records())
save("ex.tfrecord", b"".join(recs))
want("ex.tfrecord", "pixels", images)
want("ex.tfrecord", "label", i64(labels))
want("ex.tfrecord", "x", floats)
want("ex.tfrecord", "text", [t.encode() for t in texts])
want("ex.tfrecord", "ids", [b"".join(i64([v - 30000 for v in t])) for t in tokens])
save("raw.tfrecord", b"".join(map(record, blobs)))
want("raw.tfrecord", "record", blobs)
bad = bytearray(b"".join(recs))
bad[sum(map(len, recs[:17])) + 40] ^= 4
save("bad/crc.tfrecord", bytes(bad))
bad = bytearray(b"".join(recs))
bad[sum(map(len, recs[:3])) + 2] ^= 1
save("bad/length.tfrecord", bytes(bad))
save("bad/cut.tfrecord", b"".join(recs)[:-3])
save("bad/example.tfrecord", b"".join(recs[:2]) + record(b"\xff\xff"))
save("bad/missing.tfrecord", b"".join(recs[:2]) + record(example([("label", ints_feature([1]))])))


# ---- tar ----
def tar(name, members, format=tarfile.GNU_FORMAT, mode="w"):
    with tarfile.open(name, mode, format=format) as t:
        for n, data in members:
            i = tarfile.TarInfo(n)
            i.size = len(data)
            i.mtime = 1
            t.addfile(i, io.BytesIO(data))


def members(prefix=""):
    for i in range(N):
        k = "%s%06d" % (prefix, i)
        yield k + ".txt", texts[i].encode()
        yield k + ".cls", b"%d" % labels[i]
        yield k + ".image.pgm", b"P5\n# a comment\n8 8\n255\n" + images[i]
        yield k + ".x.npy", npy("<f4", (6,), floats[i])
        yield k + ".jpg", b"\xff\xd8\xff" + blobs[i]


for name, fmt, prefix in (("gnu.tar", tarfile.GNU_FORMAT, "d/"), ("pax.tar", tarfile.PAX_FORMAT, "née/" + "long-" * 40 + "/"), ("long.tar", tarfile.GNU_FORMAT, "long-" * 40 + "/"),
                          ("ustar.tar", tarfile.USTAR_FORMAT, "folder-" * 12 + "/" + "part-" * 10 + "/")):
    tar(name, members(prefix), fmt)
    want(name, "txt", [t.encode() for t in texts])
    want(name, "cls", i64(labels))
    want(name, "image", images)
    want(name, "x", floats)
    want(name, "jpg", [b"\xff\xd8\xff" + b for b in blobs])
tar("bad/gz.tar.gz", members(), mode="w:gz")
ms = list(members())
tar("bad/hole.tar", ms[:21] + ms[22:])  # sample 4 has no .cls
tar("bad/digits.tar", ms[:1] + [(ms[1][0], b"two")] + ms[2:5])
data = open("gnu.tar", "rb").read()
save("bad/cut.tar", data[: data.index(b"d/000050.jpg") + 300])
bad = bytearray(data)
bad[data.index(b"d/000033.cls") + 3] ^= 1
save("bad/sum.tar", bytes(bad))


def sparse(kind):
    h = bytearray(512)
    h[0:6] = b"s.data"
    h[100:108] = b"0000644\0"
    h[108:116] = h[116:124] = b"0000000\0"
    h[124:136] = b"%011o\0" % 512
    h[136:148] = b"%011o\0" % 1
    h[156:157] = kind
    h[257:265] = b"ustar  \0"
    h[148:156] = b" " * 8
    h[148:156] = b"%06o\0 " % sum(h)
    return bytes(h) + b"\0" * 512


save("bad/sparse.tar", sparse(b"S") + b"\0" * 1024)
pax = b"30 GNU.sparse.major=1".ljust(29) + b"\n"
with tarfile.open("bad/sparse-pax.tar", "w", format=tarfile.PAX_FORMAT) as t:
    i = tarfile.TarInfo("s.data")
    i.size = 10
    i.pax_headers = {"GNU.sparse.major": "1"}
    t.addfile(i, io.BytesIO(b"0123456789"))

# ---- MDS ----
columns = {"text": "str", "label": "int", "image": "ndarray:uint8:8,8", "ids": "ndarray:uint16", "blob": "bytes", "weight": "float32"}
sizes = {"label": 8, "image": 64, "weight": 4}
config = {"version": 2, "format": "mds", "compression": None, "hashes": [], "size_limit": 1 << 26, "column_names": sorted(columns),
          "column_encodings": [columns[k] for k in sorted(columns)], "column_sizes": [sizes.get(k) for k in sorted(columns)]}


def mds_sample(i):
    t = tokens[i]
    values = {"text": texts[i].encode(), "label": struct.pack("<q", labels[i]), "image": images[i], "ids": bytes([1 << 2, len(t)]) + struct.pack("<%dH" % len(t), *t),
              "blob": blobs[i], "weight": floats[i][:4]}
    v = [values[k] for k in sorted(columns)]
    return b"".join(struct.pack("<I", len(values[k])) for k in sorted(columns) if k not in sizes) + b"".join(v)


def mds(samples, conf=config):
    head = json.dumps(conf, sort_keys=True).encode()
    at = 4 + 4 * (len(samples) + 1) + len(head)
    offsets = [at]
    for s in samples:
        offsets.append(offsets[-1] + len(s))
    return struct.pack("<I", len(samples)) + struct.pack("<%dI" % len(offsets), *offsets) + head + b"".join(samples)


os.makedirs("mds", exist_ok=True)
os.makedirs("bad/zip", exist_ok=True)
os.makedirs("bad/wrong", exist_ok=True)
half = N // 2
shards = []
for k, part in enumerate((range(half), range(half, N))):
    data = mds([mds_sample(i) for i in part])
    name = "shard.%05d.mds" % k
    save("mds/" + name, data)
    shards.append(dict(config, raw_data={"basename": name, "bytes": len(data), "hashes": {}}, zip_data=None, samples=len(part)))
    want("mds/" + name, "text", [texts[i].encode() for i in part])
    want("mds/" + name, "label", i64(labels[i] for i in part))
    want("mds/" + name, "image", [images[i] for i in part])
    want("mds/" + name, "ids", [struct.pack("<%dH" % len(tokens[i]), *tokens[i]) for i in part])
    want("mds/" + name, "blob", [blobs[i] for i in part])
    want("mds/" + name, "weight", [floats[i][:4] for i in part])
save("mds/index.json", json.dumps({"version": 2, "shards": shards}).encode())
save("bad/zip/index.json", json.dumps({"version": 2, "shards": [dict(shards[0], zip_data={"basename": "shard.00000.mds.zstd", "bytes": 9})]}).encode())
save("bad/zip/shard.00000.mds.zstd", b"\x28\xb5\x2f\xfd123")
save("bad/wrong/index.json", json.dumps({"version": 2, "shards": [dict(shards[0], samples=7)]}).encode())
save("bad/wrong/shard.00000.mds", open("mds/shard.00000.mds", "rb").read())
data = bytearray(mds([mds_sample(i) for i in range(half)]))
first = struct.unpack_from("<I", data, 4 + 4 * 5)[0]
struct.pack_into("<I", data, first, 99999)  # a size of sample 5
save("bad/sizes.mds", bytes(data))
save("bad/cut.mds", mds([mds_sample(i) for i in range(half)])[:-4])
save("bad/json.mds", struct.pack("<III", 1, 22, 30) + b"{not json}" + b"12345678")
save("bad/half.mds", mds([b"12"], dict(config, column_names=["h"], column_encodings=["float16"], column_sizes=[2])))

for name in ("empty.npy", "empty.tar", "empty.mds", "empty.tfrecord", "empty.arrow", "empty-idx"):
    save("bad/" + name, b"")
save("bad/zeros.tar", b"\0" * 10240)
save("bad/joined.tar", open("gnu.tar", "rb").read() + open("pax.tar", "rb").read())
tar("linked.tar", [("1.txt", b"one"), ("2.txt", b"two")])
with tarfile.open("linked.tar", "a") as t:
    for kind, n in ((tarfile.LNKTYPE, "3.txt"), (tarfile.SYMTYPE, "4.txt"), (tarfile.SYMTYPE, "latest")):
        i = tarfile.TarInfo(n)
        i.type, i.linkname = kind, "1.txt"
        t.addfile(i)
save("bad/none.tar", open("gnu.tar", "rb").read()[:0] + b"")
save("bad/text.tfrecord", b"this is no such file, it is a text")
save("bad/notutf8.tfrecord", b"".join(recs[:0]) + record(example([("t", bytes_feature(b"fine"))])))

# ---- seeds of the fuzzers: foreign_files.py FOLDER SEEDS (tests/fuzz/corpus) ----
if len(sys.argv) > 2:
    def seed(fmt, name, data, options=0):
        os.makedirs("%s/%s" % (sys.argv[2], fmt), exist_ok=True)
        save("%s/%s/%s" % (sys.argv[2], fmt, name), bytes([options]) + data)

    few = [(n, d) for n, d in members() if n < "000002"]
    for name, fmt, ms in (("gnu", tarfile.GNU_FORMAT, few), ("pax", tarfile.PAX_FORMAT, [("long-" * 30 + n, d) for n, d in few[:4]]),
                          ("long", tarfile.GNU_FORMAT, [("long-" * 30 + n, d) for n, d in few[:4]])):
        tar("seed.tar", ms, fmt)
        data = open("seed.tar", "rb").read()
        seed("tar", name, data[: len(data.rstrip(b"\0")) // 512 * 512 + 1024])
    seed("tar", "sparse", sparse(b"S") + b"\0" * 1024)
    seed("mds", "two", mds([mds_sample(i) for i in range(2)]))
    seed("mds", "select", mds([mds_sample(i) for i in range(2)]), 8)
    for e in ("pil", "ndarray", "str_int", "ndarray:int32"):
        v = {"pil": struct.pack("<III", 2, 1, 1) + b"Lab", "ndarray": bytes([34, 2 << 2, 1, 2]) + b"12345678", "str_int": b"-17", "ndarray:int32": bytes([1 << 2, 1]) + b"abcd"}[e]
        seed("mds", e.replace(":", "-"), mds([struct.pack("<I", len(v)) + v] * 2, dict(config, column_names=["x"], column_encodings=[e], column_sizes=[None])))
    seed("tfrecord", "examples", b"".join(recs[:3]))
    seed("tfrecord", "raw", b"".join(map(record, blobs[:5])), 2)
    seed("npy", "f4", npy("<f4", (3, 2), b"abcdefgh" * 3))
    seed("npy", "big", npy(">i8", (2,), b"abcdefgh" * 2, version=2))
    seed("idx", "u8", idx(8, (2, 2, 3), b"abcdefghijkl"))
    seed("idx", "i32", idx(12, (2,), b"abcdefgh"))
    index = megatron("seed", 8, "H", tokens[:3])
    seed("megatron", "u16", struct.pack("<H", len(index)) + index + open("seed.bin", "rb").read())
    index = megatron("seed", 4, "i", tokens[:3])
    seed("megatron", "i32", struct.pack("<H", len(index)) + index + open("seed.bin", "rb").read())
    for k in range(5):
        places = b"\x00\x04\x00\x00\x00" if k < 2 else b"\x01\x08\x02\x00\x00\x00\x55\x04\x00\x00\x02"
        seed("places", "as%d" % k, bytes([2 if k < 2 else 7, 3, 0x55, len(places)]) + places + b"0123456789abcdef 12 34 56 78", k)

#!/usr/bin/env python3
"""A reader of shards written from docs/shard-format.md alone: Python's standard library and the zstd command.

    shard_reader.py SHARD FIELD > samples      every sample of a field, one behind the other; checks every checksum
    shard_reader.py SHARD --frames             walks the frames of the file and compares the seek table with them
"""
import os, struct, subprocess, sys, tempfile

FRONT, SAMPLES, PAYLOAD, SHARED, META, SEEK = 0x184D2A50, 0x184D2A51, 0x184D2A52, 0x184D2A53, 0x184D2A54, 0x184D2A5E


def crc32c(data, table=[]):
    if not table:
        for i in range(256):
            c = i
            for _ in range(8):
                c = c >> 1 ^ 0x82F63B78 if c & 1 else c >> 1
            table.append(c)
    c = 0xFFFFFFFF
    for b in data:
        c = c >> 8 ^ table[(c ^ b) & 255]
    return c ^ 0xFFFFFFFF


def xxh64(data):
    M = (1 << 64) - 1
    P1, P2, P3, P4, P5 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
    rot = lambda x, r: (x << r | x >> (64 - r)) & M
    step = lambda a, x: rot((a + x * P2) & M, 31) * P1 & M
    n, at = len(data), 0
    if n >= 32:
        v = [(P1 + P2) & M, P2, 0, -P1 & M]
        while at + 32 <= n:
            for i, x in enumerate(struct.unpack_from("<4Q", data, at)):
                v[i] = step(v[i], x)
            at += 32
        h = (rot(v[0], 1) + rot(v[1], 7) + rot(v[2], 12) + rot(v[3], 18)) & M
        for x in v:
            h = ((h ^ step(0, x)) * P1 + P4) & M
    else:
        h = P5
    h = (h + n) & M
    while at + 8 <= n:
        h = (rot(h ^ step(0, struct.unpack_from("<Q", data, at)[0]), 27) * P1 + P4) & M
        at += 8
    if at + 4 <= n:
        h = (rot(h ^ struct.unpack_from("<I", data, at)[0] * P1 & M, 23) * P2 + P3) & M
        at += 4
    for b in data[at:]:
        h = rot(h ^ b * P5 & M, 11) * P1 & M
    h = (h ^ h >> 33) * P2 & M
    h = (h ^ h >> 29) * P3 & M
    return h ^ h >> 32


def zstd(frame, dictionary=None):
    args = ["zstd", "-dcq", "--no-check"]
    with tempfile.NamedTemporaryFile() as f:
        if dictionary is not None:
            f.write(dictionary)
            f.flush()
            args += ["-D", f.name]
        return subprocess.run(args, input=frame, stdout=subprocess.PIPE, check=True).stdout


def packed(data, n, width):
    v = int.from_bytes(data, "little")
    return [v >> i * width & ((1 << width) - 1) for i in range(n)]


def stream(p, at):
    """zpack: decoded u32, stored u32, bytes"""
    n, stored = struct.unpack_from("<II", p, at)
    raw = p[at + 8 : at + 8 + stored]
    out = raw if stored == n else zstd(raw)
    assert len(out) == n
    return out, at + 8 + stored


def leb128(p):
    out, v, shift = [], 0, 0
    for b in p:
        v |= (b & 127) << shift
        shift += 7
        if not b & 128:
            out.append(v)
            v = shift = 0
    return out


def unzigzag(v):
    return v >> 1 ^ -(v & 1)


SIZES = [1, 1, 2, 2, 4, 4, 8, 8, 4, 8]


class Field:
    def __init__(self, p):
        self.name = p[:48].split(b"\0")[0].decode()
        self.codec = p[48:112].split(b"\0")[0].decode().split(":")[0]
        self.spec = p[48:112].split(b"\0")[0].decode()
        self.kind, self.type, self.variable, self.ndim = p[112:116]
        self.shape = struct.unpack_from("<4Q", p, 120)[: self.ndim]
        self.sample_bytes, self.decoded, self.stored = struct.unpack_from("<3Q", p, 152)
        self.shared_at, self.shared_bytes, self.shared_crc = struct.unpack_from("<QQI", p, 200)
        self.size = SIZES[self.type]
        self.shared = None


class Shard:
    def __init__(self, path):
        d = self.d = open(path, "rb").read()
        assert struct.unpack_from("<II8sI", d, 0) == (FRONT, 72, b"TAUTSHRD", 1)
        self.file_bytes, meta, meta_bytes, self.hash, meta_crc = struct.unpack_from("<4QI", d, 24)
        assert crc32c(d[:76]) == struct.unpack_from("<I", d, 76)[0] and self.file_bytes == len(d)
        m = d[meta : meta + meta_bytes]
        assert crc32c(m) == meta_crc and xxh64(m) == self.hash
        assert struct.unpack_from("<II8s", m, 0) == (META, meta_bytes - 8, b"TAUTMETA")
        self.samples, self.per_block, self.blocks, n, source, labels = struct.unpack_from("<3Q3I", m, 16)
        self.fields = [Field(m[64 + 264 * i : 64 + 264 * (i + 1)]) for i in range(n)]
        at = 64 + 264 * n
        self.source, self.labels = m[at : at + source].decode(), m[at + source : at + source + labels].decode()
        self.parts, offset, at = [], 80, at + source + labels
        for i in range(self.blocks * n):
            stored, decoded, crc, xxh = struct.unpack_from("<IIIQ", m, at + 20 * i)
            self.parts.append((offset, stored, decoded, crc, xxh))
            offset += stored
        for f in self.fields:
            if f.shared_bytes:
                s = d[f.shared_at : f.shared_at + f.shared_bytes]
                assert f.shared_at == offset and crc32c(s) == f.shared_crc and struct.unpack_from("<II", s, 0) == (SHARED, len(s) - 8)
                f.shared = s[8:]
                offset += f.shared_bytes
        assert offset == meta

    def part(self, f, b):
        """Decoded bytes of a part and the lengths of its samples."""
        field = self.fields[f]
        offset, stored, decoded, crc, xxh = self.parts[b * len(self.fields) + f]
        p = self.d[offset : offset + stored]
        n = min(self.per_block, self.samples - b * self.per_block)
        assert crc32c(p) == crc, "CRC32C of block %d" % b
        lengths, sums = [field.sample_bytes] * n, None
        if field.variable or field.codec == "raw":
            magic, size, flags, width, _, shortest = struct.unpack_from("<IIBBHI", p, 0)
            head = p[: size + 8]
            assert magic == SAMPLES and flags == (1 if field.variable else 0) + (2 if field.codec == "raw" else 0)
            assert crc32c(head[:-4]) == struct.unpack("<I", head[-4:])[0]
            bits = (n * width + 7) // 8
            if field.variable:
                lengths = [shortest + v for v in packed(head[16 : 16 + bits], n, width)] if width else [shortest] * n
            if field.codec == "raw":
                sums = struct.unpack_from("<%dI" % n, head, 16 + bits)
            p = p[size + 8 :]
        if field.codec not in ("raw", "zstd"):
            assert struct.unpack_from("<II", p, 0) == (PAYLOAD, len(p) - 8)
            p = p[8:]
        out = DECODERS[field.codec](field, p, decoded, n)
        assert len(out) == decoded == sum(lengths) and xxh64(out) == xxh, "XXH64 of block %d" % b
        if sums:
            at = 0
            for length, s in zip(lengths, sums):
                assert crc32c(out[at : at + length]) == s
                at += length
        return out, lengths


def decode_zstd(f, p, decoded, n):
    return zstd(p)


def decode_dict(f, p, decoded, n):
    return zstd(p, zstd(f.shared[4:]))


def decode_delta(f, p, decoded, n):
    out, at, left = bytearray(), 0, decoded // f.size
    signed = f.type & 1
    while left:
        k = min(1024, left)
        mode, width = p[at], p[at + 1]
        base = int.from_bytes(p[at + 2 : at + 2 + f.size], "little", signed=bool(signed))
        bits = (k * width + 7) // 8
        at += 2 + f.size
        v = base
        for d in packed(p[at : at + bits], k, width) if width else [0] * k:
            if mode:
                v += unzigzag(d)
                x = v
            else:
                x = base + d
            out += (x & (1 << 8 * f.size) - 1).to_bytes(f.size, "little")
        at += bits
        left -= k
    assert at == len(p)
    return bytes(out)


def decode_tokens(f, p, decoded, n):
    count = struct.unpack_from("<I", f.shared, 0)[0]
    ids = struct.unpack("<%dI" % count, stream(f.shared, 4)[0])
    k = decoded // f.size
    if p[0] == 0:
        ranks = packed(p[2:], k, p[1]) if p[1] else [0] * k
    else:
        ranks = leb128(stream(p, 1)[0])
    return b"".join(ids[r].to_bytes(f.size, "little") for r in ranks)


def decode_split(f, p, decoded, n):
    out, at = bytearray(decoded), 0
    for k in range(f.size):
        out[k :: f.size], at = stream(p, at)
    return bytes(out)


def decode_med(f, p, decoded, n):
    res, _ = stream(p, 0)
    channels = f.shape[2] if f.ndim == 3 else 1
    row, size = f.shape[1] * channels, f.shape[0] * f.shape[1] * channels
    out = bytearray(decoded)
    for i in range(decoded):
        at = i % size
        west, north = at % row >= channels, at >= row
        w = out[i - channels] if west else 0
        up = out[i - row] if north else 0
        nw = out[i - row - channels] if west and north else 0
        if "paeth" in f.spec:
            q = w + up - nw
            a, b, c = abs(q - w), abs(q - up), abs(q - nw)
            guess = w if a <= b and a <= c else up if b <= c else nw
        else:
            low, high = min(w, up), max(w, up)
            guess = low if nw >= high else high if nw <= low else w + up - nw
        out[i] = (res[i] + guess) & 255
    return bytes(out)


def decode_log(f, p, decoded, n):
    if p[0] == 0:
        return stream(p, 1)[0]
    lines, newline = struct.unpack_from("<IB", p, 1)
    at, s = 6, []
    for _ in range(5):
        x, at = stream(p, at)
        s.append(x)
    templates, which, kinds = s[0].split(b"\n")[:-1], leb128(s[1]), s[2]
    numbers, words = iter(leb128(s[3])), iter(s[4].split(b"\n")[:-1])
    columns, kind = [], iter(kinds)
    for t, text in enumerate(templates):
        rows = which.count(t)
        for _ in range(text.count(1)):
            k, v, values = next(kind), 0, []
            for _ in range(rows):
                if k == 64:
                    values.append(next(words))
                else:
                    v += unzigzag(next(numbers))
                    values.append(str(v).encode().rjust(k if k <= 18 else 0, b"0"))
            columns.append((t, iter(values)))
    of = [[c for u, c in columns if u == t] for t in range(len(templates))]
    out = []
    for t in which:
        c = iter(of[t])
        out.append(b"".join(next(next(c)) if b == 1 else bytes([b]) for b in templates[t]))
    return b"\n".join(out) + (b"\n" if newline else b"")


DECODERS = {"raw": decode_zstd, "zstd": decode_zstd, "dict": decode_dict, "delta": decode_delta, "tokens": decode_tokens, "split": decode_split,
            "med": decode_med, "log": decode_log}


def walk(d):
    """Frames of a zstd file, and the seek table behind them (Zstandard Seekable Format 0.1.0)."""
    frames = struct.unpack_from("<I", d, len(d) - 9)[0]
    assert struct.unpack_from("<I", d, len(d) - 4)[0] == 0x8F92EAB1 and d[-5] == 0x80
    table = len(d) - 17 - 12 * frames
    assert struct.unpack_from("<II", d, table) == (SEEK, 12 * frames + 9)
    at = 0
    for i in range(frames):
        stored, decoded, check = struct.unpack_from("<III", d, table + 8 + 12 * i)
        magic = struct.unpack_from("<I", d, at)[0]
        out = b""
        if magic & 0xFFFFFFF0 == 0x184D2A50:
            assert stored == 8 + struct.unpack_from("<I", d, at + 4)[0] and decoded == 0
        else:
            assert magic == 0xFD2FB528
            out = zstd(d[at : at + stored])
        assert len(out) == decoded and xxh64(out) & 0xFFFFFFFF == check
        at += stored
    assert at == table
    return frames


if __name__ == "__main__":
    shard = Shard(sys.argv[1])
    if sys.argv[2] == "--frames":
        print(walk(shard.d))
        sys.exit(0)
    f = [x.name for x in shard.fields].index(sys.argv[2])
    for b in range(shard.blocks):
        sys.stdout.buffer.write(shard.part(f, b)[0])

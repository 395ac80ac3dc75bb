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


M32 = 0xFFFFFFFF


def dense_hash(a, b):
    h = (a * 0x2C1B3C6D + b * 0x297A2D39 + 0x9E3779B9) & M32
    h = (h ^ h >> 15) * 0x85EBCA6B & M32
    return h ^ h >> 13


class DenseTables:
    def __init__(self):
        import math

        knots = [min(65535, int(65536 / (1 + math.exp(-(i - 64) / 8)) + 0.5)) for i in range(129)]
        self.squash = []
        for i in range(4096):
            k, part = divmod(i, 32)
            self.squash.append(min(65520, max(16, (knots[k] * (32 - part) + knots[k + 1] * part) // 32)))
        self.stretch, x = [], 0
        for p in range(4096):
            while x < 4095 and self.squash[x] < p * 16 + 8:
                x += 1
            self.stretch.append(x - 2048)
        bound = [40, 20, 10, 8, 6, 6, 6]
        most = lambda n: bound[n] if n < 7 else 0
        holds = lambda a, b: max(a, b) <= most(min(a, b))
        kept = lambda n: [0, 1, 2, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5][n] if n < 13 else 6 if n < 25 else 7
        self.states = []
        for total in range(49):
            for a in range(total, -1, -1):
                b = total - a
                if holds(a, b):
                    for last in (0, 1):
                        if a and b or last == (b > 0):
                            self.states.append((a, b, last))
        number = {s: i for i, s in enumerate(self.states)}
        self.next = []
        for a, b, _ in self.states:
            row = []
            for bit in (0, 1):
                n = [kept(a), b + 1] if bit else [a + 1, kept(b)]
                while not holds(*n):
                    mine, other = n[bit], n[1 - bit]
                    if mine > most(other) and mine > 1 and mine > other:
                        n[bit] -= 1
                    else:
                        n[1 - bit] -= 1
                row.append(number[(n[0], n[1], bit if n[0] and n[1] else int(n[1] > 0))])
            self.next.append(row)


class Dense:
    """The model of docs/shard-format.md, dense. copy() is what every part begins with."""

    def __init__(self, tables, bits, shape):
        self.t, self.bits, self.shape = tables, bits, shape
        self.map = [[(b * 2 + 1) * 65535 // ((a + b) * 2 + 2) for a, b, _ in tables.states] for _ in range(6)]
        self.match = [49152 + (i >> 1) * 1000 if i & 1 else 16384 - (i >> 1) * 1000 for i in range(32)]
        self.order0 = [32768] * 256
        self.weight = {}
        self.refine = [[tables.squash[min(i * 128, 4095)] for i in range(33)] for _ in range(256)]
        self.slots = [{} for _ in range(6)]
        self.four = self.key = self.word = self.before = self.at = self.length = 0
        self.last = {}

    def copy(self):
        import copy

        t, self.t = self.t, None
        c = copy.deepcopy(self)
        self.t = c.t = t
        return c

    def slot(self, i, h):
        check, a = h & 255, h >> (32 - self.bits)
        places = [a, a ^ 1, a ^ 2]
        for p in places:
            s = self.slots[i].setdefault(p, [0] * 16)
            if s[0] == check:
                return s
        best = min(places, key=lambda p: self.slots[i][p][1])
        s = self.slots[i][best] = [check] + [0] * 15
        return s

    def text(self, h):
        i = len(h)
        if i:
            b = h[-1]
            self.four = self.four >> 8 | b << 24
            self.key = (self.four * 0x2F0B4C47 + (h[i - 5] if i > 4 else 0)) * 0x9E3779B1 & M32
            self.key >>= 16
            if ord("a") <= b | 32 <= ord("z") or b >= 128 or b == 39:
                self.word = (self.word + (b | 32) + 1) * 0x2F0B4C47 & M32
            else:
                if self.word:
                    self.before = self.word
                if b != 32:
                    self.before = b
                self.word = 0
        c4 = self.four
        hashes = [dense_hash(1, c4 >> 24), dense_hash(2, c4 >> 16), dense_hash(3, c4 >> 8), dense_hash(4, c4),
                  dense_hash(c4 ^ 5, h[i - 5] if i > 4 else 0), dense_hash(self.word ^ 6, self.before)]
        if i:
            if self.length and h[self.at] == h[-1]:
                self.length += 1
                self.at += 1
            else:
                self.length = 0
            if i > 4:
                seen = self.last.get(self.key, 0)
                self.last[self.key] = i
                if not self.length and seen:
                    n = 0
                    while n < 32 and n < seen and h[seen - 1 - n] == h[i - 1 - n]:
                        n += 1
                    self.length = n if n >= 5 else 0
                    self.at = seen
        n = self.length
        if not n:
            return hashes, 0, None, 0
        length = n * 3 // 4 if n < 16 else 12 + (n - 16) // 6 if n < 32 else 15
        return hashes, 1 if n < 8 else 2 if n < 16 else 3 if n < 24 else 4, h[self.at], length

    def image(self, h):
        rows, cols, ch = self.shape
        i, row = len(h), cols * ch
        at = i % (rows * row)
        y, x, k = at // row, at % row // ch, at % ch
        west, north, east = x > 0, y > 0, x + 1 < cols
        get = lambda ok, back: h[i - back] if ok else 0
        w, ww, n, nn = get(west, ch), get(x > 1, 2 * ch), get(north, row), get(y > 1, 2 * row)
        nw, ne, other = get(north and west, row + ch), get(north and east, row - ch), get(k > 0, 1)
        low, high = min(w, n), max(w, n)
        med = low if nw >= high else high if nw <= low else w + n - nw
        level = lambda v: 0 if v < 1 else 1 if v < 6 else 2 if v < 16 else 3 if v < 40 else 4 if v < 80 else 5 if v < 160 else 6 if v < 255 else 7
        rough = level(min(255, abs(w - nw) + abs(n - nw) + abs(n - ne)))
        tag = k << 4 | other << 8
        every = level(w) | level(n) << 3 | level(nw) << 6 | level(ne) << 9 | level(ww) << 12 | level(nn) << 15
        return [dense_hash(tag | 1, w << 8 | n), dense_hash(tag | 2, w >> 2 << 16 | n >> 2 << 8 | ne >> 2), dense_hash(tag | 3, every),
                dense_hash(tag | 4, med << 8 | rough), dense_hash(tag | 5, (y << 12 | x) * 64 + (level(w) << 3 | level(n)) & M32),
                dense_hash(tag | 6, w << 16 | nw >> 4 << 12 | ww >> 3 << 4 | nn >> 5)], rough, None, 0

    def decode(self, code, h, n):
        """Appends n bytes to h."""
        squash, stretch, nxt = self.t.squash, self.t.stretch, self.t.next
        low, high, x, pos = 0, M32, int.from_bytes((code[:4] + bytes(4))[:4], "big"), 4
        move = lambda p, bit, rate: p + ((65535 * bit - p) >> rate)
        for _ in range(n):
            hashes, group, expected, length = self.image(h) if self.shape else self.text(h)
            partial = 1
            for k in range(7, -1, -1):
                if k in (7, 3):
                    slots = [self.slot(i, v if k == 7 else (v + partial * 0x9E3779B1) * 0x85EBCA6B & M32) for i, v in enumerate(hashes)]
                    node = 1
                value = [stretch[self.map[i][s[node]] >> 4] for i, s in enumerate(slots)]
                fits = expected is not None and (expected | 256) >> (k + 1) == partial
                m = length << 1 | (expected >> k & 1) if fits else 0
                value += [stretch[self.match[m] >> 4] if fits else 0, stretch[self.order0[partial] >> 4]]
                w = self.weight.setdefault(group << 8 | partial, [5000] * 8)
                dot = max(-2047, min(2047, sum(a * b for a, b in zip(value, w)) >> 14))
                p, part, r, c = squash[dot + 2048], dot + 2048 & 127, self.refine[partial], dot + 2048 >> 7
                final = max(32, min(65504, (p + ((r[c] * (128 - part) + r[c + 1] * part) >> 7)) >> 1))
                mid = low + ((high - low) * final >> 16)
                bit = int(x <= mid)
                low, high = (low, mid) if bit else (mid + 1, high)
                while (low ^ high) >> 24 == 0:
                    low, high = low << 8 & M32, (high << 8 | 255) & M32
                    x = (x << 8 | (code[pos] if pos < len(code) else 0)) & M32
                    pos += 1
                error = (bit << 12) - (p >> 4)
                for i in range(8):
                    w[i] = max(-32768, min(32767, w[i] + (value[i] * 8 * error >> 16)))
                for i, s in enumerate(slots):
                    state = s[node]
                    self.map[i][state] = move(self.map[i][state], bit, 6)
                    s[node] = nxt[state][bit]
                if fits:
                    self.match[m] = move(self.match[m], bit, 6)
                self.order0[partial] = move(self.order0[partial], bit, 5)
                c += part > 64
                r[c] = move(r[c], bit, 6)
                partial, node = partial << 1 | bit, node << 1 | bit
            h.append(partial & 255)


def decode_dense(f, p, decoded, n):
    if p[0] == 0:
        return p[1:]
    if not hasattr(f, "primed"):
        prime, bits = struct.unpack_from("<IB", f.shared, 0)
        f.primed = Dense(DenseTables(), bits, (list(f.shape) + [1])[:3] if f.kind == 5 else None)
        f.prime = bytearray()
        f.primed.decode(f.shared[8:], f.prime, prime)
    found = b""
    if p[0] == 2:
        offset, count = struct.unpack_from("<II", p, 1)
        found = bytes(f.prime[offset : offset + count])
    h = bytearray(f.prime)
    if decoded > len(found):
        f.primed.copy().decode(p[9 if p[0] == 2 else 1 :], h, decoded - len(found))
    return found + bytes(h[len(f.prime) :])


DECODERS = {"raw": decode_zstd, "zstd": decode_zstd, "dict": decode_dict, "delta": decode_delta, "tokens": decode_tokens, "split": decode_split,
            "med": decode_med, "log": decode_log, "dense": decode_dense}


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

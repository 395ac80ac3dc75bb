"""Reductions through the collectives of a process group, where libtaut has no transport of its own between the ranks: every rank encodes its tensors,
the frames of all ranks are gathered, and every rank decodes and adds them in order of rank, so that all have the same bits.

A GatheredComm does for its callers what a Comm does. One codec for all layers: codec=auto is what its budget names, quant:bits=4 for like:quant:bits=4 (the
default), grid:rel=X for rel=X; there are no plans, no scales, and nothing moves before step_end() or wait()."""

import hashlib
import json
import os
import struct

import torch

from .. import _lib, codecs
from ..arrays import _TORCH
from ..comm import Comm

_NAMES = {v: k for k, v in _TORCH.items()}
_DTYPES = {_lib.F32: torch.float32, _lib.F16: torch.float16, _lib.BF16: torch.bfloat16}
_HEADER = struct.Struct("<i16sQdd64s")  # status, digest of what is reduced, bytes that follow, error and norm squared, text of status
_STATE = b"taut gathered state 1\n"
_BIASED = ("topk", "randk", "powersgd", "sketch", "stack")
_INVALID, _CORRUPT = -10, -20


def _setting(settings, name, default):
    return os.environ.get("TAUT_" + name.upper()) or settings.get(name) or default


def fixed_codec(codec, budget):
    """The one spec that stands for these settings."""
    if not codec.startswith("auto"):
        return codec
    budget = budget or "like:quant:bits=4"
    return budget[len("like:"):] if budget.startswith("like:") else "grid:" + budget


def _numbers(n):
    """Whatever torch's default type and device are."""
    return torch.empty(n, dtype=torch.float32, device="cpu")


def _flat(tensor):
    """The elements of a tensor without gaps, as they lie in memory."""
    return tensor.as_strided((tensor.numel(),), (1,)) if not tensor.is_contiguous() else tensor.view(-1)


class GatheredLayer:
    """As comm.Layer."""

    def __init__(self, comm, name, dtype, shape):
        self.comm, self.name, self.dtype, self.shape = comm, name, dtype, tuple(shape)
        self.elements = 1
        for n in self.shape:
            self.elements *= n
        small = len(self.shape) < 2 or self.elements < comm.small
        self.spec = "none" if small or not self._suits(comm.spec) else comm.spec
        self.residual = None
        self.calls = self.sent = 0
        self.error2 = self.norm2 = 0.0

    def _suits(self, spec):
        return _lib.lib.taut_spec_check(_lib.text(spec), len(self.shape), _lib.shape_array(self.shape)) == 0

    def codec(self, spec):
        self.comm._usable()
        _lib.check(_lib.lib.taut_spec_check(_lib.text(spec), len(self.shape), _lib.shape_array(self.shape)))
        self.spec = spec

    def scale_at(self, pointer, n):
        """Nothing: errors count as the codec makes them."""

    def start_tensor(self, tensor, op):
        self.comm._usable()
        if tensor.numel() != self.elements or tensor.dtype != _DTYPES[self.dtype]:
            raise ValueError("taut: '%s' was registered with shape %s and dtype %s, and is given %s, %s" % (
                self.name, self.shape, _NAMES[self.dtype], tuple(tensor.shape), tensor.dtype))
        if any(layer is self for layer, _, _ in self.comm._started):
            raise _lib.Error(-13, "'%s' is under way already" % self.name)
        self.comm._started.append((self, _flat(tensor), op))

    def wait(self):
        """All that was started, of all layers."""
        self.comm.exchange()

    def part(self, rank=None):
        """Whole rows of as many as there are ranks; (0, 0) where they cannot be."""
        chunk, rest = divmod(self.elements, self.comm.size)
        return (0, 0) if rest else ((self.comm.rank if rank is None else rank) * chunk, chunk)

    def reduce_scatter_tensor(self, tensor, op):
        self.start_tensor(tensor, op)
        self.wait()

    def stats(self):
        dense = 4 * self.elements * self.calls * (self.comm.size - 1)
        return {"name": self.name, "elements": self.elements, "codec": self.spec, "algorithm": "gathered", "calls": self.calls, "bytes_sent": self.sent,
                "bytes_dense": dense, "bits_per_element": 8.0 * self.sent / max(1, self.elements * self.calls * (self.comm.size - 1)),
                "rel_err2": self.error2 / self.norm2 if self.norm2 else 0.0,
                "residual_norm2": float(self.residual.double().pow(2).sum()) if self.residual is not None else 0.0, "measured": 0}

    # ---- one step ----

    def encoded(self, flat, step):
        """(frame, what of x it leaves) of this rank's x = gradient + residual."""
        x = flat.detach().to(device="cpu", dtype=torch.float32)
        keeps = self.spec != "none" and self.comm.keeps(self.spec)
        if keeps and self.residual is not None:
            x = x + self.residual
        x = x.contiguous()
        frame = codecs.encode(x.view(self.shape), self.spec, self.comm.seed_of(self.name, step))
        own = codecs.decode(frame, _numbers(self.elements)) if self.spec != "none" else x
        left = x - own
        self.error2, self.norm2 = float(left.double().pow(2).sum()), float(x.double().pow(2).sum())
        return frame, left if keeps else None


class GatheredComm:
    """As comm.Comm, of the ranks of a process group. gather: bytes of one length -> those of all ranks, in order of rank; collective."""

    def __init__(self, rank, size, gather, settings):
        self.rank, self.size, self._gather = rank, size, gather
        self.settings = dict(settings)
        self.spec = fixed_codec(_setting(settings, "codec", "auto"), _setting(settings, "budget", "like:quant:bits=4"))
        self.feedback = _setting(settings, "feedback", "auto")
        self.seed, self.small = int(_setting(settings, "seed", 1)), int(_setting(settings, "small_elems", 1024))
        if self.feedback not in ("auto", "on", "off"):
            raise ValueError("taut: feedback=%r: through a process group it must be 'auto', 'on' or 'off'" % self.feedback)
        Comm.threads(1, **dict(settings, codec=self.spec))[0].close()  # what the library says to these settings
        self._layers, self._started = {}, []
        self._pid, self._closed, self._steps, self._sent, self._last = os.getpid(), False, 0, 0, (0.0, 0.0)
        self._dirty = False  # a result of this step was not finite

    def keeps(self, spec):
        """Whether layers of this codec have a residual."""
        return self.feedback == "on" or (self.feedback == "auto" and spec.startswith(_BIASED))

    def seed_of(self, name, step):
        words = "%d %d %d %s" % (self.seed, self.rank, step, name)
        return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "little")

    def _usable(self):
        if self._closed:
            raise RuntimeError("taut: this communicator has been closed")
        if os.getpid() != self._pid:
            raise RuntimeError("taut: this process was forked from the one that made the communicator, which alone may use it")

    def layer(self, name, dtype=None, shape=None):
        self._usable()
        found = self._layers.get(name)
        if found is None:
            found = self._layers[name] = GatheredLayer(self, name, dtype, shape)
        elif shape is not None and (found.dtype != dtype or found.shape != tuple(shape)):
            raise ValueError("taut: '%s' was registered with shape %s and dtype %s, and is given %s, %s" % (
                name, found.shape, _NAMES[found.dtype], tuple(shape), _NAMES[dtype]))
        return found

    def layers(self):
        return list(self._layers.values())

    # ---- the exchange ----

    def _describe(self, started):
        return [[layer.name, layer.shape, layer.dtype, layer.spec, op] for layer, _, op in started]

    def _agree(self, header, started):
        """Headers of all ranks, or the error that all of them raise."""
        from .meeting import gather_any
        headers = [_HEADER.unpack(b) for b in self._gather(header)]
        for r, h in enumerate(headers):
            if h[0] != 0:
                self._closed = True
                raise _lib.Error(h[0], "rank %d: %s" % (r, h[5].rstrip(b"\0").decode("utf-8", "replace")))
        if any(h[1] != headers[0][1] for h in headers):
            self._closed = True
            lists = [json.loads(b) for b in gather_any(json.dumps(self._describe(started)).encode(), self._gather)]
            other = next(r for r in range(self.size) if lists[r] != lists[0])
            here, there = next((a, b) for a, b in zip(lists[0] + [None] * len(lists[other]), lists[other] + [None] * len(lists[0])) if a != b)
            raise _lib.Error(_lib.MISMATCH, "rank 0 reduces %s, rank %d %s (name, shape, type, codec, operation)" % (here or "nothing more", other, there or "nothing more"))
        return headers

    def exchange(self):
        """All that was started: collective."""
        self._usable()
        started, self._started = sorted(self._started, key=lambda s: s[0].name), []
        frames, left, status, text = [], [], 0, ""
        try:
            for layer, flat, _ in started:
                frame, residual = layer.encoded(flat, self._steps)
                frames.append(frame), left.append(residual)
        except Exception as e:  # peers are told: they would wait
            status, text = getattr(e, "code", _INVALID), str(e)
        mine = b"".join(frames)
        digest = hashlib.blake2b(json.dumps(self._describe(started)).encode(), digest_size=16).digest()
        error2, norm2 = sum(s.error2 for s, _, _ in started), sum(s.norm2 for s, _, _ in started)
        headers = self._agree(_HEADER.pack(status, digest, len(mine), error2, norm2, text.encode()[:64]), started)
        longest = max(h[2] for h in headers)
        everybody = self._gather(mine + bytes(longest - len(mine))) if longest else []
        self._add_up(started, everybody, [h[2] for h in headers])
        for (layer, _, _), residual, frame in zip(started, left, frames):
            layer.residual = residual
            layer.calls += 1
            layer.sent += len(frame) * (self.size - 1)
        self._sent += (_HEADER.size + longest) * (self.size - 1)
        self._last = (self._last[0] + sum(h[3] for h in headers), self._last[1] + self._sum2(started))

    def _sum2(self, started):
        return sum(float(flat.double().pow(2).sum()) * (self.size if op == _lib.MEAN else 1) ** 2 for _, flat, op in started)

    def _add_up(self, started, everybody, lengths):
        at = [0] * self.size
        for layer, flat, op in started:
            total, part = _numbers(layer.elements).zero_(), _numbers(layer.elements)
            for r, data in enumerate(everybody):
                n = codecs.frame_info(data[at[r]:lengths[r]])["bytes"]
                if at[r] + n > lengths[r]:
                    raise _lib.Error(_CORRUPT, "the frame of '%s' from rank %d is longer than what it sent" % (layer.name, r))
                total += codecs.decode(data[at[r]:at[r] + n], part)
                at[r] += n
            if op == _lib.MEAN:
                total /= self.size
            flat.copy_(total)
            self._dirty |= not bool(torch.isfinite(flat).all())

    def step_end(self):
        self._usable()
        self._last = (0.0, 0.0)
        self.exchange()  # also of nothing: a rank that has started nothing is heard of
        self._steps += 1
        if self._dirty:
            self.step_drop()
            self._dirty = False

    def step_drop(self):
        self._usable()
        for layer in self._layers.values():
            layer.residual = None

    def stats(self):
        self._usable()
        layers = [layer.stats() for layer in self._layers.values()]
        rel = self._last[0] / self._last[1] if self._last[1] else 0.0
        return {"steps": self._steps, "bytes_sent": self._sent, "bytes_dense": sum(s["bytes_dense"] for s in layers), "rel_err2": rel, "rel_err2_metric": rel,
                "budget": 0.0, "budget_violations": 0, "plans": 0, "measured": 0}

    # ---- state ----

    def save(self):
        """Counts and residuals, as Comm.save()."""
        self._usable()
        kept = [layer for layer in self._layers.values() if layer.residual is not None]
        head = json.dumps({"steps": self._steps, "layers": [[layer.name, layer.elements] for layer in kept]}).encode()
        return _STATE + struct.pack("<I", len(head)) + head + b"".join(layer.residual.numpy().tobytes() for layer in kept)

    def _load_one(self, blob):
        blob = bytes(memoryview(blob.numpy() if torch.is_tensor(blob) else blob))
        if not blob.startswith(_STATE):
            raise _lib.Error(_lib.MISMATCH, "this state was saved by a communicator with a transport of its own, and this one has a process group's")
        at = len(_STATE) + 4
        n, = struct.unpack("<I", blob[len(_STATE):at])
        head, at = json.loads(blob[at:at + n]), at + n
        found = {}
        for name, elements in head["layers"]:
            layer = self._layers.get(name)
            if layer is None or layer.elements != elements or len(blob) < at + 4 * elements:
                raise _lib.Error(_lib.MISMATCH, "the state's layer '%s' with %d elements is none of this communicator's" % (name, elements))
            found[layer] = torch.frombuffer(bytearray(blob[at:at + 4 * elements]), dtype=torch.float32)
            at += 4 * elements
        return head["steps"], found

    def load(self, blobs):
        """As Comm.load(): residuals of several ranks add up."""
        self._usable()
        if not blobs:
            raise ValueError("taut: no state to load")
        all_of_them = [self._load_one(b) for b in blobs]
        for layer in self._layers.values():
            parts = [all_of_them[i][1][layer] for i in range(self.rank, len(blobs), self.size) if layer in all_of_them[i][1]]
            layer.residual = sum(parts[1:], parts[0]) if parts else None
        self._steps = all_of_them[0][0]

    def close(self):
        self._closed = True
        self._started = []

    def __repr__(self):
        return "<taut.GatheredComm rank %d of %d, %s>" % (self.rank, self.size, self.spec)

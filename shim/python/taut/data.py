"""Shards of training data (taut_data.h): an iterable of batches, in the order of a plan, read ahead by the library's threads.

    loader = taut.data.Loader(["mnist.taut"], plan="rs2.plan", batch=256)
    for batch in loader:                       # this rank's samples of a step
        x = batch.stack("image")               # one NumPy array; batch["image"]: a list of arrays without a copy
    place = loader.state()                     # for a checkpoint: any number of ranks goes on there
"""

import ctypes as c
import os

import numpy as np

from . import _lib
from ._lib import check, lib

TYPES = ["u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f4", "<f8"]
TEXT = 1


class _Field(c.Structure):
    _fields_ = [("size", c.c_size_t), ("name", c.c_char * 48), ("codec", c.c_char * 64), ("kind", c.c_int), ("type", c.c_int), ("ndim", c.c_uint32),
                ("variable", c.c_uint32), ("shape", c.c_uint64 * 4), ("sample_bytes", c.c_uint64), ("decoded_bytes", c.c_uint64), ("stored_bytes", c.c_uint64),
                ("rel_err2", c.c_double), ("max_err", c.c_double), ("psnr_db", c.c_double)]


_BROADCAST = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p, c.c_size_t)
_AGREE = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_int, c.c_void_p, c.c_size_t)


class _Group(c.Structure):
    _fields_ = [("size", c.c_size_t), ("ctx", c.c_void_p), ("rank", c.c_uint32), ("ranks", c.c_uint32), ("node_ranks", c.c_uint32),
                ("node", c.POINTER(c.c_uint32)), ("broadcast", _BROADCAST), ("node_broadcast", _BROADCAST), ("agree", _AGREE)]


class _Config(c.Structure):
    _fields_ = [("size", c.c_size_t), ("shards", c.POINTER(c.c_char_p)), ("nshards", c.c_size_t), ("plan", c.c_char_p), ("rounds", c.c_uint64),
                ("batch", c.c_uint64), ("fields", c.POINTER(c.c_char_p)), ("nfields", c.c_size_t), ("state", c.c_void_p), ("state_bytes", c.c_size_t),
                ("cache_bytes", c.c_uint64), ("threads", c.c_int32), ("ahead", c.c_int32), ("timeout_ms", c.c_int32), ("share", c.c_int32),
                ("read_delay_us", c.c_int32), ("first_step", c.c_uint64)]


class _Batch(c.Structure):
    _fields_ = [("size", c.c_size_t), ("n", c.c_uint64), ("all", c.c_uint64), ("step", c.c_uint64), ("round", c.c_uint64), ("id", c.POINTER(c.c_uint64)),
                ("weight", c.POINTER(c.c_float)), ("data", c.POINTER(c.POINTER(c.c_void_p))), ("bytes", c.POINTER(c.POINTER(c.c_size_t))), ("end", c.c_int32)]


STRUCTS = {"taut_field": _Field, "taut_loader_group": _Group, "taut_loader_config": _Config, "taut_batch": _Batch}

if not hasattr(lib, "taut_loader_open"):
    raise ImportError("taut.data: this libtaut was built without zstd, and so without shards")

_lib._bind(lib, {
    "taut_loader_open": (c.c_int, [c.POINTER(_Config), c.POINTER(_Group), c.POINTER(c.c_void_p)]),
    "taut_loader_close": (None, [c.c_void_p]),
    "taut_loader_next": (c.c_int, [c.c_void_p, c.POINTER(_Batch)]),
    "taut_loader_state": (c.c_int, [c.c_void_p, c.c_void_p, c.c_size_t, c.POINTER(c.c_size_t)]),
    "taut_loader_steps": (c.c_uint64, [c.c_void_p]),
    "taut_loader_samples": (c.c_uint64, [c.c_void_p]),
    "taut_loader_fields": (c.c_size_t, [c.c_void_p]),
    "taut_loader_field": (c.c_int, [c.c_void_p, c.c_size_t, c.POINTER(_Field)]),
})


class Batch:
    """This rank's samples of a step. What batch[name] gives lies in the loader's memory and is valid until the next batch; stack() copies."""

    def __init__(self, loader, raw):
        self._loader, self._raw = loader, raw
        self.n, self.all, self.step, self.round = raw.n, raw.all, raw.step, raw.round

    def __len__(self):
        return self.n

    @property
    def ids(self):
        """Numbers of the samples among all of the plan's shards."""
        return np.ctypeslib.as_array(self._raw.id, (self.n,)).astype(np.int64) if self.n else np.empty(0, np.int64)

    @property
    def weights(self):
        return np.ctypeslib.as_array(self._raw.weight, (self.n,)).copy() if self.n else np.empty(0, np.float32)

    def _array(self, f, field, i):
        if self._loader._raw_batch is not self._raw:
            raise RuntimeError("taut.data: this batch is over: its memory was the loader's until the next one; stack() makes copies")
        n = self._raw.bytes[f][i]
        data = (c.c_uint8 * n).from_address(self._raw.data[f][i]) if n else b""
        x = np.frombuffer(data, dtype=TYPES[field.type])
        x.flags.writeable = False
        return x if field.variable else x.reshape(tuple(field.shape[:field.ndim]))

    def __getitem__(self, name):
        """A list of arrays, one per sample, without a copy; of a text field, of str."""
        f, field = self._loader._find(name)
        arrays = [self._array(f, field, i) for i in range(self.n)]
        return [a.tobytes().decode("utf-8", "replace") for a in arrays] if field.kind == TEXT else arrays

    def stack(self, name):
        """One array of all samples, which are of one length."""
        f, field = self._loader._find(name)
        arrays = [self._array(f, field, i) for i in range(self.n)]
        if len({a.shape for a in arrays}) > 1:
            raise ValueError("taut.data: samples of '%s' differ in length: take batch['%s']" % (name, name))
        return np.stack(arrays) if arrays else np.empty((0,) + tuple(field.shape[:field.ndim]), TYPES[field.type])

    def tensor(self, name):
        """The same as a torch tensor."""
        import torch
        return torch.from_numpy(self.stack(name))


class _TorchRanks:
    """The callbacks over a group of torch.distributed. Each rank decodes for itself."""

    def __init__(self, group):
        import torch
        import torch.distributed as dist
        self.torch, self.dist, self.group = torch, dist, group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def broadcast(self, _, pointer, n):
        t = self.torch.frombuffer(bytearray(c.string_at(pointer, n)), dtype=self.torch.uint8) if n else None
        if n:
            first = self.dist.get_global_rank(self.group, 0) if hasattr(self.dist, "get_global_rank") and self.group is not self.dist.group.WORLD else 0
            self.dist.broadcast(t, first, group=self.group)
            c.memmove(pointer, t.numpy().tobytes(), n)
        return 0

    def agree(self, _, mine, text, cap):
        answers = [None] * self.size
        self.dist.all_gather_object(answers, (mine, c.string_at(text)), group=self.group)
        worst = min(answers)
        if worst[0] != 0:
            said = worst[1][:cap - 1] + b"\0"
            c.memmove(text, said, len(said))
        return worst[0]

    def struct(self):
        node = (c.c_uint32 * 1)(self.rank)
        g = _Group(size=c.sizeof(_Group), rank=self.rank, ranks=self.size, node_ranks=1, node=node)
        guard = _guarded
        g.broadcast, g.node_broadcast, g.agree = _BROADCAST(guard(self.broadcast)), _BROADCAST(lambda *_: 0), _AGREE(guard(self.agree))
        return g


def _guarded(f):
    def call(*args):
        try:
            return f(*args)
        except BaseException as e:  # it must not unwind through C
            import traceback
            traceback.print_exception(type(e), e, e.__traceback__)
            return -33
    return call


class Loader:
    """An iterable over the batches of a plan. shards: paths; plan: path of one, default every sample once a round; batch: samples of a step, all ranks
    together; fields: names, default all; group: a process group of torch.distributed, "world" for all of its ranks, None for one rank;
    state: where to go on; the rest as in taut_loader_config."""

    def __init__(self, shards, plan=None, batch=1, rounds=0, fields=None, group=None, state=None, threads=0, ahead=0, cache_bytes=0, timeout_ms=0, first_step=0):
        if isinstance(shards, (str, os.PathLike)):
            shards = [shards]
        self._shards = (c.c_char_p * len(shards))(*[os.fspath(s).encode() for s in shards])
        cfg = _Config(size=c.sizeof(_Config), shards=self._shards, nshards=len(shards), plan=_lib.text(plan and os.fspath(plan)), rounds=rounds, batch=batch,
                      threads=threads, ahead=ahead, cache_bytes=cache_bytes, timeout_ms=timeout_ms, first_step=first_step)
        if fields is not None:
            names = (c.c_char_p * len(fields))(*[f.encode() for f in fields])
            cfg.fields, cfg.nfields = names, len(fields)
        if state is not None:
            kept = c.create_string_buffer(bytes(state), len(state))
            cfg.state, cfg.state_bytes = c.cast(kept, c.c_void_p), len(state)
        ranks = _TorchRanks(_group(group)).struct() if group is not None else None
        self._handle, self._pid, self._raw_batch = c.c_void_p(), os.getpid(), None
        check(lib.taut_loader_open(c.byref(cfg), c.byref(ranks) if ranks else None, c.byref(self._handle)))
        self.fields = {}
        for f in range(lib.taut_loader_fields(self._handle)):
            field = _Field(size=c.sizeof(_Field))
            check(lib.taut_loader_field(self._handle, f, c.byref(field)))
            self.fields[field.name.decode()] = (f, field)

    def _usable(self):
        if not self._handle:
            raise RuntimeError("taut.data: this loader is closed")
        if os.getpid() != self._pid:
            raise RuntimeError("taut.data: this process was forked from the one that opened the loader, which has its own threads: no DataLoader workers are needed")

    def _find(self, name):
        if name not in self.fields:
            raise KeyError("taut.data: no field '%s'; there are: %s" % (name, ", ".join(self.fields)))
        return self.fields[name]

    def __iter__(self):
        return self

    def __next__(self):
        self._usable()
        raw = _Batch(size=c.sizeof(_Batch))
        self._raw_batch = None
        check(lib.taut_loader_next(self._handle, c.byref(raw)))
        if raw.end:
            raise StopIteration
        self._raw_batch = raw
        return Batch(self, raw)

    def __len__(self):
        """Steps of the whole plan."""
        self._usable()
        return lib.taut_loader_steps(self._handle)

    def state(self):
        """The place behind the last batch, as bytes, the same on all ranks."""
        self._usable()
        blob, n = c.create_string_buffer(128), c.c_size_t()
        check(lib.taut_loader_state(self._handle, blob, 128, c.byref(n)))
        return blob.raw[:n.value]

    def close(self):
        if self._handle and os.getpid() == self._pid:
            self._raw_batch = None
            lib.taut_loader_close(self._handle)
        self._handle = c.c_void_p()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if getattr(self, "_handle", None):
            self.close()


def _group(group):
    import torch.distributed as dist
    return dist.group.WORLD if isinstance(group, str) and group == "world" else group

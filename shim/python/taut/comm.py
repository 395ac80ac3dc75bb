"""Communicators and layers: taut.h for Python.

A Comm is a group of ranks. Layers are known by name: allreduce(x, name) registers the layer when the name is new, on all
ranks in the same order. Gradients are reduced in place."""

import contextlib
import ctypes as c
import os
import threading
import weakref

from . import _lib, arrays
from ._lib import check, lib

_OPS = {"sum": _lib.SUM, "mean": _lib.MEAN}


def _op(op):
    if op not in _OPS:
        raise ValueError("taut: op=%r: must be 'sum' or 'mean'" % (op,))
    return _OPS[op]


_kept = []  # over MPI a message that had begun may arrive until MPI_Finalize, where a step has failed (taut.h)


def _destroy(so, handle, pid, lock, lent, over_mpi):
    if os.getpid() != pid or not lock.acquire(blocking=False):  # at the program's exit a thread may be left that waits in it
        return
    try:
        so.taut_comm_destroy(handle)
        if over_mpi and lent:
            _kept.append(dict(lent))
        lent.clear()
    finally:
        lock.release()


class Layer:
    """One tensor of a communicator. Made by Comm.layer()."""

    def __init__(self, comm, name, dtype, shape):
        self.comm, self.name, self.dtype, self.shape = comm, name, dtype, tuple(shape)
        self._handle = c.c_void_p()
        self._so = comm._so
        with comm.lock:
            check(self._so.taut_layer_register(comm._handle, name.encode(), dtype, len(shape), _lib.shape_array(shape), c.byref(self._handle)), self._so)

    def _usable(self):
        self.comm._usable()

    def codec(self, spec):
        """Another codec than the communicator's, before the first use; "none" excludes the layer."""
        self._usable()
        with self.comm.lock:
            check(self._so.taut_layer_codec(self._handle, _lib.text(spec)), self._so)

    def scale(self, x):
        """The unit in which errors count (taut_layer_scale): one float, or an array or tensor of one value, one per row, or one per element."""
        self._usable()
        if isinstance(x, (int, float)):
            value = c.c_float(x)
            self.scale_at(c.cast(c.byref(value), c.c_void_p), 1)
            return
        m = arrays.memory(x, "the scale of '%s'" % self.name, write=False)
        if m.dtype != _lib.F32:
            raise TypeError("taut: the scale of '%s' must be float32" % self.name)
        self.scale_at(m.pointer, m.elements)

    def scale_at(self, pointer, n):
        """The same of n floats at an address; 0 values remove it."""
        self._usable()
        with self.comm.lock:
            check(self._so.taut_layer_scale(self._handle, pointer, n), self._so)

    def start_at(self, pointer, op, owner=None):
        """Begins to reduce what lies at an address: of the layer's dtype, contiguous; owner: what lives until then."""
        self._usable()
        with self.comm.lock:
            check(self._so.taut_allreduce_start(self._handle, pointer, op), self._so)
            self.comm.lent[self.name] = owner

    def start_tensor(self, tensor, op):
        """The same of a torch tensor without gaps, on the CPU or a CUDA device, whose stream is the current one."""
        if tensor.device.type == "cpu":
            self.start_at(tensor.data_ptr(), op, tensor)
            return
        space, device, stream = arrays.place(tensor, "'%s'" % self.name)
        self._usable()
        with self.comm.lock:
            check(self._so.taut_allreduce_start_on(self._handle, tensor.data_ptr(), op, space, device, stream), self._so)
            self.comm.lent[self.name] = tensor

    def _memory(self, x):
        m = arrays.memory(x, "'%s'" % self.name)
        if m.dtype != self.dtype or m.shape != self.shape:
            raise ValueError("taut: '%s' was registered with shape %s and dtype %s, and is given %s, %s" % (
                self.name, self.shape, _name(self.dtype), m.shape, _name(m.dtype)))
        return m

    def start(self, x, op="mean"):
        """Begins to reduce x in place; x is not to be touched until wait() or the communicator's step_end()."""
        self._usable()
        m = self._memory(x)
        self.start_at(m.pointer, _op(op), m.owner)

    def done(self):
        """Whether the result is there."""
        self._usable()
        done = c.c_int()
        with self.comm.lock:
            check(self._so.taut_test(self._handle, c.byref(done)), self._so)
        return bool(done.value)

    def wait(self):
        self._usable()
        with self.comm.waiting("'%s'" % self.name):
            check(self._so.taut_wait(self._handle), self._so)
            self.comm.lent.pop(self.name, None)

    def allreduce(self, x, op="mean"):
        """Reduces x in place, and returns it."""
        self._usable()
        m = self._memory(x)
        with self._lending(m.owner):
            check(self._so.taut_allreduce(self._handle, m.pointer, _op(op)), self._so)
        return x

    @contextlib.contextmanager
    def _lending(self, owner):
        """Around a call that waits for other ranks, and reads and writes memory of owner's."""
        with self.comm.waiting("'%s'" % self.name):
            before = self.comm.lent.get(self.name)  # of a start that was not waited for, which is an error
            self.comm.lent[self.name] = (owner, before)
            yield
            self.comm.lent.pop(self.name)

    def reduce_scatter(self, x, op="mean"):
        """Reduces x; this rank's part of it, part(), is right afterwards, the rest undefined. Returns (first, n) of the part."""
        self._usable()
        m = self._memory(x)
        self._reduce_scatter(m.pointer, _op(op), m.owner)
        return self.part()

    def _reduce_scatter(self, pointer, op, owner):
        self._usable()
        with self._lending(owner):
            check(self._so.taut_reduce_scatter(self._handle, pointer, op), self._so)

    def reduce_scatter_tensor(self, tensor, op):
        """The same of a torch tensor without gaps, on the CPU."""
        if tensor.device.type != "cpu":
            raise TypeError("taut: '%s' is on %s: must be on the CPU" % (self.name, tensor.device))
        self._reduce_scatter(tensor.data_ptr(), op, tensor)

    def allgather(self, x):
        """Every rank's part of x travels to all ranks."""
        self._usable()
        m = self._memory(x)
        with self._lending(m.owner):
            check(self._so.taut_allgather(self._handle, m.pointer), self._so)
        return x

    def part(self, rank=None):
        """(first, n): the elements that a rank has after reduce_scatter()."""
        self._usable()
        first, n = c.c_size_t(), c.c_size_t()
        check(self._so.taut_layer_part(self._handle, self.comm.rank if rank is None else rank, c.byref(first), c.byref(n)), self._so)
        return first.value, n.value

    def stats(self):
        """taut_layer_stats as a dict."""
        self._usable()
        s = _lib.LayerStats(size=c.sizeof(_lib.LayerStats))
        with self.comm.lock:
            check(self._so.taut_layer_get_stats(self._handle, c.byref(s)), self._so)
        return _as_dict(s)


def _name(dtype):
    return ("float32", "float16", "bfloat16")[dtype]


def _as_dict(s):
    out = {}
    for name, _ in s._fields_[1:]:
        value = getattr(s, name)
        out[name] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return out


class Comm:
    """A group of ranks. Comm.tcp(...) or Comm.mpi(...) make one; settings are the fields of taut_config by name: codec, budget, objective,
    metric, feedback, algorithm, timeout_ms, threads, link and so on (docs/env.md); TAUT_* of the environment win over them.

    Threads may share it: a call waits while another thread is in a short one; while another waits for ranks, what would wait too is a RuntimeError,
    because ranks whose threads wait in different orders would wait for ever. A forked child may not use it."""

    def __init__(self, so, handle, over_mpi=False):
        self._so, self._handle = so, handle
        self._pid = os.getpid()
        self._layers = {}
        self.lent = {}  # name of a layer -> what has its memory, which lives until the library has let go of it
        self.rank, self.size = so.taut_comm_rank(handle), so.taut_comm_size(handle)
        self.lock, self._waiter = threading.RLock(), None
        self._finalizer = weakref.finalize(self, _destroy, so, handle, self._pid, self.lock, self.lent, over_mpi)

    # ---- making one ----

    @staticmethod
    def has_tcp():
        return hasattr(lib, "taut_comm_create_tcp")

    @classmethod
    def tcp(cls, rank=0, size=1, root=None, peers=None, exchange=None, bind=None, connect_ms=0, **settings):
        """Over TCP (taut_tcp.h; TAUT_E_UNSUPPORTED if the library has none). Exactly one of: root, "HOST:PORT" on which rank 0 listens; peers, such texts for all ranks; exchange, a
        function (round, bytes) -> list of all ranks' bytes in order of rank. bind: an address or interface at which this rank is reached."""
        if not cls.has_tcp():
            raise _lib.Error(_lib.UNSUPPORTED, "Comm.tcp: this libtaut was built without TCP")
        failure = []
        where = _lib.TcpWhere(size=c.sizeof(_lib.TcpWhere), rank=rank, ranks=size, root=_lib.text(root), bind=_lib.text(bind), connect_ms=connect_ms)
        names = None
        if peers is not None:
            if len(peers) != size:
                raise ValueError("taut: peers has %d entries: must have one per rank, %d" % (len(peers), size))
            names = (c.c_char_p * size)(*[p.encode() for p in peers])
            where.peers = c.cast(names, c.POINTER(c.c_char_p))
        if exchange is not None:
            where.exchange = _exchanger(exchange, size, failure)
        handle = c.c_void_p()
        code = lib.taut_comm_create_tcp(c.byref(where), c.byref(_lib.config(settings)), c.byref(handle))
        if failure:
            raise failure[0]
        check(code)
        return cls(lib, handle)

    @classmethod
    def mpi(cls, comm=None, **settings):
        """Over MPI: comm is a communicator of mpi4py, default all ranks. MPI is initialised if nobody has done so."""
        from . import mpi
        return mpi.create(cls, comm, settings)

    @classmethod
    def threads(cls, ranks, **settings):
        """A list of communicators whose ranks are threads of this process."""
        handles = (c.c_void_p * ranks)()
        check(lib.taut_comm_create_threads(ranks, c.byref(_lib.config(settings)), handles))
        return [cls(lib, c.c_void_p(h)) for h in handles]

    # ---- using it ----

    @contextlib.contextmanager
    def waiting(self, what):
        """Around a call that waits for other ranks."""
        me, other = threading.get_ident(), self._waiter
        if other is not None and other[0] != me:
            raise RuntimeError("taut: %s: another thread waits in this communicator (%s): one thread at a time, or a communicator for each" % (what, other[1]))
        with self.lock:
            before, self._waiter = self._waiter, (me, what)
            try:
                yield
            finally:
                self._waiter = before

    def open_nccl(self, device):
        """Layers on CUDA devices travel by NCCL from now on (taut_comm_open_nccl): collective. device: number of this rank's."""
        self._usable()
        if not hasattr(self._so, "taut_comm_open_nccl"):
            raise RuntimeError("taut: this libtaut has no taut_comm_open_nccl")
        with self.waiting("open_nccl"):
            check(self._so.taut_comm_open_nccl(self._handle, device), self._so)

    def _usable(self):
        if not self._finalizer.alive:
            raise RuntimeError("taut: this communicator has been closed")
        if os.getpid() != self._pid:
            raise RuntimeError("taut: this process was forked from the one that made the communicator, which alone may use it")

    def layer(self, name, like=None, dtype=None, shape=None):
        """The layer of that name, registered if it is new; like: an array or tensor that has its dtype and shape."""
        self._usable()
        if name in self._layers and like is None and shape is None:
            return self._layers[name]
        if like is not None:
            m = arrays.memory(like, "'%s'" % name, write=False)
            dtype, shape = m.dtype, m.shape
        if name in self._layers:
            found = self._layers[name]
            if found.dtype != dtype or found.shape != tuple(shape):
                raise ValueError("taut: '%s' was registered with shape %s and dtype %s, and is given %s, %s" % (
                    name, found.shape, _name(found.dtype), tuple(shape), _name(dtype)))
            return found
        if shape is None:
            raise KeyError("taut: no layer '%s' is registered" % name)
        self._layers[name] = Layer(self, name, dtype, shape)
        return self._layers[name]

    def layers(self):
        """All layers, in order of registration."""
        return list(self._layers.values())

    def allreduce(self, x, name, op="mean"):
        """Reduces x over all ranks in place, and returns it. One name for one tensor of the model, whose name it keeps."""
        return self.layer(name, like=x).allreduce(x, op)

    def start(self, x, name, op="mean"):
        self.layer(name, like=x).start(x, op)

    def step_end(self):
        """Waits for all that was started; once per training step, on all ranks."""
        self._usable()
        with self.waiting("step_end"):
            check(self._so.taut_step_end(self._handle), self._so)
            self.lent.clear()

    def step_drop(self):
        """The results of the step that has just ended are not used (taut_step_drop)."""
        self._usable()
        with self.lock:
            check(self._so.taut_step_drop(self._handle), self._so)

    def stats(self):
        """taut_comm_stats as a dict."""
        self._usable()
        s = _lib.CommStats(size=c.sizeof(_lib.CommStats))
        with self.lock:
            check(self._so.taut_comm_get_stats(self._handle, c.byref(s)), self._so)
        return _as_dict(s)

    # ---- state ----

    def save(self):
        """This rank's state, as bytes: residuals, factors, seeds, plan."""
        self._usable()
        n = c.c_size_t()
        with self.lock:
            check(self._so.taut_state_save(self._handle, None, 0, c.byref(n)), self._so)
            blob = c.create_string_buffer(max(n.value, 1))
            check(self._so.taut_state_save(self._handle, blob, n.value, c.byref(n)), self._so)
        return blob.raw[:n.value]

    def load(self, blobs):
        """The state saved by any number of ranks: blobs of all of them, in order of rank, on every rank. Layers must be registered."""
        self._usable()
        if not blobs:
            raise ValueError("taut: no state to load")
        mine = range(self.rank, len(blobs), self.size)
        for i in mine:
            pointer, n, owner = arrays.bytes_like(blobs[i])
            check(self._so.taut_state_load(self._handle, pointer, n), self._so)
            del owner
        if len(mine) == 0:
            pointer, n, owner = arrays.bytes_like(blobs[self.rank % len(blobs)])
            check(self._so.taut_state_join(self._handle, pointer, n), self._so)
            del owner

    def close(self):
        """Ranks that go on are told. Also at the end of `with`, and when nobody refers to it any more. Waits for a thread that waits in it."""
        if os.getpid() != self._pid:
            return
        with self.lock:
            self._finalizer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        return "<taut.Comm rank %d of %d>" % (self.rank, self.size)


def _exchanger(exchange, size, failure):
    def call(_, number, mine, n, everybody):
        try:
            answers = exchange(number, c.string_at(mine, n))
            if len(answers) != size or any(len(a) != n for a in answers):
                raise ValueError("taut: exchange returned %d answers of %s bytes: must be %d of %d" % (len(answers), sorted({len(a) for a in answers}), size, n))
            c.memmove(everybody, b"".join(bytes(a) for a in answers), n * size)
            return 0
        except BaseException as e:  # it must not unwind through C; tcp() raises it
            failure.append(e)
            return -1
    return _lib.EXCHANGE(call)

"""Communicators over MPI: which MPI this process runs, its libtaut, its handles.

libtaut is linked with one MPI, so the package carries a flavour for each of Open MPI and MPICH (with its relatives); the one that belongs to
the MPI that is loaded, by mpi4py or by the launcher's choice, is taken."""

import atexit
import ctypes as c
import os
import re
import sys
import weakref

from . import _lib
from ._lib import check

_OPENMPI, _MPICH = "-openmpi", "-mpich"
_SONAMES = {_OPENMPI: ["libmpi.so.40", "libmpi.so"], _MPICH: ["libmpich.so.12", "libmpi.so.12", "libmpich.so"]}
_loaded = {}


class Unusable(RuntimeError):
    """There is no MPI here that libtaut can use; the text says why."""


def _in_process():
    """Paths of MPI libraries that are loaded already."""
    with open("/proc/self/maps") as maps:
        return sorted({line.split()[-1] for line in maps if re.search(r"/libmpi(ch)?\.so", line)})


def _flavour_of(so):
    return _OPENMPI if hasattr(so, "ompi_mpi_comm_world") else _MPICH


def _open():
    """(library of MPI, flavour). One that is loaded; else the launcher's."""
    for path in _in_process():
        so = c.CDLL(path, mode=c.RTLD_GLOBAL)
        return so, _flavour_of(so)
    order = [_OPENMPI, _MPICH] if "OMPI_COMM_WORLD_SIZE" in os.environ else [_MPICH, _OPENMPI]
    tried = []
    for flavour in order:
        for name in _SONAMES[flavour]:
            try:
                so = c.CDLL(name, mode=c.RTLD_GLOBAL)  # its plugins look for its symbols
            except OSError as e:
                tried.append(str(e))
                continue
            if _flavour_of(so) == flavour:
                return so, flavour
    raise Unusable("taut: no MPI library was found: %s" % "; ".join(tried))


class Mpi:
    """The MPI of this process, and the libtaut that is linked with it."""

    def __init__(self):
        self.so, self.flavour = _open()
        self.handle = c.c_void_p if self.flavour == _OPENMPI else c.c_int
        self.taut = self._taut()
        f = self.taut.taut_comm_create_mpi
        f.restype, f.argtypes = c.c_int, [self.handle, c.POINTER(_lib.Config), c.POINTER(c.c_void_p)]
        self._init()
        self.made = weakref.WeakSet()
        atexit.register(self._close_all)  # before MPI_Finalize: what was registered last runs first

    def _taut(self):
        built = hasattr(_lib.lib, "taut_comm_create_mpi")
        if os.environ.get("TAUT_LIBRARY") and not built:
            raise Unusable("taut: TAUT_LIBRARY=%s was built without MPI" % os.environ["TAUT_LIBRARY"])
        try:
            so = _lib.lib if built else _lib.load(self.flavour)
        except OSError as e:
            raise Unusable("taut: no libtaut for %s: %s" % (self.flavour[1:], e)) from None
        other = [p for p in _in_process() if _flavour_of(c.CDLL(p)) != self.flavour]
        if other:
            raise Unusable("taut: this process runs %s, and libtaut was built for another MPI (%s)" % (self.flavour[1:], ", ".join(other)))
        return so

    def _init(self):
        up, down = c.c_int(), c.c_int()
        self.so.MPI_Initialized(c.byref(up))
        self.so.MPI_Finalized(c.byref(down))
        if down.value:
            raise Unusable("taut: MPI_Finalize has been called")
        if up.value:
            return
        level = c.c_int()
        if self.so.MPI_Init_thread(None, None, 3, c.byref(level)) != 0:  # MPI_THREAD_MULTIPLE
            raise Unusable("taut: MPI_Init_thread failed")
        atexit.register(self._finalize)

    def _finalize(self):
        down = c.c_int()
        self.so.MPI_Finalized(c.byref(down))
        if not down.value:
            self.so.MPI_Finalize()

    def _close_all(self):
        for comm in list(self.made):
            comm._finalizer()

    def world(self):
        if self.flavour == _OPENMPI:
            return c.addressof(c.c_char.in_dll(self.so, "ompi_mpi_comm_world"))
        return 0x44000000

    def size(self, comm):
        n = c.c_int()
        self.so.MPI_Comm_size(self.handle(comm), c.byref(n))
        return n.value

    def rank(self, comm):
        n = c.c_int()
        self.so.MPI_Comm_rank(self.handle(comm), c.byref(n))
        return n.value

    def sorted_world(self, key):
        """A duplicate of the world in the order of key."""
        out = self.handle()
        if self.so.MPI_Comm_split(self.handle(self.world()), 0, key, c.byref(out)) != 0:
            raise Unusable("taut: MPI_Comm_split failed")
        return out.value

    def release(self, comm):
        comm = self.handle(comm)
        self.so.MPI_Comm_free(c.byref(comm))


def mpi():
    """The Mpi of this process. Unusable if there is none."""
    if "it" not in _loaded:
        _loaded["it"] = Mpi()
    return _loaded["it"]


def handle_of(comm):
    """The handle in an mpi4py communicator."""
    MPI = sys.modules.get("mpi4py.MPI")
    if MPI is None or not isinstance(comm, MPI.Comm):
        raise TypeError("taut: comm is a %s: must be a communicator of mpi4py" % type(comm).__name__)
    size = MPI._sizeof(MPI.Comm)
    return (c.c_void_p if size == 8 else c.c_int).from_address(MPI._addressof(comm)).value


def create_at(cls, handle, settings):
    m = mpi()
    out = c.c_void_p()
    check(m.taut.taut_comm_create_mpi(m.handle(handle), c.byref(_lib.config(settings)), c.byref(out)), m.taut)
    made = cls(m.taut, out, over_mpi=True)
    m.made.add(made)
    return made


def create(cls, comm, settings):
    m = mpi()
    return create_at(cls, m.world() if comm is None else handle_of(comm), settings)

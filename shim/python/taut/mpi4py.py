"""mpi4py: allreduce of NumPy arrays over its communicators.

    from mpi4py import MPI
    import taut.mpi4py
    taut.mpi4py.allreduce(MPI.COMM_WORLD, gradient, "fc1.weight")    # in place, the mean
    taut.mpi4py.step_end(MPI.COMM_WORLD)                              # once per training step
"""

from mpi4py import MPI

from .comm import Comm

_made = {}


def _py2key(comm):
    return MPI._handleof(comm)


def comm(mpi, **settings):
    """The communicator over mpi, made at the first call, which is collective; settings then."""
    if not isinstance(mpi, MPI.Comm) or mpi == MPI.COMM_NULL:
        raise TypeError("taut.mpi4py: comm is %r: must be a communicator of mpi4py of which this rank is a member" % (mpi,))
    key = _py2key(mpi)
    if key not in _made:
        _made[key] = (Comm.mpi(mpi, **settings), dict(settings))
    elif settings and settings != _made[key][1]:
        raise RuntimeError("taut.mpi4py: this communicator was made with other settings: %r" % (_made[key][1],))
    return _made[key][0]


def allreduce(mpi, array, name, op="mean", **settings):
    """Reduces a float32 or float16 array in place over mpi, and returns it. name: of that tensor of the model, the same on all ranks."""
    return comm(mpi, **settings).allreduce(array, name, op)


def step_end(mpi):
    """Ends a training step: statistics, plans."""
    comm(mpi).step_end()


def close(mpi):
    """Before MPI.Finalize() or mpi.Free(); at the exit of the program it happens by itself."""
    made = _made.pop(_py2key(mpi), None)
    if made:
        made[0].close()

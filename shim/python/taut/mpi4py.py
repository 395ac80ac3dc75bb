"""mpi4py: allreduce of NumPy arrays over its communicators.

    from mpi4py import MPI
    import taut.mpi4py
    taut.mpi4py.allreduce(MPI.COMM_WORLD, gradient, "fc1.weight")    # in place, the mean
    taut.mpi4py.step_end(MPI.COMM_WORLD)                              # once per training step
"""

from mpi4py import MPI

from .comm import Comm

# An attribute of the communicator: gone, and closed, when that is freed, whose handle the next one may have.
_KEY = MPI.Comm.Create_keyval(delete_fn=lambda mpi, key, made: made[0].close())


def comm(mpi, **settings):
    """The communicator over mpi, made at the first call, which is collective; settings then."""
    if not isinstance(mpi, MPI.Comm) or mpi == MPI.COMM_NULL:
        raise TypeError("taut.mpi4py: comm is %r: must be a communicator of mpi4py of which this rank is a member" % (mpi,))
    made = mpi.Get_attr(_KEY)
    if made is None:
        made = Comm.mpi(mpi, **settings), dict(settings)
        mpi.Set_attr(_KEY, made)
    elif settings and settings != made[1]:
        raise RuntimeError("taut.mpi4py: this communicator was made with other settings: %r" % (made[1],))
    return made[0]


def allreduce(mpi, array, name, op="mean", **settings):
    """Reduces a float32 or float16 array in place over mpi, and returns it. name: of that tensor of the model, the same on all ranks."""
    return comm(mpi, **settings).allreduce(array, name, op)


def step_end(mpi):
    """Ends a training step: statistics, plans."""
    comm(mpi).step_end()


def close(mpi):
    """Before MPI.Finalize(); at the exit of the program, and in mpi.Free(), it happens by itself."""
    if mpi.Get_attr(_KEY) is not None:
        mpi.Delete_attr(_KEY)

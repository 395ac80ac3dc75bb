"""Under mpirun: mpi4py's communicators, MPI without mpi4py, and DDP whose bytes go over MPI.   mpirun -n 2 python3 check_mpi.py [mpi4py|bare|ddp]"""

import gc
import os
import sys
import weakref

import numpy as np

import taut
from ranks import raises


def value(rank, n, step=0):
    return np.random.RandomState(1000 * rank + step).standard_normal(n).astype(np.float32)


def with_mpi4py():
    from mpi4py import MPI
    import taut.mpi4py
    world = MPI.COMM_WORLD
    for step in range(3):
        x = value(world.rank, 3000, step).reshape(50, 60)
        assert taut.mpi4py.allreduce(world, x, "w", op="sum", codec="quant:bits=8") is x
        taut.mpi4py.step_end(world)
        exact = sum(value(r, 3000, step).astype(float) for r in range(world.size))
        assert np.abs(x.ravel() - exact).max() < 0.1
        assert len(set(world.allgather(x.tobytes()))) == 1
    assert taut.mpi4py.comm(world).stats()["steps"] == 3 and taut.mpi4py.comm(world).layer("w").stats()["codec"].startswith("quant")
    half = world.Split(world.rank % 2, -world.rank)
    y = np.full(2000, world.rank, np.float32)
    taut.mpi4py.allreduce(half, y, "y", codec="none")
    assert (y == np.mean([r for r in range(world.size) if r % 2 == world.rank % 2])).all()
    raises(RuntimeError, "other settings", lambda: taut.mpi4py.comm(world, codec="fp16"))
    raises(TypeError, "must be a communicator of mpi4py", lambda: taut.mpi4py.comm(3))
    raises(TypeError, "of which this rank is a member", lambda: taut.mpi4py.comm(MPI.COMM_NULL))
    if world.size == 2:
        between = world.Split(world.rank).Create_intercomm(0, world, 1 - world.rank)
        raises(taut.Error, "intracommunicator", lambda: taut.mpi4py.comm(between))
    taut.mpi4py.close(half)
    half.Free()
    for turn in range(4):  # freed without close(): the next one may have its handle, and is another group
        some = world.Split(world.rank == turn % world.size, world.rank)
        made = weakref.ref(taut.mpi4py.comm(some, codec="none"))
        y = np.full(2000, world.rank, np.float32)
        taut.mpi4py.allreduce(some, y, "y")
        assert made().size == some.size and (y == np.mean(some.allgather(world.rank))).all()
        some.Free()
        gc.collect()
        assert made() is None
    broken, x = taut.Comm.mpi(codec="none"), np.ones((60, 50), np.float32)
    for name in ("a", "b"):
        broken.layer(name, dtype=0, shape=(60, 50))
    broken.start(x, "a")
    if world.rank == 0:
        broken.start(x.copy(), "b")
    raises(taut.Error, "layer 'b'", broken.step_end)
    there = weakref.ref(x)
    broken.close()
    del x, broken
    gc.collect()
    assert there() is not None, "a message may arrive in it until MPI_Finalize"
    return world.rank


def bare():
    comm = taut.init(codec="none")
    assert "mpi4py" not in sys.modules and comm.size == int(os.environ["OMPI_COMM_WORLD_SIZE"]) and comm.rank == int(os.environ["OMPI_COMM_WORLD_RANK"])
    x = np.full((50, 60), comm.rank, np.float32)
    taut.allreduce(x, "w")
    assert (x == (comm.size - 1) / 2).all()
    taut.step_end()
    return comm.rank


def ddp():
    import tempfile
    import torch
    import torch.distributed as dist
    import taut.torch
    rank, size = int(os.environ["OMPI_COMM_WORLD_RANK"]), int(os.environ["OMPI_COMM_WORLD_SIZE"])
    there = os.path.join(tempfile.gettempdir(), "taut-mpi-" + os.environ.get("OMPI_MCA_ess_base_jobid", os.environ.get("PMIX_NAMESPACE", "0")))
    # ranks of the group in another order than MPI's
    dist.init_process_group("gloo", init_method="file://" + there, rank=size - 1 - rank, world_size=size)
    torch.manual_seed(1)
    model = taut.torch.ddp(torch.nn.Linear(64, 64), codec="quant:bits=8", transport="mpi" if len(sys.argv) < 3 else sys.argv[2])
    assert model.taut.comm.rank == dist.get_rank() and hasattr(model.taut.comm._so, "taut_comm_create_mpi")
    for step in range(3):
        model.zero_grad()
        model(torch.full((4, 64), float(rank + step))).sum().backward()
        want = 4 * (step + (size - 1) / 2)
        assert (model.module.weight.grad - want).abs().max() < 0.1, (model.module.weight.grad, want)
    assert model.taut.stats()["steps"] == 3
    dist.barrier()
    model.taut.close()
    return rank


if {"mpi4py": with_mpi4py, "bare": bare, "ddp": ddp}[sys.argv[1]]() == 0:
    print("1 passed, 0 failed")

"""The package without torch: arrays over TCP and threads, frames, wrong calls, state, forks, structs as in the header."""

import os
import pickle
import tempfile
import threading
import time
import weakref

import numpy as np

import taut
from taut import _lib
from check_structs import check_structs
from ranks import case, finish, free_port, free_ports, raises, run


def value(rank, n, step=0):
    return np.random.RandomState(1000 * rank + step).standard_normal(n).astype(np.float32)


def exact(size, n, step=0):
    return sum(value(r, n, step).astype(np.float64) for r in range(size))


def over_tcp(body, sizes=(1, 2, 3), **settings):
    """body(comm, rank, size) on ranks connected over TCP."""
    for size in sizes:
        root = "127.0.0.1:%d" % free_port()

        def rank_body(rank, n):
            with taut.Comm.tcp(rank, n, root=root if n > 1 else None, timeout_ms=20000, **settings) as comm:
                return body(comm, rank, n)

        for r, answer in enumerate(run(rank_body, size, group=False)):
            assert answer and answer[0], "rank %d of %d: %s" % (r, size, answer and answer[1])


@case()
def sums():
    def body(comm, rank, size):
        assert (comm.rank, comm.size) == (rank, size)
        for step in range(3):
            x = value(rank, 60 * 50, step).reshape(60, 50)
            y = value(rank, 40, step)
            comm.start(x, "w", "sum")
            comm.start(y, "b")
            comm.step_end()
            assert np.abs(x.ravel() - exact(size, 3000, step)).max() < 0.1
            assert np.allclose(y, exact(size, 40, step) / size, atol=1e-5)
        half = value(rank, 2000).astype(np.float16)
        assert comm.allreduce(half, "half") is half
        assert np.abs(half - exact(size, 2000) / size).max() < 0.02
        s = comm.stats()
        assert s["steps"] == 3 and (s["bytes_sent"] > 0 or size == 1)
        assert comm.layer("w").stats()["codec"].startswith("quant:bits=8")
    over_tcp(body, codec="quant:bits=8")


@case()
def sharded():
    def body(comm, rank, size):
        x = value(rank, 6000)
        layer = comm.layer("w", like=x.reshape(60, 100))
        y = x.reshape(60, 100)
        first, n = layer.reduce_scatter(y, "sum")
        assert np.allclose(y.ravel()[first:first + n], exact(size, 6000)[first:first + n], atol=1e-4)
        layer.allgather(y)
        assert np.allclose(y.ravel(), exact(size, 6000), atol=1e-4)
        assert sum(layer.part(r)[1] for r in range(size)) == 6000
        comm.step_end()
    over_tcp(body, codec="none")


@case()
def own_exchange():
    with tempfile.TemporaryDirectory() as folder:
        def exchange_of(rank, size):
            def exchange(number, mine):
                name = os.path.join(folder, "%d.%%d.%%d" % size)
                with open(name % (number, rank) + ".new", "wb") as f:
                    f.write(mine)
                os.rename(name % (number, rank) + ".new", name % (number, rank))
                for r in range(size):
                    while not os.path.exists(name % (number, r)):
                        pass
                return [open(name % (number, r), "rb").read() for r in range(size)]
            return exchange

        def body(rank, size):
            comm = taut.Comm.tcp(rank, size, exchange=exchange_of(rank, size), codec="none")
            x = value(rank, 3000).reshape(50, 60)
            comm.allreduce(x, "w", "sum")
            assert np.allclose(x.ravel(), exact(size, 3000), atol=1e-5)
        for answer in run(body, 3, group=False):
            assert answer and answer[0], answer
    raises(KeyError, "of mine", lambda: taut.Comm.tcp(0, 2, exchange=lambda number, mine: {}["of mine"]))
    raises(ValueError, "must be 2 of", lambda: taut.Comm.tcp(0, 2, exchange=lambda number, mine: [mine]))


@case()
def frames():
    x = value(0, 5000).reshape(50, 100)
    for codec, error in (("none", 0), ("fp16", 1e-6), ("quant:bits=8", 1e-3), ("grid:rel=0.01", 0.0101), ("topk:density=0.5", 0.3)):
        frame = taut.encode(x, codec)
        info = taut.frame_info(frame)
        assert info["elements"] == 5000 and info["bytes"] == len(frame) and info["codec"].startswith(codec.split(":")[0])
        for source in (frame, bytearray(frame), memoryview(frame), np.frombuffer(frame, np.uint8)):
            back = taut.decode(source)
            assert ((back - x.ravel()) ** 2).sum() <= error * (x ** 2).sum() + 1e-12, codec
    out = np.zeros((50, 100), np.float32)
    assert taut.decode(taut.encode(x.astype(np.float64), "none"), out) is out and (out == x).all()
    assert (taut.decode(taut.encode(np.asfortranarray(x), "none")) == x.ravel()).all()
    e = raises(taut.Error, "bits=9: must be an integer 1..8", lambda: taut.encode(x, "quant:bits=9"))
    assert e.status == "TAUT_E_RANGE" and e.code == -11
    again = pickle.loads(pickle.dumps(e))  # as pools of processes do
    assert (type(again), again.code, str(again)) == (taut.Error, e.code, str(e))
    raises(taut.Error, "TAUT_E_CORRUPT", lambda: taut.decode(b"x" * 100))
    raises(taut.Error, "TAUT_E_", lambda: taut.decode(b""))
    damaged = bytearray(taut.encode(x, "quant:bits=4"))
    damaged[-5] ^= 1
    raises(taut.Error, "TAUT_E_CORRUPT", lambda: taut.decode(damaged))
    raises(ValueError, "with 5000 elements", lambda: taut.decode(frame, np.zeros(3, np.float32)))
    raises(TypeError, "complex", lambda: taut.encode(x.astype(np.complex64), "none"))


@case()
def wrong_calls():
    def body(comm, rank, size):
        x = value(rank, 3000).reshape(50, 60)
        raises(TypeError, "dtype float64: must be one of float32", lambda: comm.allreduce(x.astype(np.float64), "a"))
        raises(TypeError, "dtype complex64", lambda: comm.allreduce(x.astype(np.complex64), "a"))
        raises(TypeError, "dtype >f4", lambda: comm.allreduce(x.astype(">f4"), "a"))
        raises(TypeError, "is a list", lambda: comm.allreduce([1.0, 2.0], "a"))
        raises(ValueError, "not contiguous", lambda: comm.allreduce(x.T, "a"))
        raises(ValueError, "no elements", lambda: comm.allreduce(x[:0], "a"))
        raises(ValueError, "op='max': must be 'sum' or 'mean'", lambda: comm.allreduce(x, "w", "max"))
        fixed = x.copy()
        fixed.flags.writeable = False
        raises(ValueError, "read-only", lambda: comm.allreduce(fixed, "a"))
        comm.allreduce(x, "w")
        raises(ValueError, "'w' was registered with shape (50, 60)", lambda: comm.allreduce(x[:10], "w"))
        raises(ValueError, "float16", lambda: comm.allreduce(x.astype(np.float16), "w"))
        raises(taut.Error, "'w'", lambda: comm.layer("w").wait())
        raises(taut.Error, "TAUT_E_STATE", lambda: comm.layer("w").codec("none"))
        raises(KeyError, "no layer 'nobody'", lambda: comm.layer("nobody"))
        comm.layer("v", like=x).scale(np.ones(50, np.float32))
        raises(taut.Error, "TAUT_E_RANGE", lambda: comm.layer("v").scale(0.0))
        comm.step_end()
        comm.close()
        comm.close()
        raises(RuntimeError, "has been closed", lambda: comm.allreduce(x, "w"))
    over_tcp(body, sizes=(2,), codec="quant:bits=8")
    raises(TypeError, "no setting 'bugdet'; there are: codec, budget", lambda: taut.Comm.tcp(bugdet="rel=0.1"))
    raises(TypeError, "timeout_ms='long'", lambda: taut.Comm.tcp(timeout_ms="long"))
    raises(taut.Error, "must be one of", lambda: taut.Comm.tcp(metric="best"))
    raises(taut.Error, "must be HOST:PORT", lambda: taut.Comm.tcp(0, 2, root="nowhere"))
    raises(ValueError, "one per rank, 2", lambda: taut.Comm.tcp(0, 2, peers=["127.0.0.1:1"]))


@case()
def state_of_any_world():
    """What one group left behind reaches the next, whatever its size: nothing of the residuals is lost."""
    with tempfile.TemporaryDirectory() as folder:
        total = np.zeros(4000)

        def train(comm, rank, size, steps, have):
            x = np.zeros((40, 100), np.float32)
            comm.layer("w", like=x)
            if have:
                comm.load([open("%s/%d.%d" % (folder, have, r), "rb").read() for r in range(have)])
            applied = np.zeros(4000)
            for step in steps:
                x[:] = value(rank, 4000, step).reshape(40, 100)
                comm.allreduce(x, "w", "sum")
                applied += x.ravel()
                comm.step_end()
            with open("%s/%d.%d" % (folder, size, rank), "wb") as f:
                f.write(comm.save())
            np.save("%s/applied.%d" % (folder, size), applied)

        over_tcp(lambda c, r, n: train(c, r, n, range(3), 0), sizes=(2,), codec="topk:density=0.1", feedback="on")
        over_tcp(lambda c, r, n: train(c, r, n, range(3, 6), 2), sizes=(3,), codec="topk:density=0.1", feedback="on")

        def last(comm, rank, size):
            x = np.zeros((40, 100), np.float32)
            comm.layer("w", like=x)
            comm.load([open("%s/3.%d" % (folder, r), "rb").read() for r in range(3)])
            applied = np.zeros(4000)
            for _ in range(60):  # nothing new: what is left comes out
                x[:] = 0
                comm.allreduce(x, "w", "sum")
                applied += x.ravel()
                comm.step_end()
            np.save(folder + "/applied.1", applied)
        over_tcp(last, sizes=(1,), codec="topk:density=0.1", feedback="on")
        for n, steps in ((2, range(3)), (3, range(3, 6))):
            total += sum(exact(n, 4000, s) for s in steps)
        have = sum(np.load("%s/applied.%d.npy" % (folder, n)) for n in (1, 2, 3))
        assert np.abs(have - total).max() < 2e-3, np.abs(have - total).max()

    def refuses(comm, rank, size):
        comm.layer("w", like=np.zeros((40, 100), np.float32))
        raises(taut.Error, "TAUT_E_", lambda: comm.load([b"nonsense"]))
        raises(ValueError, "no state", lambda: comm.load([]))
    over_tcp(refuses, sizes=(1,))


@case()
def threads_as_ranks():
    comms, out = taut.Comm.threads(3, codec="quant:bits=8"), [None] * 3

    def body(rank):
        x = value(rank, 3000).reshape(50, 60)
        comms[rank].allreduce(x, "w", "sum")
        comms[rank].step_end()
        out[rank] = x
    them = [threading.Thread(target=body, args=(r,)) for r in range(3)]
    [t.start() for t in them], [t.join() for t in them]
    assert (out[0] == out[1]).all() and (out[0] == out[2]).all() and np.abs(out[0].ravel() - exact(3, 3000)).max() < 0.1
    xs = [value(r, 3000).reshape(50, 60) for r in range(3)]
    sums = [threading.Thread(target=comms[r].allreduce, args=(xs[r], "w", "sum")) for r in range(3)]
    end, told = threading.Thread(target=comms[0].close), []  # while another thread waits in it: after that has its result
    _, destroy, args, _ = comms[0]._finalizer.detach()
    comms[0]._finalizer = weakref.finalize(comms[0], lambda: told.append(comms[0]._waiter) or destroy(*args))
    sums[0].start()
    while comms[0]._waiter is None:
        time.sleep(0.001)
    end.start()
    time.sleep(0.05)
    [t.start() for t in sums[1:]], [t.join() for t in sums + [end]]
    assert (xs[0] == xs[1]).all() and np.abs(xs[0].ravel() - exact(3, 3000)).max() < 0.1
    assert told == [None], told
    raises(RuntimeError, "has been closed", comms[0].stats)


@case()
def children():
    def body(comm, rank, size):
        x = value(rank, 3000).reshape(50, 60)
        comm.allreduce(x, "w")
        pid = os.fork()
        if pid == 0:
            try:
                raises(RuntimeError, "forked", lambda: comm.allreduce(x, "w"))
                comm.close()
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        comm.allreduce(x, "w")
        comm.step_end()
    over_tcp(body, sizes=(2,), codec="none")


@case()
def a_rank_that_exits():
    def body(comm, rank, size):
        x = value(rank, 3000).reshape(50, 60)
        comm.allreduce(x, "w")
        if rank == 1:
            os._exit(0)
        e = raises(taut.Error, "rank 1", lambda: [comm.allreduce(x, "w") for _ in range(3)])
        assert e.status == "TAUT_E_PEER"
        return True
    root = "127.0.0.1:%d" % free_port()
    answers = run(lambda r, n: body(taut.Comm.tcp(r, n, root=root, codec="none"), r, n), 3, group=False)
    assert answers[1] is None and answers[0][0] and answers[2][0], answers


def near(x, want):
    """Within twice the default budget, that of 4 bits, whatever the plan's codec."""
    return ((x.ravel() - want) ** 2).sum() <= 0.02 * (want ** 2).sum()


@case()
def default_communicator():
    os.environ.update(OMPI_COMM_WORLD_SIZE="2", TORCHELASTIC_RUN_ID="7")  # workers of `srun torchrun` are no ranks of MPI
    assert taut.default.under_mpirun() == 0
    del os.environ["OMPI_COMM_WORLD_SIZE"], os.environ["TORCHELASTIC_RUN_ID"]

    def body(rank, size):
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        for step in range(4):
            x, y = value(rank, 3000, step).reshape(50, 60), value(rank, 50, step)
            assert taut.allreduce(x, "w") is x
            taut.allreduce(y, "b", op="sum")
            assert near(x, exact(size, 3000, step) / size) and np.allclose(y, exact(size, 50, step), atol=1e-5)
            z = value(rank, 3000, step).reshape(50, 60)
            taut.allreduce(z)
            assert near(z, exact(size, 3000, step) / size)
        taut.step_end()
        raises(RuntimeError, "other settings", lambda: taut.init(codec="fp16"))
        assert taut.init().stats()["steps"] == 4
        taut.close()
        raises(RuntimeError, "nothing was reduced", taut.step_end)
    port = free_ports(3)
    for answer in run(body, 2, group=False):
        assert answer and answer[0], answer[1]
    x = value(0, 100)
    assert (taut.allreduce(x.copy(), "alone") == x).all()
    taut.close()


@case()
def structs_are_the_headers():
    check_structs("taut_tcp.h", {"taut_config": _lib.Config, "taut_tcp": _lib.TcpWhere, "taut_layer_stats": _lib.LayerStats, "taut_comm_stats": _lib.CommStats})


finish()

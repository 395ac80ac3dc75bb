"""What a script may do wrong, or what may happen to it: an exception that names what, or plain DDP's behaviour, never a wrong sum."""

import contextlib
import copy
import ctypes
import datetime
import gc
import os
import sys
import threading
import time
import weakref

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP

import taut
import taut.mpi
import taut.torch
from models import Net, equal_gradients, loss_of, same_on_all, stack, step, twins
from ranks import case, finish, raises, run

torch.set_num_threads(1)
try:
    import torch._dynamo  # before ranks are forked: it takes seconds
except ImportError:
    pass
NEW = tuple(int(n) for n in torch.__version__.split(".")[:2]) >= (2, 0)
SUM = 0


class Bucket:
    """Of DDP, as far as a hook asks."""

    def __init__(self, pairs, last=True, buffer=None):
        self.pairs, self.last = pairs, last
        self.whole = torch.cat([g.reshape(-1) for _, g in pairs]) if buffer is None else buffer

    def buffer(self):
        return self.whole

    def parameters(self):
        return [p for p, _ in self.pairs]

    def gradients(self):
        return [g for _, g in self.pairs]

    def is_last(self):
        return self.last


# ---- parameters that are not on all ranks ----

@case(size=(2, 3))
def parameters_on_one_rank_only(rank, size):
    """DDP compares models itself; of a State that nobody compared, the first step names the layer, on all ranks, by either way."""
    def extended():
        net = Net()
        if rank == 1:
            net.extra = nn.Linear(40, 40)
        return net
    for transport in ("tcp", "group"):
        net = extended()
        state = taut.torch.State(net, codec="none", transport=transport, timeout_ms=20000)
        pairs = [(p, torch.ones_like(p)) for p in net.parameters()]
        e = raises(taut.Error, "extra.", lambda: taut.torch.hook(state, Bucket(pairs)))
        assert e.status == "TAUT_E_MISMATCH" and "rank 1" in str(e), e
        raises(RuntimeError, "an earlier step failed", lambda: taut.torch.hook(state, Bucket(pairs)))
    raises(RuntimeError, "", lambda: taut.torch.ddp(extended(), codec="none"))


@case()
def tensors_on_one_rank_only(rank, size):
    """By hand: the rank that did not start the layer is named, long before the timeout."""
    with taut.Comm.tcp(rank, size, root=None if size == 1 else "127.0.0.1:%d" % _port(), codec="none", timeout_ms=30000) as comm:
        for name in ("a", "b"):
            comm.layer(name, dtype=0, shape=(60, 50))
        begin = time.time()
        comm.start(torch.ones(60, 50), "a")
        if rank == 0:
            comm.start(torch.ones(60, 50), "b")
        e = raises(taut.Error, "layer 'b'", comm.step_end)
        assert e.status == "TAUT_E_MISMATCH" and time.time() - begin < 20, (e, time.time() - begin)


def _port():
    """One that rank 0 has found free, known to all."""
    from ranks import free_port
    port = torch.tensor([free_port()])
    dist.broadcast(port, 0)
    return int(port)


# ---- a model that changes ----

def outcome(model, rank, number):
    """Its gradients, or the text of the exception."""
    model.zero_grad(set_to_none=True)
    try:
        loss_of(model, rank, number).backward()
    except Exception as e:
        return "%s: %s" % (type(e).__name__, e)
    return {n: p.grad.float().clone() for n, p in model.named_parameters() if p.grad is not None}


def _replaced(net):
    net.b.weight = nn.Parameter(net.b.weight.detach() * 2)


def _frozen(net):
    net.b.weight.requires_grad_(False)


def _reshaped(net):
    net.b.weight.data = net.b.weight.data[:32].clone()


def _transposed(net):
    net.b.weight.data = net.b.weight.data.t().contiguous().t()


def _typed(net):
    net.bfloat16()


def _without_a_layer(net):
    net.norm = nn.Identity()


@case()
def models_changed_after_the_hook(rank, size):
    """Whatever is done to the model: the gradients of plain DDP with the same change, or an exception where the change is told."""
    for change in (_replaced, _frozen, _reshaped, _transposed, _typed, _without_a_layer):
        plain, ours = twins()
        step(plain, ours, rank, 0)
        for model in (plain, ours):
            change(model.module)
        want, got = (outcome(m, rank, 1) for m in (plain, ours))
        if isinstance(got, str):
            assert isinstance(want, str) or "taut: " in got or "b.weight" in got, (change.__name__, want, got)
        elif isinstance(want, str):
            assert False, "%s: plain DDP: %s; ours gave gradients" % (change.__name__, want)
        else:
            assert set(got) == set(want) and all(torch.allclose(got[n], want[n], atol=1e-2 if change is _typed else 1e-5) for n in want), change.__name__
        dist.barrier()


# ---- groups and ranks that go ----

@case()
def group_destroyed_first(rank, size):
    """After it: gradients are right, or DDP refuses; what needs the group says so; closing works."""
    plain, ours = twins()
    step(plain, ours, rank, 0)
    want = [sum_of(rank, size, 1, n) for n in range(2)]
    dist.barrier()
    dist.destroy_process_group()
    got = outcome(ours, rank, 1)
    if not isinstance(got, str):
        assert torch.allclose(got["module.a.weight"], want[0], atol=1e-5)
    raises(Exception, "", ours.taut.state_dict)
    raises(RuntimeError, "init_process_group() comes first", lambda: taut.torch.State(Net()))
    ours.taut.close()


def sum_of(rank, size, number, n):
    """The mean gradient of a.weight, computed alone."""
    total = 0
    for r in range(size):
        net = Net()
        loss_of(net, r, number).backward()
        total = total + net.a.weight.grad
    return total / size


@case()
def patience(rank, size):
    """Who waits for a rank waits as long as the group's own collectives would."""
    group, net = dist.new_group(list(range(size)), timeout=datetime.timedelta(seconds=2)), Net()
    for args in (dict(timeout_ms=30000), dict()):
        state = taut.torch.State(net, process_group=group, codec="none", **args)
        bucket = Bucket([(net.a.weight, torch.ones(net.a.weight.shape))])
        taut.torch.hook(state, bucket)
        dist.barrier()
        if rank == 1:
            time.sleep(3)
        if args:
            taut.torch.hook(state, bucket)
        elif rank == 0:
            assert raises(taut.Error, "no progress for 2000 ms", lambda: taut.torch.hook(state, bucket)).status == "TAUT_E_TIMEOUT"
        dist.barrier()


@case(size=3)
def ranks_that_leave():
    """By os._exit(0), by an exception, by close(): the others raise, at once, with the rank's number, by either transport that can tell."""
    def body(rank, size, how):
        ours = taut.torch.ddp(Net(), codec="none", timeout_ms=60000)
        for number in range(2):  # after that DDP talks to nobody itself
            loss_of(ours, rank, number).backward()
        if rank == 1:
            if how == "exit":
                os._exit(0)
            if how == "raise":
                raise SystemExit("this rank has had enough")
            ours.taut.close()
            time.sleep(10)
            return None
        begin = time.time()
        e = raises(RuntimeError, "rank 1", lambda: [loss_of(ours, rank, n).backward() for n in range(3)])
        assert "PEER" in str(e), e
        return time.time() - begin
    for how in ("exit", "raise", "close"):
        answers = run(lambda rank, size: body(rank, size, how), 3)
        assert all(a and a[0] and a[1] < 8 for a in (answers[0], answers[2])), (how, answers)


# ---- tensors of the wrong kind ----

@case()
def another_device(rank, size):
    """A tensor that is not on the CPU is refused with its name, and never read."""
    net = Net()
    state = taut.torch.State(net, codec="none")
    away = torch.empty(net.a.weight.shape, device="meta")
    raises(RuntimeError, "gradients of 'a.weight' are on meta: must be on cpu", lambda: taut.torch.hook(state, Bucket([(net.a.weight, away)], buffer=away.view(-1))))
    raises(TypeError, "is on meta: must be on the CPU", lambda: taut.allreduce(away, "w"))
    raises(TypeError, "'w' is on meta", lambda: taut.init().start(away, "w"))
    with taut.Comm.tcp() as comm:
        layer = comm.layer("w", dtype=0, shape=(4, 4))
        raises(TypeError, "'w' is on meta: must be on the CPU or a CUDA device", lambda: layer.start_tensor(torch.empty(4, 4, device="meta"), SUM))
        raises(TypeError, "'w' is on meta", lambda: layer.reduce_scatter_tensor(torch.empty(4, 4, device="meta"), SUM))
        raises(TypeError, "must be a", lambda: taut.decode(taut.encode(torch.ones(4), "none"), out=[0.0] * 4))
    owner = taut.torch.fsdp.__globals__["Fsdp"]({}, "auto", None)
    raises(RuntimeError, "FSDP module 'block' are torch.float32 on meta", lambda: owner.layer(None, "block", away, away.shape))
    gathered = taut.torch.State(net, codec="none", transport="group")
    raises(Exception, "meta", lambda: taut.torch.hook(gathered, Bucket([(net.a.weight, away)], buffer=away.view(-1))))


class Tag:
    """Tells when what it hangs on is freed."""

    def __init__(self, told):
        self.told = told

    def __del__(self):
        self.told.append("freed")


@case()
def memory_that_is_lent(rank, size):
    """A model that is dropped in the middle of a step: gradients live until the library has let go of them."""
    net, told = Net(), []
    state = taut.torch.State(net, codec="none")
    grad, comm = torch.ones(net.a.weight.shape), state.comm
    grad.tag = Tag(told)
    taut.torch.hook(state, Bucket([(net.a.weight, grad)], last=False))
    _, end, args, _ = comm._finalizer.detach()
    comm._finalizer = weakref.finalize(comm, lambda: told.append("let go") or end(*args))
    del grad, comm, state
    gc.collect()
    assert told == ["let go", "freed"], told


class OnDevice:
    """A tensor of a GPU, as far as anybody asks before the library does."""
    device, shape, dtype, is_sparse = torch.device("cuda", 0), (60, 50), torch.float32, False

    def data_ptr(self):
        return 4096


@case()
def nccl_groups(rank, size):
    """As far as this can be seen without a GPU: what a rank lacks is told on all ranks; NCCL is opened on this rank's device; the library itself
    refuses memory of a device that it cannot reach."""
    from taut.torch import device, meeting
    dist.get_backend, meeting._device = lambda group=None: "nccl", lambda group: torch.device("cpu")
    net = Net()
    if "cuda" not in taut.features():
        raises(RuntimeError, "the process group is NCCL's, and rank 0 cannot reduce on its GPU: this libtaut was built without CUDA", lambda: taut.torch.State(net, codec="none"))
    device._lack = lambda comm: "no driver" if rank == 1 else None
    raises(RuntimeError, "rank 1 cannot reduce on its GPU: no driver", lambda: taut.torch.State(net, codec="none"))
    opened = []
    device._lack, taut.Comm.open_nccl, torch.cuda.current_device = lambda comm: None, lambda comm, number: opened.append(number), lambda: 7
    state = taut.torch.State(net, codec="none")
    assert opened == [7]

    @contextlib.contextmanager
    def current(place):
        before, torch.cuda.current_device = torch.cuda.current_device, lambda: place.index
        yield
        torch.cuda.current_device = before
    asked, device.place_of, torch.cuda.device = [device.place_of], lambda module: torch.device("cuda", 3), current
    taut.torch.State(net, codec="none")  # as of device_ids=[3], without set_device()
    assert opened == [7, 3] and torch.cuda.current_device() == 7 and asked[0](net) is None
    raises(RuntimeError, "gradients of 'a.weight' are on cpu: must be on cuda", lambda: taut.torch.hook(state, Bucket([(net.a.weight, torch.ones_like(net.a.weight))])))
    assert device.open(meeting.comm_of_group(dist.group.WORLD, dict(codec="none"), transport="group"), dist.group.WORLD) == ("cuda",)
    torch.cuda.current_stream = lambda place: type("Stream", (), {"cuda_stream": 0})()
    with taut.Comm.tcp() as comm:
        layer = comm.layer("w", dtype=0, shape=(60, 50))
        e = raises(taut.Error, "", lambda: layer.start_tensor(OnDevice(), SUM))
        assert e.status in ("TAUT_E_UNSUPPORTED", "TAUT_E_DEVICE", "TAUT_E_INVALID"), e
        x = torch.ones(60, 50)
        assert torch.equal(comm.allreduce(x.clone(), "w"), x)  # nothing was started


class NotContiguous(nn.Module):
    """Parameters that are views: transposed, every other column, expanded from one row."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.w = nn.Parameter(torch.randn(64, 48).t())
        self.v = nn.Parameter(torch.randn(48, 128)[:, ::2])
        self.u = nn.Parameter(torch.randn(4, 8, 16).permute(2, 0, 1))

    def forward(self, x):
        return (x @ self.w.t() @ self.v).pow(2).mean() + (self.u * x.mean()).pow(2).sum()


@case(size=(2, 3))
def not_contiguous(rank, size):
    for codec, tolerance in (("none", 1e-5), ("quant:bits=8", 0.1), ("grid:rel=0.0001", 0.1)):
        plain, ours = twins(NotContiguous, codec=codec)
        for number in range(3):
            for model in (plain, ours):
                model.zero_grad()
                model(torch.randn(5, 64, generator=torch.Generator().manual_seed(10 * number + rank))).backward()
            for (name, p), (_, q) in zip(plain.named_parameters(), ours.named_parameters()):
                assert ((p.grad - q.grad) ** 2).sum() <= tolerance ** 2 * (p.grad ** 2).sum(), (codec, name, number)
                assert same_on_all(q.grad)
    x = torch.ones(6, 4).t()
    raises(ValueError, "'w' has strides (1, 4) for shape (4, 6): must be contiguous", lambda: taut.init(codec="none").start(x, "w"))


@case()
def complex_tensors(rank, size):
    """By hand they are refused by name; as parameters they are plain DDP's (check_ddp)."""
    raises(TypeError, "has dtype complex64: must be one of float32", lambda: taut.allreduce(torch.ones(4, dtype=torch.complex64), "w"))
    raises(TypeError, "cannot encode complex", lambda: taut.encode(torch.ones(4, dtype=torch.complex64), "none"))
    if not NEW:
        return  # gloo of 1.13 has none
    net = nn.Module()
    net.w = nn.Parameter(torch.ones(8, 8, dtype=torch.complex64))
    state = taut.torch.State(net, codec="none")
    future = taut.torch.hook(state, Bucket([(net.w, torch.full((8, 8), complex(rank, 1)))]))
    assert torch.equal(future.wait(), torch.full((64,), complex((size - 1) / 2, 1)))


# ---- what the program is ----

@case(size=1, group=False)
def torch_without_distributed(rank, size):
    """Tensors are reduced, taut.torch says why it cannot be."""
    dist.is_available = lambda: False
    for name in [n for n in sys.modules if n == "taut.torch" or n.startswith("taut.torch.")]:
        del sys.modules[name]
    raises(ImportError, "built without torch.distributed", lambda: __import__("taut.torch"))
    x = torch.arange(6.0)
    assert torch.equal(taut.allreduce(x.clone(), "w"), x)
    taut.close()


def _other_mpi():
    """An MPI library of another kind than the library's, loaded; None."""
    if not hasattr(taut._lib.lib, "taut_comm_create_mpi") or taut.mpi._in_process() == []:
        return None  # the library was built without one, or loads one when it is wanted: the right one then
    for name in ("libmpich.so.12", "libmpich.so"):
        try:
            return ctypes.CDLL(name, mode=os.RTLD_LOCAL | os.RTLD_NOW)
        except OSError:
            continue
    return None


@case()
def a_library_for_another_mpi():
    """The process has loaded MPICH, the library is for Open MPI: an exception that says so, or TCP where that is allowed."""
    def body(rank, size):
        if _other_mpi() is None:
            return "none"
        e = raises(taut.mpi.Unusable, "built for another MPI", taut.Comm.mpi)
        assert "libmpich" in str(e) or "openmpi" in str(e), e
        os.environ["OMPI_COMM_WORLD_SIZE"] = str(size)  # as if a launcher of the one had started a program of the other
        raises(RuntimeError, "transport='mpi'", lambda: taut.torch.State(Net(), transport="mpi"))
        ours = taut.torch.ddp(Net(), codec="none")
        loss_of(ours, rank, 0).backward()
        assert torch.allclose(ours.module.a.weight.grad, sum_of(rank, size, 0, 0), atol=1e-5)
        return "seen"
    for answer in run(body, 2):
        assert answer and answer[0], answer and answer[1]
        if answer[1] == "none":
            print("SKIP a_library_for_another_mpi: no MPICH, or a library without MPI")


@case()
def forked_children(rank, size):
    """A child may not use what its parent made; the parent goes on."""
    plain, ours = twins()
    step(plain, ours, rank, 0)
    pid = os.fork()
    if pid == 0:
        try:
            net = ours.module
            raises(RuntimeError, "forked", ours.taut.comm.stats)
            raises(RuntimeError, "forked", lambda: taut.torch.hook(ours.taut, Bucket([(net.a.weight, torch.ones_like(net.a.weight))])))
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    step(plain, ours, rank, 1)
    equal_gradients(plain, ours)


@case()
def threads_with_a_model_each(rank, size):
    """Two models, each trained by a thread of its own, over a group of its own: plain gradients."""
    groups = [dist.new_group(list(range(size))) for _ in range(2)]
    models = [taut.torch.ddp(stack(seed=k), process_group=groups[k], codec="none") for k in range(2)]
    first = [stack(seed=k) for k in range(2)]  # not in the threads, which share the random numbers
    wrong = []

    def train(k):
        try:
            for number in range(5):
                models[k].zero_grad()
                models[k](torch.full((4, 40), 1.0 + rank + number)).pow(2).mean().backward()
                alone = copy.deepcopy(first[k])
                for r in range(size):
                    (alone(torch.full((4, 40), 1.0 + r + number)).pow(2).mean() / size).backward()
                for p, q in zip(models[k].parameters(), alone.parameters()):
                    if not torch.allclose(p.grad, q.grad, atol=1e-4, rtol=1e-4):
                        wrong.append((k, number, (p.grad - q.grad).abs().max()))
        except BaseException as e:
            wrong.append(e)
    workers = [threading.Thread(target=train, args=(k,)) for k in range(2)]
    [w.start() for w in workers]
    [w.join() for w in workers]
    assert not wrong, wrong


@case()
def threads_with_one_communicator(rank, size):
    """Who looks at statistics while another thread trains waits a moment; who wants to wait for ranks beside it is told."""
    comm = taut.Comm.tcp(rank, size, root="127.0.0.1:%d" % _port(), codec="none", timeout_ms=30000)
    x, y, told = torch.ones(60, 50), torch.ones(60, 50), []
    comm.layer("x", like=x), comm.layer("y", like=y)
    if rank == 0:
        first = threading.Thread(target=lambda: comm.allreduce(x, "x", op="sum"))
        first.start()
        while comm._waiter is None:
            time.sleep(0.01)
        told.append(raises(RuntimeError, "another thread waits in this communicator ('x')", lambda: comm.allreduce(y, "y", op="sum")))
        told.append(raises(RuntimeError, "step_end: another thread", comm.step_end))
        dist.barrier()
        first.join()
    else:
        dist.barrier()  # until rank 0's second thread has been told
        comm.allreduce(x, "x", op="sum")
    assert (x == size).all() and len(told) == (2 if rank == 0 else 0)
    comm.allreduce(y, "y", op="sum")
    assert (y == size).all()
    looked, stop = [0], threading.Event()

    def look():
        while not stop.is_set():
            looked[0] += comm.stats()["steps"] >= 0
            time.sleep(0.001)
    watcher = threading.Thread(target=look)
    watcher.start()
    for number in range(20):
        comm.step_end()
        z = torch.full((60, 50), float(rank + number))
        comm.allreduce(z, "x", op="sum")
        assert (z == sum(r + number for r in range(size))).all()
    stop.set()
    watcher.join()
    assert looked[0] > 0
    comm.step_end()


finish()

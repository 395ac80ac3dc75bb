"""Reductions through the process group's own collectives (transport="group"): asked for, and where ranks cannot reach each other by TCP."""

import os
import time
import warnings

import torch
import torch.distributed as dist
from torch import nn

import taut
import taut.torch
from models import Net, equal_gradients, loss_of, same_on_all, step, twins
from ranks import case, finish, raises, run
from taut.torch import gathered, meeting

torch.set_num_threads(1)
try:
    import torch._dynamo  # before ranks are forked: it takes seconds
except ImportError:
    pass


def comm_of(rank, size, **settings):
    return meeting.comm_of_group(dist.group.WORLD, settings, transport="group")


@case(size=(2, 3))
def gradients_are_plain_ones(rank, size):
    plain, ours = twins(transport="group")
    assert isinstance(ours.taut.comm, gathered.GatheredComm)
    for number in range(3):
        torch.set_default_dtype(torch.float64 if number == 2 else torch.float32)
        step(plain, ours, rank, number)
        equal_gradients(plain, ours)
    s = ours.taut.stats()
    assert s["steps"] == 3 and s["bytes_sent"] >= s["bytes_dense"] > 0 and s["rel_err2"] < 1e-12, s


@case(size=(2, 3))
def sums_against_float64(rank, size):
    """Every codec, the three types, sums and means: the mean of what the ranks' codecs alone make of their tensors, and the same bytes on all."""
    for codec in ("none", "fp16", "quant:bits=8", "quant:bits=2", "grid:rel=0.03", "grid:rel=0.1,code=rans", "topk:density=0.1", "randk:density=0.5", "powersgd:rank=4"):
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            for op, factor in (("sum", 1.0), ("mean", 1.0 / size)):
                comm = comm_of(rank, size, codec=codec, feedback="off")
                parts = [torch.randn(60, 50, generator=torch.Generator().manual_seed(r)).to(dtype) for r in range(size)]
                layer = comm.layer("w", dtype={torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}[dtype], shape=(60, 50))
                x = parts[rank].clone()
                layer.start_tensor(x, taut.comm._OPS[op])
                comm.step_end()
                want = torch.zeros(3000, dtype=torch.float64)
                for r, p in enumerate(parts):  # what that rank's frame says
                    comm.rank = r
                    frame = taut.encode(p.float(), codec, comm.seed_of("w", 0))
                    want += taut.decode(frame, torch.empty(3000)).double()
                comm.rank = rank
                want *= factor
                most = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}[dtype]
                assert ((x.double().view(-1) - want).abs().max() <= most * want.abs().max()), (codec, dtype, op)
                assert same_on_all(x.float())


@case()
def feedback_gives_back(rank, size):
    """What was applied and what is left add up to the gradients, over ten steps; off: nothing is left; the steps trained with dropped ones do not count."""
    for settings, kept in ((dict(codec="topk:density=0.05"), True), (dict(codec="quant:bits=2"), False), (dict(codec="grid:rel=0.3", feedback="on"), True),
                           (dict(codec="topk:density=0.05", feedback="off"), False)):
        comm = comm_of(rank, size, **settings)
        layer, given, applied = comm.layer("w", dtype=0, shape=(60, 50)), torch.zeros(60, 50), torch.zeros(60, 50)
        for number in range(10):
            x = torch.randn(60, 50, generator=torch.Generator().manual_seed(100 * number + rank))
            given += x
            layer.start_tensor(x, taut.comm._OPS["sum"])
            comm.step_end()
            applied += x
        assert (layer.residual is not None) == kept, settings
        left = layer.residual.view(60, 50).clone() if kept else torch.zeros(60, 50)
        dist.all_reduce(given), dist.all_reduce(left)
        if kept:
            assert torch.allclose(applied + left, given, atol=1e-3), (applied + left - given).abs().max()
            comm.step_drop()
            assert layer.residual is None


@case()
def not_finite(rank, size):
    """NaN and Inf of one rank reach all, and leave no residual on any."""
    for bad in (float("nan"), float("inf")):
        for codec in ("quant:bits=4", "grid:rel=0.1", "topk:density=0.1", "fp16"):
            comm = comm_of(rank, size, codec=codec, feedback="on" if codec != "fp16" else "auto")
            layer = comm.layer("w", dtype=0, shape=(60, 50))
            for number in range(3):
                x = torch.randn(60, 50, generator=torch.Generator().manual_seed(rank + number))
                if number == 1 and rank == 1:
                    x[3, 7] = bad
                layer.start_tensor(x, taut.comm._OPS["mean"])
                comm.step_end()
                assert bool(torch.isfinite(x[3, 7])) == (number != 1) and same_on_all(x), (codec, bad)
                assert number != 1 or layer.residual is None


@case()
def memory_and_layouts(rank, size):
    """Channels-last gradients, tied weights, unused parameters, accumulation, an optimizer's scale, exclusions."""
    def make():
        torch.manual_seed(2)
        return nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Conv2d(16, 12, 3)).to(memory_format=torch.channels_last)
    plain, ours = twins(make, transport="group")
    optimizer = ours.taut.optimizer = torch.optim.Adam(ours.parameters(), lr=0.0)
    for number in range(3):
        for model in (plain, ours):
            model.zero_grad()
            x = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(rank + number)).to(memory_format=torch.channels_last)
            model(x).pow(2).mean().backward()
        optimizer.step()
        equal_gradients(plain, ours)
    plain, ours = twins(lambda: Net(tied=True, unused=True), dict(find_unused_parameters=True), transport="group", exclude=["out.weight"])
    for number in range(2):
        with plain.no_sync(), ours.no_sync():
            step(plain, ours, rank, 7)
        for model in (plain, ours):
            loss_of(model, rank, number).backward()
        equal_gradients(plain, ours)


@case()
def it_trains(rank, size):
    """auto is the budget's reference codec; the same parameters on all ranks."""
    ours = taut.torch.ddp(Net(), transport="group")
    assert ours.taut.comm.spec == "quant:bits=4"
    opt = torch.optim.Adam(ours.parameters(), lr=3e-3)
    first = last = None
    for number in range(30):
        opt.zero_grad()
        loss = loss_of(ours, rank, number % 4)
        loss.backward()
        opt.step()
        first, last = first or loss.item(), loss.item()
    s = ours.taut.stats()
    assert last < 0.8 * first and all(same_on_all(p) for p in ours.parameters()), (first, last)
    assert s["bytes_sent"] < 0.25 * s["bytes_dense"] and 0 < s["rel_err2"] < 0.05, s


@case()
def codecs_of_settings(rank, size):
    fixed = gathered.fixed_codec
    assert fixed("auto", None) == "quant:bits=4" and fixed("auto", "like:topk:density=0.1") == "topk:density=0.1"
    assert fixed("auto", "rel=0.05") == "grid:rel=0.05" and fixed("fp16", "rel=0.05") == "fp16"
    raises(taut.Error, "quantum", lambda: comm_of(rank, size, codec="quantum:bits=4"))
    raises(ValueError, "feedback='momentum'", lambda: comm_of(rank, size, feedback="momentum"))
    raises(TypeError, "no setting 'bugdet'", lambda: comm_of(rank, size, bugdet="rel=0.1"))
    os.environ["TAUT_CODEC"] = "fp16"
    assert comm_of(rank, size, codec="quant:bits=4").spec == "fp16"
    del os.environ["TAUT_CODEC"]


@case(size=3)
def ranks_that_differ(rank, size):
    """Other layers, an encoder that fails on one rank, one that starts nothing: all ranks raise, with names."""
    x = torch.ones(60, 50)
    comm = comm_of(rank, size, codec="quant:bits=4")
    comm.layer("b" if rank == 1 else "a", dtype=0, shape=(60, 50)).start_tensor(x.clone(), 0)
    e = raises(taut.Error, "rank 1", comm.step_end)
    assert e.status == "TAUT_E_MISMATCH" and "'a'" in str(e) and "'b'" in str(e), e
    raises(RuntimeError, "has been closed", comm.step_end)
    comm = comm_of(rank, size, codec="quant:bits=4")
    layer = comm.layer("w", dtype=0, shape=(60, 50))
    layer.start_tensor(x.clone(), 0)
    if rank == 2:
        layer.spec = "nothing:at=all"
    raises(taut.Error, "rank 2: ", comm.step_end)
    comm = comm_of(rank, size, codec="quant:bits=4")
    layer = comm.layer("w", dtype=0, shape=(60, 50))
    if rank != 0:
        layer.start_tensor(x.clone(), 0)
    raises(taut.Error, "'w'", comm.step_end)
    comm = comm_of(rank, size)
    layer = comm.layer("w", dtype=0, shape=(60, 50))
    raises(ValueError, "'w' was registered with shape (60, 50)", lambda: layer.start_tensor(torch.ones(3), 0))
    raises(ValueError, "'w' was registered", lambda: comm.layer("w", dtype=1, shape=(60, 50)))
    layer.start_tensor(x, 0)
    raises(taut.Error, "'w' is under way already", lambda: layer.start_tensor(x, 0))
    comm.close()


@case()
def checkpoints():
    """Residuals saved by two ranks are taken up by two bit for bit, and by three and one without loss."""
    import tempfile
    settings = dict(codec="topk:density=0.05", transport="group")

    def train(model, rank, first, last):
        opt = torch.optim.SGD(model.parameters(), lr=0.1)
        for number in range(first, last):
            model.zero_grad()
            loss_of(model, rank, number).backward()
            opt.step()
        return [p.detach().numpy().copy() for p in model.parameters()]

    with tempfile.TemporaryDirectory() as folder:
        def save(rank, size):
            model = taut.torch.ddp(Net(), **settings)
            train(model, rank, 0, 4)
            state = model.taut.state_dict()
            if rank == 0:
                torch.save({"model": model.module.state_dict(), "taut": state}, folder + "/c.pt")
            return train(model, rank, 4, 7)

        def load(rank, size):
            saved, net = torch.load(folder + "/c.pt"), Net()
            net.load_state_dict(saved["model"])
            model = taut.torch.ddp(net, **settings)
            model.taut.load_state_dict(saved["taut"])
            left = sum(float(layer.residual.double().sum()) for layer in model.taut.comm.layers() if layer.residual is not None)
            own = taut.torch.ddp(Net(), codec="topk:density=0.05")  # of Taut's own transport: states are not each other's
            raises(taut.Error, "", lambda: own.taut.load_state_dict(saved["taut"]))
            raises(taut.Error, "saved by a communicator with a transport of its own", lambda: model.taut.comm.load([own.taut.comm.save()]))
            return train(model, rank, 4, 7), left
        through = run(save, 2)
        assert all(a and a[0] for a in through), through
        lefts = []
        for size in (2, 3, 1):
            again = run(load, size)
            assert all(a and a[0] for a in again), again
            lefts.append(sum(a[1][1] for a in again))
            assert size != 2 or all((a == b).all() for a, b in zip(through[0][1], again[0][1][0]))
        assert abs(lefts[0] - lefts[1]) < 1e-3 and abs(lefts[0] - lefts[2]) < 1e-3, lefts


# ---- where TCP is not to be had ----

def no_route(group_gather=meeting.gather_bytes, only=None):
    """As behind a firewall: cards in which ranks tell each other their TCP ports arrive with one that nobody listens on."""
    import struct

    def gather(mine, group):
        answers = group_gather(mine, group)
        if len(mine) > 64 and mine[:4] == struct.pack("<I", 0x54435001):
            answers = [a[:20] + struct.pack("<I", 9) + a[24:] for a in answers]
        return answers
    meeting.gather_bytes = gather
    meeting.CONNECT_MS = 1500


@case(size=(2, 3))
def no_tcp_route(rank, size):
    """All ranks go over to the group, loudly, and gradients are right; who insists on TCP has the error."""
    no_route()
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        begin = time.time()
        plain, ours = twins()
        assert time.time() - begin < 15
    told = [str(w.message) for w in heard if "cannot reach each other by TCP" in str(w.message)]
    assert len(told) == 1 and "codec=none" in told[0], [str(w.message) for w in heard]
    assert isinstance(ours.taut.comm, gathered.GatheredComm)
    for number in range(2):
        step(plain, ours, rank, number)
        equal_gradients(plain, ours)
    dist.barrier()
    raises(taut.Error, "TAUT_E_", lambda: taut.torch.State(Net(), transport="tcp", timeout_ms=1500))


@case()
def a_library_without_tcp(rank, size):
    """On one rank only: still all go over."""
    from taut import comm as module

    if rank == 1:
        module.Comm.has_tcp = staticmethod(lambda: False)
        raises(taut.Error, "built without TCP", lambda: taut.Comm.tcp())
    ours = taut.torch.ddp(Net(), codec="none")
    assert isinstance(ours.taut.comm, gathered.GatheredComm)
    loss_of(ours, rank, 0).backward()
    assert all(same_on_all(p.grad) for p in ours.parameters())


@case()
def settings_that_differ_are_no_reason(rank, size):
    """What is wrong with TCP or without it stays an error."""
    raises(taut.Error, "TAUT_SEED", lambda: taut.torch.State(Net(), seed=1 + rank))
    raises(taut.Error, "nobody0", lambda: taut.torch.State(Net(), bind="nobody0"))


@case(size=3)
def a_rank_that_dies():
    import signal

    def body(rank, size):
        ours = taut.torch.ddp(Net(), codec="none", transport="group")
        for number in range(2):
            loss_of(ours, rank, number).backward()
        if rank == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        begin = time.time()
        raises(RuntimeError, "", lambda: [loss_of(ours, rank, n).backward() for n in range(3)])
        return time.time() - begin
    answers = run(body, 3)
    assert answers[2] is None and all(a and a[0] and a[1] < 30 for a in answers[:2]), answers


finish()

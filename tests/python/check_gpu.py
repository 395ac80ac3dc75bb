"""taut.torch where gradients lie on GPUs: groups of NCCL's and of gloo's under DDP, frames through the group, autocast, state, FSDP2 and its refusals;
and unmodified programs under libtaut-preload-nccl.so. Ranks share device 0 where there are not enough. For `make check-gpu`: BUILD is a build with CUDA=1.

    check_gpu.py [CASE...]
    check_gpu.py --program RANK SIZE STORE OUT      what the preload library is put before"""

import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.environ.get("BUILD", os.path.join(ROOT, "build", "gpu")))
os.environ.setdefault("TAUT_LIBRARY", os.path.join(BUILD, "lib", "libtaut.so"))
sys.path[:0] = [os.path.join(ROOT, "shim", "python"), HERE]

os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # the other one would start CUDA before ranks are forked
import torch
import torch.distributed as dist
from torch import nn
import torch._dynamo  # DDP imports it, which takes seconds
from torch.nn.parallel import DistributedDataParallel as DDP


def join(rank, size, backend, store):
    """A process group of ranks that share GPUs: NCCL wants ranks of one device on other hosts, or, from 2.30.3 on, to be told."""
    os.environ.update(NCCL_HOSTID="rank%d" % rank, NCCL_MULTI_RANK_GPU_ENABLE="1")
    torch.cuda.set_device(rank % torch.cuda.device_count())
    dist.init_process_group(backend, init_method="file://" + store, rank=rank, world_size=size)


def net(width=96):
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(40, width), nn.ReLU(), nn.LayerNorm(width), nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 10)).cuda()


def loss_of(model, rank, step, n=32):
    g = torch.Generator().manual_seed(100 * step + rank)
    x, y = torch.randn(n, 40, generator=g).cuda(), torch.randint(0, 10, (n,), generator=g).cuda()
    return nn.functional.cross_entropy(model(x).float(), y)


def plain_program(rank, size, store, out):
    """Ordinary DDP, which knows nothing of Taut: its gradients after three steps, and its losses."""
    join(rank, size, "nccl", store)
    model = DDP(net(1024), bucket_cap_mb=0.2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for step in range(12):
        optimizer.zero_grad()
        loss = loss_of(model, rank, step)
        loss.backward()
        if step == 2:
            grads = [p.grad.cpu().clone() for p in model.parameters()]
        optimizer.step()
        losses.append(loss.item())
    torch.save((grads, losses), "%s.%d" % (out, rank))
    dist.destroy_process_group()


if sys.argv[1:2] == ["--program"]:
    plain_program(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5])
    sys.exit()

import taut
import taut.torch
from models import equal_gradients, same_on_all
from ranks import case, finish, raises

DIR = tempfile.TemporaryDirectory()


def on_gpu(backend="nccl", size=2):
    """case() whose ranks are a group of that backend."""
    def add(body):
        def ranks(rank, size):
            join(rank, size, backend, os.path.join(DIR.name, "%s.%d" % (body.__name__, size)))
            body(rank, size)
            torch.cuda.synchronize()
            dist.barrier()
            dist.destroy_process_group()
        ranks.__name__, ranks.__doc__ = body.__name__, body.__doc__
        return case(size=size, group=False)(ranks)
    return add


def twins(**settings):
    settings.setdefault("codec", "none")
    args = dict(bucket_cap_mb=0.02)
    return DDP(net(), **args), taut.torch.ddp(DDP(net(), **args), **settings)


def same_gradients(rank, tolerance=1e-5, **settings):
    plain, ours = twins(**settings)
    for step in range(4):
        for model in (plain, ours):
            model.zero_grad()
            loss_of(model, rank, step).backward()
        torch.cuda.synchronize()
        equal_gradients(plain, ours, tolerance)
    return ours


@on_gpu(size=(2, 3))
def gradients_are_plain_ones(rank, size):
    """By NCCL, from where they lie."""
    ours = same_gradients(rank)
    assert ours.taut.stats()["steps"] == 4
    ours.taut.close()


@on_gpu()
def coded(rank, size):
    """Every kind of codec: near plain gradients, the same bytes on all ranks, fewer of them sent."""
    for codec, tolerance in (("fp16", 1e-3), ("quant:bits=8", 2e-2), ("grid:rel=0.01", 3e-2), ("grid:rel=0.01,code=rans", 3e-2)):
        ours = same_gradients(rank, tolerance, codec=codec)
        s = ours.taut.stats()
        assert 0 < s["bytes_sent"] < s["bytes_dense"], (codec, s)
        ours.taut.close()
    for codec in ("topk:density=0.1", "powersgd:rank=2", "randk:density=0.25", "grid:rel=0.2,basis=4"):
        model = taut.torch.ddp(DDP(net()), codec=codec)
        for step in range(4):
            model.zero_grad()
            loss_of(model, rank, step).backward()
        assert all(same_on_all(p.grad) and p.grad.isfinite().all() for p in model.parameters()), codec
        model.taut.close()


@on_gpu()
def auto_keeps_its_budget(rank, size):
    """Adam, a plan, an error budget that is measured; it learns what the uncompressed twin learns."""
    losses = []
    for ours in (False, True):
        model = DDP(net(512))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        if ours:
            model = taut.torch.ddp(model, optimizer=optimizer, codec="auto", budget="rel=0.1", objective="bytes")
        for step in range(80):
            optimizer.zero_grad()
            loss = loss_of(model, rank, step % 8)
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    s = model.taut.stats()
    assert s["steps"] == 80 and s["bytes_sent"] - s["bytes_probes"] < 0.3 * s["bytes_dense"] and s["rel_err2_low"] < 0.1, s
    assert losses[1] < losses[0] + 0.1, losses
    assert all(same_on_all(p) for p in model.parameters())
    model.taut.close()


@on_gpu()
def frames_through_the_group(rank, size):
    same_gradients(rank, transport="group").taut.close()
    same_gradients(rank, 2e-2, transport="group", codec="quant:bits=8").taut.close()


@on_gpu("gloo")
def gloo_with_tensors_on_a_device(rank, size):
    same_gradients(rank).taut.close()
    same_gradients(rank, 2e-2, codec="quant:bits=8").taut.close()


@on_gpu()
def autocast_and_scaler(rank, size):
    """An Inf of one rank reaches every rank's scaler, the step is left out, and nothing of it stays."""
    model = taut.torch.ddp(DDP(net()), codec="quant:bits=8")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**10)
    for step in range(6):
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.float16):
            loss = loss_of(model, rank, step)
        if step == 3 and rank == 1:
            loss = loss * float("inf")
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        before = scaler.get_scale()
        scaler.update()
        assert (scaler.get_scale() < before) == (step == 3)
    assert all(same_on_all(p) and p.isfinite().all() for p in model.parameters())
    model.taut.close()


@on_gpu()
def state_goes_on(rank, size):
    """Residuals and the rest, saved and loaded: the same gradients as without a break."""
    def run(model, steps):
        for step in steps:
            model.zero_grad()
            loss_of(model, rank, step).backward()
        return [p.grad.clone() for p in model.parameters()]
    whole, first, second = (taut.torch.ddp(DDP(net()), codec="grid:rel=0.1") for _ in range(3))
    expected = run(whole, range(6))
    run(first, range(3))
    second.taut.load_state_dict(first.taut.state_dict())
    assert all(torch.equal(g, h) for g, h in zip(expected, run(second, range(3, 6))))
    for model in (whole, first, second):
        model.taut.close()


@on_gpu()
def side_streams(rank, size):
    """Backward on a stream of the program's own; results are ordered before what comes after backward()."""
    plain, ours = twins(codec="none")
    side = torch.cuda.Stream()
    for step in range(4):
        for model in (plain, ours):
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                model.zero_grad()
                loss_of(model, rank, step).backward()
                sums = [p.grad.sum() for p in model.parameters()]
            torch.cuda.current_stream().wait_stream(side)
            if model is plain:
                expected = sums
        assert torch.allclose(torch.stack(sums), torch.stack(expected), atol=1e-4), step
    ours.taut.close()


def programs(name, size=2, **env):
    """plain_program on that many ranks, under these settings: (gradients, losses) by rank, and the report."""
    store, out, report = (os.path.join(DIR.name, "%s.%s" % (name, what)) for what in ("store", "out", "json"))
    args = [[sys.executable, os.path.abspath(__file__), "--program", str(r), str(size), store, out] for r in range(size)]
    started = [subprocess.Popen(a, env=dict(os.environ, TAUT_REPORT=report, **env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for a in args]
    try:
        texts = [p.communicate(timeout=80)[0] for p in started]
    finally:
        for p in started:
            p.kill()
    assert all(p.returncode == 0 for p in started), texts
    return [torch.load("%s.%d" % (out, r)) for r in range(size)], json.load(open(report)) if os.path.exists(report) else None, texts


@case(size=1, group=False)
def unmodified_programs(rank, size):
    """DDP of torch alone, under libtaut-preload-nccl.so: compressed where a codec is named, exact where none is."""
    library = os.path.join(BUILD, "lib", "libtaut-preload-nccl.so")
    plain, _, _ = programs("plain")
    idle, _, _ = programs("idle", LD_PRELOAD=library)
    coded, report, texts = programs("coded", LD_PRELOAD=library, TAUT_CODEC="quant:bits=8", TAUT_THRESHOLD="4096")
    for (g, l), (h, k) in zip(plain, idle):
        assert l == k and all(torch.equal(a, b) for a, b in zip(g, h)), "without a codec every call is NCCL's own"
    for (g, l), (h, k) in zip(plain, coded):
        assert all((a - b).norm() <= 0.05 * a.norm() for a, b in zip(g, h)) and abs(l[-1] - k[-1]) < 0.05
    assert all(torch.equal(a, b) for a, b in zip(coded[0][0], coded[1][0])), "the same on all ranks"
    assert report is not None, texts
    sites = report["sites"]
    assert sum(s["coded_calls"] for s in sites) > 0 and sum(s["bytes_sent"] for s in sites) < sum(s["bytes_dense"] for s in sites), report


if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit("check_gpu.py: torch %s sees no CUDA device" % torch.__version__)
    finish()

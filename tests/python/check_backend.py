"""The backend "taut" of torch.distributed, where this torch has such: sums by hand, DDP without a hook, FSDP2 with one mesh dimension and two, replicate()."""

import datetime
import os
import warnings

import torch
import torch.distributed as dist
from torch import nn

import taut
import taut.torch
from gpt import GPT, Text, made_up_text, train
from models import backward, full, same_on_all, stack
from ranks import case, finish, free_port, raises, run, skip

warnings.simplefilter("ignore")
torch.set_num_threads(1)
try:
    import torch._dynamo  # before ranks are forked: it takes seconds
    from torch.distributed.fsdp import FSDPModule, fully_shard
    HAS_FSDP = hasattr(FSDPModule, "set_all_reduce_hook")
except Exception:  # Debian's torch 1.13 cannot import its own FSDP1: a ValueError
    HAS_FSDP = False
HAS_BACKEND = hasattr(dist.ProcessGroup, "_register_backend")
HAS_MESHES = tuple(int(n) for n in torch.__version__.split(".")[:2]) >= (2, 8)  # of two dimensions, on CPUs
HELD = {}


def with_backend(body, size=2):
    """body(rank, size) on ranks of a group whose backend is ours."""
    port = free_port()

    def start(rank, n):
        import taut.torch.backend
        dist.init_process_group("taut", init_method="tcp://127.0.0.1:%d" % port, rank=rank, world_size=n)
        return body(rank, n)
    for r, answer in enumerate(run(start, size, group=False)):
        assert answer and answer[0], "rank %d: %s" % (r, answer and answer[1])


if not HAS_BACKEND:
    skip("backend: torch %s takes no backend of Python (2.0)" % torch.__version__)

    @case()
    def backend_is_refused():
        raises(ImportError, "needs torch 2.0", lambda: __import__("taut.torch.backend"))
else:
    @case()
    def backend_sums():
        def body(rank, size):
            os.environ["TAUT_CODEC"] = "quant:bits=8"
            import taut.torch.backend as backend
            for step in range(3):
                for dtype, tolerance in ((torch.float32, 0.05), (torch.float16, 0.05), (torch.bfloat16, 0.1), (torch.float64, 0), (torch.int64, 0)):
                    ours = [(torch.randn(60, 50, generator=torch.Generator().manual_seed(r + 10 * step)) * 100).to(dtype) for r in range(size)]
                    x, want = ours[rank].clone(), sum(t.double() for t in ours)
                    dist.all_reduce(x)
                    assert ((x.double() - want) ** 2).sum() <= (tolerance ** 2) * (want ** 2).sum(), (dtype, step)
                x = torch.full((5000,), float(rank + 1))
                dist.all_reduce(x, op=dist.ReduceOp.AVG)
                assert torch.allclose(x, torch.full((5000,), (size + 1) / 2), atol=0.1)
            g = torch.randn(60, 50, generator=torch.Generator().manual_seed(rank))
            y, z, most = g.clone(), g.clone(), 0 if size == 2 else 1e-5  # of three there are several orders
            with backend.exact():
                dist.all_reduce(y)
            assert (y - sum(torch.randn(60, 50, generator=torch.Generator().manual_seed(r)) for r in range(size))).abs().max() <= most
            work = dist.all_reduce(z, async_op=True)
            work.wait()
            assert 0 < (y - z).abs().max() < 0.2, (y - z).abs().max()
            x, layers = torch.full((2,) * 11, float(rank)), backend.MOST_LAYERS
            dist.all_reduce(x)
            backend.MOST_LAYERS = 0  # new shapes are gloo's from here on
            for scattered in (False, True):
                n = size * 7000 if scattered else 7002
                parts = [torch.rand(n, generator=torch.Generator().manual_seed(r)) for r in range(size)]
                got, want = parts[rank].clone(), sum(parts)
                if scattered:
                    got, want = torch.empty(7000), want[7000 * rank:7000 * (rank + 1)]
                    dist.reduce_scatter_tensor(got, parts[rank])
                else:
                    dist.all_reduce(got)
                assert (got - want).abs().max() <= most, (got - want).abs().max()  # 8 bits lose 1e-3
            backend.MOST_LAYERS = layers
            assert torch.allclose(x, torch.full((2,) * 11, size * (size - 1) / 2), atol=0.1)
            # gloo's: other operations, small and strided tensors, other collectives
            m = torch.tensor([float(rank)])
            dist.all_reduce(m, op=dist.ReduceOp.MAX)
            assert m.item() == size - 1
            s = torch.ones(100, 60).t()[:, ::2] * (rank + 1)
            dist.all_reduce(s)
            assert (s == size * (size + 1) / 2).all()
            b = torch.tensor([rank])
            dist.broadcast(b, 1)
            parts = [torch.zeros(1, dtype=torch.long) for _ in range(size)]
            dist.all_gather(parts, torch.tensor([rank]))
            assert b.item() == 1 and [int(p) for p in parts] == list(range(size))
            objects = [None] * size
            dist.all_gather_object(objects, {"rank": rank})
            assert objects == [{"rank": r} for r in range(size)]
            dist.barrier()
            s = dist.group.WORLD.taut_stats()
            assert 0 < s["bytes_sent"] < s["bytes_dense"] and s["steps"] >= 3, s
            for members in ([0, 1], [size - 2, size - 1]):  # ranks have made other numbers of groups before the second
                pair = dist.new_group(members, timeout=datetime.timedelta(seconds=77))
                if rank in members:
                    x = torch.ones(60, 50)
                    dist.all_reduce(x, group=pair)
                    assert torch.allclose(x, torch.full((60, 50), 2.0), atol=0.1)
                    assert pair._timeout_ms == 77000
            dist.barrier()
        with_backend(body, 2)
        with_backend(body, 3)

    @case()
    def backend_under_ddp():
        """DDP without any hook, and a loop by hand."""
        def body(rank, size):
            from torch.nn.parallel import DistributedDataParallel as DDP
            os.environ["TAUT_CODEC"] = "grid:rel=0.001"
            model, by_hand = DDP(stack()), stack()
            for step in range(3):
                for m in (model, by_hand):
                    backward(m, rank, step)
                for p in by_hand.parameters():
                    dist.all_reduce(p.grad)
                    p.grad /= size
                assert dist.group.WORLD.taut_stats()["bytes_sent"] > 0
                for p, q in zip(model.parameters(), by_hand.parameters()):
                    assert ((p.grad - q.grad) ** 2).sum() <= 0.05 * (q.grad ** 2).sum()
        with_backend(body)

    @case(long=True)
    def backend_loss():
        """GPT under DDP: with the backend as with gloo, within 1%."""
        text = Text(open(os.environ["DATA"]).read() if os.environ.get("DATA") else made_up_text())

        def one(rank, size):
            from torch.nn.parallel import DistributedDataParallel as DDP
            model = DDP(GPT(text.vocab))
            train(model, torch.optim.Adam(model.parameters(), lr=0.002), text, rank, 200, 4)
            return text.validate(model.module)

        def ours(rank, size):
            os.environ.update(TAUT_CODEC="auto", TAUT_LINK="100mbit")
            HELD["loss"] = one(rank, size)
            if rank == 0:
                s = dist.group.WORLD.taut_stats()
                print("backend, 200 steps: taut %.4f, %.1f times fewer bytes" % (HELD["loss"], s["bytes_dense"] / s["bytes_sent"]))
                with open(where, "w") as f:
                    f.write(repr(HELD["loss"]))
        where = os.path.join(os.environ.get("TMPDIR", "/tmp"), "taut-backend-loss-%d" % os.getpid())
        plain = run(one, 2)
        assert plain[0] and plain[0][0], plain
        with_backend(ours)
        loss = float(open(where).read())
        os.unlink(where)
        print("backend, 200 steps: gloo %.4f" % plain[0][1])
        assert abs(loss / plain[0][1] - 1) < 0.01, (loss, plain[0][1])


def _train(model, rank, steps=20):
    losses, opt = [], torch.optim.Adam(model.parameters(), lr=3e-3)
    for number in range(steps):
        losses.append(backward(model, rank, number % 3))
        opt.step()
    return losses


def _gradients_of(wrap, sizes):
    """wrap(model) under the backend: gradients of one step after another within the codec's error of exact ones, and the same on all that hold them."""
    def body(rank, size):
        import taut.torch.backend as backend
        os.environ.update(TAUT_CODEC="grid:rel=0.0001")
        plain, ours = wrap(stack(wide=True)), wrap(stack(wide=True))
        for number in range(3):
            with backend.exact():
                backward(plain, rank, number)
            backward(ours, rank, number)
            for (name, p), (_, q) in zip(plain.named_parameters(), ours.named_parameters()):
                g, h = full(p.grad), full(q.grad)
                assert ((g - h) ** 2).sum() <= 0.01 * (g ** 2).sum(), (name, number)
                assert same_on_all(h), name
        with backend.exact():
            want = _train(plain, rank)
        losses = _train(ours, rank)
        assert losses[-1] < 0.9 * losses[0] and abs(losses[-1] - want[-1]) < 0.05 * want[0], (losses, want)
    for size in sizes:
        with_backend(body, size)


def _stats_of_all():
    """bytes sent and dense of every group of ours in this process."""
    import torch.distributed.distributed_c10d as c10d
    found = [g for g in c10d._world.pg_map if type(g).__name__ == "Group" and g._comm is not None]
    return [(g.size(), g._comm.stats()) for g in found]


if HAS_BACKEND and HAS_FSDP:
    def sharded(model, mesh):
        for m in (model[0], model[2], model[4], model):
            fully_shard(m, mesh=mesh)
        return model

    @case()
    def fsdp_with_the_backend():
        """One dimension: reduce-scatters are sums too."""
        def wrap(model):
            return sharded(model, dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),)))
        _gradients_of(wrap, (2, 3))

    if HAS_MESHES:
        @case()
        def hsdp_with_the_backend():
            """Two dimensions: reduce-scatter in one, all-reduce in the other, each compressed."""
            def wrap(model):
                return sharded(model, dist.device_mesh.init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard")))
            _gradients_of(wrap, (4,))

            def both_send_less(rank, size):
                os.environ.update(TAUT_CODEC="quant:bits=4")
                import taut.torch.backend
                model = wrap(stack(wide=True))
                for number in range(3):
                    backward(model, rank, number)
                found = _stats_of_all()
                assert sorted(n for n, _ in found) == [2, 2] and all(0 < s["bytes_sent"] < 0.3 * s["bytes_dense"] for _, s in found), found
            with_backend(both_send_less, 4)
    else:
        skip("HSDP: FSDP2 of torch %s waits for an event that CPUs do not have there (2.8)" % torch.__version__)

    @case()
    def reduce_scatters():
        def body(rank, size):
            import taut.torch.backend as backend
            os.environ["TAUT_CODEC"] = "quant:bits=8"
            for dtype, most in ((torch.float32, 0.05), (torch.bfloat16, 0.1), (torch.float64, 1e-9), (torch.int64, 0)):
                for chunk in (7, 1000, 4096, 5001):
                    for op in (dist.ReduceOp.SUM, dist.ReduceOp.AVG) if dtype.is_floating_point else (dist.ReduceOp.SUM,):
                        parts = [(100 * torch.randn(size, chunk, generator=torch.Generator().manual_seed(r))).to(dtype) for r in range(size)]
                        whole, out = parts[rank].clone(), torch.empty(chunk, dtype=dtype)
                        dist.reduce_scatter_tensor(out, whole.view(-1), op=op)
                        want = sum(p[rank].double() for p in parts) / (size if op == dist.ReduceOp.AVG else 1)
                        assert ((out.double() - want) ** 2).sum() <= most ** 2 * (want ** 2).sum(), (dtype, chunk, op)
                        assert torch.equal(whole, parts[rank]) or dtype == torch.float64 or dtype == torch.int64, "the input is the program's"
            with backend.exact():
                out = torch.empty(4096)
                dist.reduce_scatter_tensor(out, torch.arange(4096.0 * size))
                assert torch.equal(out, size * torch.arange(4096.0 * size)[4096 * rank:4096 * (rank + 1)])
        with_backend(body, 2)
        with_backend(body, 3)

if HAS_BACKEND:
    @case()
    def replicate_with_the_backend():
        try:
            from torch.distributed._composable.replicate_with_fsdp import replicate as new
        except ImportError:
            new = None
        try:
            from torch.distributed._composable import replicate as old
        except ImportError:
            old = None
        found = [r for r in (old, new) if r is not None]
        assert found or not HAS_FSDP, "this torch has FSDP2, and no replicate()"
        for replicate in found:
            _gradients_of(replicate, (2, 3))


finish()

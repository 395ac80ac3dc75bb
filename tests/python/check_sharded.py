"""FSDP2 and the backend "taut" of torch.distributed, where this torch has them."""

import os
import warnings

import torch
import torch.distributed as dist
from torch import nn

import taut
import taut.torch
from gpt import GPT, Text, made_up_text, train
from ranks import case, finish, free_port, raises, run, skip

warnings.simplefilter("ignore")
torch.set_num_threads(1)
try:
    import torch._dynamo  # before ranks are forked: it takes seconds
    from torch.distributed.fsdp import FSDPModule, fully_shard
    HAS_FSDP = hasattr(FSDPModule, "set_custom_reduce_scatter")
except Exception:  # Debian's torch 1.13 cannot import its own FSDP1: a ValueError
    HAS_FSDP = False
HAS_BACKEND = hasattr(dist.ProcessGroup, "_register_backend")
HELD = {}


def net(seed=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(40, 96), nn.ReLU(), nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, 10))


def data(rank, step):
    g = torch.Generator().manual_seed(rank + 100 * step)
    return torch.randn(8, 40, generator=g), torch.randint(0, 10, (8,), generator=g)


def shard(model):
    mesh = dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
    for m in (model[0], model[2], model[4], model) if isinstance(model, nn.Sequential) else (*model.b, model):
        fully_shard(m, mesh=mesh)
    return model


def full(t):
    return t.full_tensor() if hasattr(t, "full_tensor") else t


def backward(model, rank, step):
    x, y = data(rank, step)
    model.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()


if not HAS_FSDP:
    skip("FSDP2: torch %s has no set_custom_reduce_scatter (2.9)" % torch.__version__)

    @case()
    def fsdp_is_refused(rank, size):
        raises(RuntimeError, "needs FSDP2 of torch 2.9", lambda: taut.torch.fsdp(net()))
else:
    @case(size=(2, 3))
    def fsdp_gradients(rank, size):
        plain, ours = shard(net()), shard(net())
        state = taut.torch.fsdp(ours, codec="none")
        for step in range(3):
            for model in (plain, ours):
                backward(model, rank, step)
            for (name, p), (_, q) in zip(plain.named_parameters(), ours.named_parameters()):
                assert torch.allclose(full(p.grad), full(q.grad), atol=1e-6), name
            if step < 2:
                state.step_end()
        assert state.stats()[0]["steps"] == 2
        lossy = shard(net())
        state = taut.torch.fsdp(lossy, codec="quant:bits=8")
        for step in range(3):
            for model in (plain, lossy):
                backward(model, rank, step)
            for (name, p), (_, q) in zip(plain.named_parameters(), lossy.named_parameters()):
                g, h = full(p.grad), full(q.grad)
                assert ((g - h) ** 2).sum() <= 0.01 * (g ** 2).sum(), name
        assert state.stats()[0]["steps"] == 2 and state.stats()[0]["bytes_sent"] < state.stats()[0]["bytes_dense"]
        state.close()
        raises(RuntimeError, "has been closed", lambda: backward(lossy, rank, 9))

    @case()
    def fsdp_wrong_uses(rank, size):
        raises(RuntimeError, "there is no FSDP2 module", lambda: taut.torch.fsdp(net()))
        model = shard(net())
        taut.torch.fsdp(model, codec="none")
        model.set_gradient_divide_factor(3.0)
        backward(model, rank, 0)  # of the root alone, which has no parameters of its own
        model[4].set_gradient_divide_factor(3.0)
        raises(RuntimeError, "FSDP module '4' reduces with", lambda: backward(model, rank, 0))
        double = shard(net().double())
        taut.torch.fsdp(double, codec="none")
        x, y = data(rank, 0)
        raises(RuntimeError, "are torch.float64 on cpu", lambda: nn.functional.cross_entropy(double(x.double()), y).backward())

    @case(long=True)
    def fsdp_loss(rank, size):
        """GPT: the loss of plain FSDP2 within 1%."""
        losses = []
        text = Text(open(os.environ["DATA"]).read() if os.environ.get("DATA") else made_up_text())
        for ours in (False, True):
            model = shard(GPT(text.vocab))
            state = taut.torch.fsdp(model, codec="auto", link="100mbit") if ours else None
            train(model, torch.optim.Adam(model.parameters(), lr=0.002), text, rank, 200, 4, clip=1e9)
            losses.append(text.validate(model))
        assert abs(losses[1] / losses[0] - 1) < 0.01, losses
        if rank == 0:
            print("FSDP2, 200 steps: plain %.4f, taut %.4f (%+.2f%%), %.1f times fewer bytes" % (
                losses[0], losses[1], 100 * (losses[1] / losses[0] - 1), state.stats()[0]["bytes_dense"] / state.stats()[0]["bytes_sent"]))


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
            y, z = g.clone(), g.clone()
            with backend.exact():
                dist.all_reduce(y)
            assert torch.equal(y, sum(torch.randn(60, 50, generator=torch.Generator().manual_seed(r)) for r in range(size))) or size > 2
            work = dist.all_reduce(z, async_op=True)
            work.wait()
            assert 0 < (y - z).abs().max() < 0.2, (y - z).abs().max()
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
            pair = dist.new_group([0, 1])
            if rank < 2:
                x = torch.ones(60, 50)
                dist.all_reduce(x, group=pair)
                assert torch.allclose(x, torch.full((60, 50), 2.0), atol=0.1)
            dist.barrier()
        with_backend(body, 2)
        with_backend(body, 3)

    @case()
    def backend_under_ddp():
        """DDP without any hook, and a loop by hand."""
        def body(rank, size):
            from torch.nn.parallel import DistributedDataParallel as DDP
            os.environ["TAUT_CODEC"] = "grid:rel=0.001"
            model, by_hand = DDP(net()), net()
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


finish()

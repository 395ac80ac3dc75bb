"""FSDP2 where this torch has it: reduce-scatters (2.9), and all-reduces over replicas of the shards (2.7)."""

import os
import warnings

import torch
import torch.distributed as dist
from torch import nn

import taut
import taut.torch
from gpt import GPT, Text, made_up_text, train
from models import backward, full, same_on_all, sample, stack
from ranks import case, finish, raises, skip

warnings.simplefilter("ignore")
torch.set_num_threads(1)
try:
    import torch._dynamo  # before ranks are forked: it takes seconds
    from torch.distributed.fsdp import FSDPModule, fully_shard
    HAS_FSDP, HAS_SCATTER = hasattr(FSDPModule, "set_all_reduce_hook"), hasattr(FSDPModule, "set_custom_reduce_scatter")
except Exception:  # Debian's torch 1.13 cannot import its own FSDP1: a ValueError
    HAS_FSDP = HAS_SCATTER = False


def shard(model, mesh=None):
    mesh = mesh or dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
    for m in (model[0], model[2], model[4], model) if isinstance(model, nn.Sequential) else (*model.b, model):
        fully_shard(m, mesh=mesh)
    return model


if not HAS_FSDP:
    skip("FSDP2: torch %s has no set_all_reduce_hook (2.7)" % torch.__version__)

    @case()
    def fsdp_is_refused(rank, size):
        raises(RuntimeError, "needs FSDP2 of torch 2.7", lambda: taut.torch.fsdp(stack()))

if HAS_FSDP:
    def two_meshes():
        return dist.device_mesh.init_device_mesh("cpu", (2, 2), mesh_dim_names=("hosts", "inside"))

    def mean_of_all(step, size):
        """The exact gradients, computed alone: gloo of torch 2.8 adds where FSDP2 asks for a mean, so plain FSDP2 is no measure."""
        model = stack()
        for r in range(size):
            x, y = sample(r, step)
            (nn.functional.cross_entropy(model(x), y) / size).backward()
        return model

    def near(plain, ours, most):
        for (name, p), (_, q) in zip(plain.named_parameters(), ours.named_parameters()):
            g, h = full(p.grad), full(q.grad)
            assert ((g - h) ** 2).sum() <= most * (g ** 2).sum(), name
            assert same_on_all(h), name

    @case(size=4)
    def fsdp_over_replicas(rank, size):
        """Shards inside pairs, replicas across them: the gradients of FSDP2 over all four, whatever the types; both halves compressed where torch lets us."""
        mesh = two_meshes()
        for settings, most in ((dict(codec="none"), 1e-10), (dict(codec="quant:bits=8"), 0.01), (dict(codec="grid:rel=0.0001", transport="group"), 0.01)):
            ours = shard(stack(), mesh["inside"])
            state = taut.torch.fsdp(ours, replicate=mesh["hosts"], **settings)
            for step in range(3):
                backward(ours, rank, step)
                near(mean_of_all(step, size), ours, most)
                if step < 2:
                    state.step_end()
            s, = state.stats()
            assert s["steps"] == 2 and s["bytes_sent"] > 0 and (settings["codec"] == "none" or s["bytes_sent"] < s["bytes_dense"]), s
            state.close()
        if HAS_SCATTER:
            ours = shard(stack(), mesh["inside"])
            state = taut.torch.fsdp(ours, replicate=mesh["hosts"].get_group(), reduce_scatter=True, codec="quant:bits=8")
            for step in range(2):
                backward(ours, rank, step)
                near(mean_of_all(step, size), ours, 0.01)
            assert len(state.stats()) == 2

    @case(size=4)
    def fsdp_replicas_of_halves(rank, size):
        """Gradients reduced in bfloat16 and float16, which torch divides itself."""
        from torch.distributed.fsdp import MixedPrecisionPolicy
        mesh = two_meshes()
        for dtype, most in ((torch.bfloat16, 1e-3), (torch.float16, 1e-4)):
            ours = stack()
            for m in (ours[0], ours[2], ours[4], ours):
                fully_shard(m, mesh=mesh["inside"], mp_policy=MixedPrecisionPolicy(reduce_dtype=dtype))
            taut.torch.fsdp(ours, replicate=mesh["hosts"], codec="none")
            backward(ours, rank, 0)
            near(mean_of_all(0, size), ours, most)

    @case(size=4)
    def fsdp_that_cannot_be_served(rank, size):
        mesh = two_meshes()
        both = shard(stack(), mesh)
        raises(RuntimeError, "module '0' is sharded over a mesh of two dimensions", lambda: taut.torch.fsdp(both[0:1], replicate=mesh["hosts"]))
        if HAS_SCATTER:
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always")
                taut.torch.fsdp(both, codec="none")
            told = [str(w.message) for w in heard if "its all-reduce over replicas is not" in str(w.message)]
            assert any("module '0'" in t for t in told) and any("module '4'" in t for t in told), told
        else:
            raises(RuntimeError, "lets nobody do its reduce-scatter", lambda: taut.torch.fsdp(shard(stack())))
            raises(RuntimeError, "lets nobody do its reduce-scatter", lambda: taut.torch.fsdp(shard(stack(), mesh["inside"]), replicate=mesh["hosts"], reduce_scatter=True))
        raises(RuntimeError, "nothing to do", lambda: taut.torch.fsdp(shard(stack()), reduce_scatter=False))
        raises(RuntimeError, "there is no FSDP2 module", lambda: taut.torch.fsdp(stack(), replicate=mesh["hosts"]))
        raises(TypeError, "no setting 'bugdet'", lambda: taut.torch.fsdp(shard(stack(), mesh["inside"]), replicate=mesh["hosts"], bugdet="rel=0.1"))
        try:
            from torch.distributed._composable.replicate_with_fsdp import replicate
        except ImportError:
            return
        raises(RuntimeError, "module 'root' is replicated by replicate()", lambda: taut.torch.fsdp(replicate(stack()), replicate=mesh["hosts"]))

if HAS_SCATTER:
    @case(size=(2, 3))
    def fsdp_gradients(rank, size):
        plain, ours = shard(stack()), shard(stack())
        state = taut.torch.fsdp(ours, codec="none")
        for step in range(3):
            for model in (plain, ours):
                backward(model, rank, step)
            for (name, p), (_, q) in zip(plain.named_parameters(), ours.named_parameters()):
                assert torch.allclose(full(p.grad), full(q.grad), atol=1e-6), name
            if step < 2:
                state.step_end()
        assert state.stats()[0]["steps"] == 2
        lossy = shard(stack())
        state = taut.torch.fsdp(lossy, codec="quant:bits=8")
        for step in range(3):
            for model in (plain, lossy):
                backward(model, rank, step)
            for (name, p), (_, q) in zip(plain.named_parameters(), lossy.named_parameters()):
                g, h = full(p.grad), full(q.grad)
                assert ((g - h) ** 2).sum() <= 0.01 * (g ** 2).sum(), name
        assert state.stats()[0]["steps"] == 2 and state.stats()[0]["bytes_sent"] < state.stats()[0]["bytes_dense"]
        for model in (plain, lossy):  # a module reduces what has gradients
            model[2].bias.requires_grad_(False)
            backward(model, rank, 3)
        for p, q in ((plain[2].weight, lossy[2].weight), (plain[0].bias, lossy[0].bias)):
            assert ((full(p.grad) - full(q.grad)) ** 2).sum() <= 0.01 * (full(p.grad) ** 2).sum()
        state.close()
        raises(RuntimeError, "has been closed", lambda: backward(lossy, rank, 9))

    @case()
    def fsdp_wrong_uses(rank, size):
        raises(RuntimeError, "there is no FSDP2 module", lambda: taut.torch.fsdp(stack()))
        model = shard(stack())
        taut.torch.fsdp(model, codec="none")
        model.set_gradient_divide_factor(3.0)
        backward(model, rank, 0)  # of the root alone, which has no parameters of its own
        model[4].set_gradient_divide_factor(3.0)
        raises(RuntimeError, "FSDP module '4' reduces with", lambda: backward(model, rank, 0))
        double = shard(stack().double())
        taut.torch.fsdp(double, codec="none")
        x, y = sample(rank, 0)
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


finish()

"""FSDP2 and the backend "taut" of torch.distributed, where this torch has them."""

import os
import warnings

import torch
import torch.distributed as dist
from torch import nn

import taut
import taut.torch
from gpt import GPT, Text, made_up_text, train
from models import backward, full, sample, stack
from ranks import case, finish, raises, skip

warnings.simplefilter("ignore")
torch.set_num_threads(1)
try:
    import torch._dynamo  # before ranks are forked: it takes seconds
    from torch.distributed.fsdp import FSDPModule, fully_shard
    HAS_FSDP = hasattr(FSDPModule, "set_custom_reduce_scatter")
except Exception:  # Debian's torch 1.13 cannot import its own FSDP1: a ValueError
    HAS_FSDP = False


def shard(model):
    mesh = dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
    for m in (model[0], model[2], model[4], model) if isinstance(model, nn.Sequential) else (*model.b, model):
        fully_shard(m, mesh=mesh)
    return model


if not HAS_FSDP:
    skip("FSDP2: torch %s has no set_custom_reduce_scatter (2.9)" % torch.__version__)

    @case()
    def fsdp_is_refused(rank, size):
        raises(RuntimeError, "needs FSDP2 of torch 2.9", lambda: taut.torch.fsdp(stack()))
else:
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

"""Models for tests of torch, their data, and twins: one under plain DDP, one under taut."""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP

import taut.torch


class Net(nn.Module):
    """Layers of several kinds; seeds make it the same on all ranks."""

    def __init__(self, tied=False, unused=False, sparse=False):
        super().__init__()
        torch.manual_seed(7)
        self.emb = nn.Embedding(50, 32, sparse=sparse)
        self.a = nn.Linear(32, 64)
        self.norm = nn.LayerNorm(64)
        self.b = nn.Linear(64, 64)
        self.out = nn.Linear(64, 50, bias=False)
        self.unused = nn.Linear(64, 64) if unused else None
        if tied:
            self.b.weight = nn.Parameter(self.b.weight.detach())
            self.c = nn.Linear(64, 64)
            self.c.weight = self.b.weight

    def forward(self, tokens, use=False):
        x = self.norm(torch.relu(self.a(self.emb(tokens))))
        x = torch.relu(self.b(x))
        if hasattr(self, "c"):
            x = torch.relu(self.c(x))
        if use and self.unused is not None:
            x = self.unused(x)
        return self.out(x)


def batch(rank, step, n=16):
    g = torch.Generator().manual_seed(100 * step + rank)
    return torch.randint(0, 50, (n,), generator=g), torch.randint(0, 50, (n,), generator=g)


def loss_of(model, rank, step, **kw):
    x, y = batch(rank, step)
    return nn.functional.cross_entropy(model(x, **kw).float(), y)


def same_on_all(tensor):
    if tensor.numel() == 0:
        return True  # gloo divides by it
    # NaN and Inf too: bytes are compared
    t = tensor.detach().contiguous().view(-1).view(torch.uint8) if tensor.dtype != torch.bool else tensor
    parts = [torch.empty_like(t) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, t)
    return all(torch.equal(parts[0], p) for p in parts)


def twins(make=Net, plain_args=None, **taut_args):
    """A model under plain DDP, and its twin under taut; codec none unless asked otherwise, so that gradients are equal."""
    args = dict(bucket_cap_mb=0.02)
    args.update(plain_args or {})
    plain, ours = DDP(make(), **args), DDP(make(), **args)
    taut_args.setdefault("codec", "none")
    return plain, taut.torch.ddp(ours, **taut_args)


def equal_gradients(plain, ours, tolerance=1e-5):
    for (name, p), (_, q) in zip(plain.named_parameters(), ours.named_parameters()):
        if p.grad is None:
            assert q.grad is None or not q.grad.any(), name
            continue
        g, h = (t.grad.to_dense() if t.grad.is_sparse else t.grad for t in (p, q))
        assert torch.allclose(g, h, atol=tolerance, rtol=tolerance), "%s: %g" % (name, (g - h).abs().max())
        assert same_on_all(h), name


def step(plain, ours, rank, number, **kw):
    for model in (plain, ours):
        model.zero_grad(set_to_none=True)
        loss_of(model, rank, number, **kw).backward()


# ---- for sharding ----

def stack(seed=3, wide=False):
    torch.manual_seed(seed)
    width = 128 if wide else 96
    return nn.Sequential(nn.Linear(40, width), nn.ReLU(), nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 10))


def sample(rank, step):
    g = torch.Generator().manual_seed(rank + 100 * step)
    return torch.randn(8, 40, generator=g), torch.randint(0, 10, (8,), generator=g)


def full(t):
    return t.full_tensor() if hasattr(t, "full_tensor") else t


def backward(model, rank, step):
    x, y = sample(rank, step)
    model.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    return loss.item()

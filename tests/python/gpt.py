"""The GPT of the traces (shim/model_builtin.cpp) in PyTorch, and its data: characters of a text."""

import math

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.l1, self.l2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.fc, self.out = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def attention(self, x, mask):
        n, t, dim = x.shape
        q, k, v = (y.view(n, t, self.heads, -1).transpose(1, 2) for y in self.qkv(x).split(dim, 2))
        score = q @ k.transpose(2, 3) / math.sqrt(dim // self.heads) + mask
        return self.proj((score.softmax(-1) @ v).transpose(1, 2).reshape(n, t, dim))

    def forward(self, x, mask):
        x = x + self.attention(self.l1(x), mask)
        return x + self.out(nn.functional.gelu(self.fc(self.l2(x))))


class GPT(nn.Module):
    """818,176 parameters at these sizes."""

    def __init__(self, vocab=65, ctx=64, dim=128, blocks=4, heads=4, seed=1):
        super().__init__()
        torch.manual_seed(seed)
        self.te, self.pe = nn.Embedding(vocab, dim), nn.Embedding(ctx, dim)
        self.b = nn.ModuleList(Block(dim, heads) for _ in range(blocks))
        self.ln, self.head = nn.LayerNorm(dim), nn.Linear(dim, vocab, bias=False)
        self.register_buffer("mask", torch.full((ctx, ctx), -math.inf).triu(1), persistent=False)
        std = 0.55 / math.sqrt(dim)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=std / math.sqrt(2 * blocks) if name.endswith(("proj.weight", ".out.weight")) else std)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, tokens):
        x = self.te(tokens) + self.pe.weight[:tokens.size(1)]
        for block in self.b:
            x = block(x, self.mask[:tokens.size(1), :tokens.size(1)])
        return self.head(self.ln(x))


class Text:
    """The first 90% of a text to train on, the rest to validate."""

    def __init__(self, text, ctx=64):
        letters = sorted(set(text))
        self.vocab, self.ctx = len(letters), ctx
        number = {c: i for i, c in enumerate(letters)}
        data = torch.tensor([number[c] for c in text])
        cut = len(data) * 9 // 10
        self.train, self.held = data[:cut], data[cut:]

    def batch(self, rank, step, n):
        g = torch.Generator().manual_seed(1000003 * step + rank)
        at = torch.randint(0, len(self.train) - self.ctx - 1, (n,), generator=g)
        rows = torch.stack([self.train[i:i + self.ctx + 1] for i in at])
        return rows[:, :-1], rows[:, 1:]

    @torch.no_grad()
    def validate(self, model, n=256):
        at = torch.arange(n) * ((len(self.held) - self.ctx - 1) // n)
        rows = torch.stack([self.held[i:i + self.ctx + 1] for i in at])
        return loss_of(model, rows[:, :-1], rows[:, 1:]).item()


def made_up_text(n=200000):
    """Words of a small grammar: something to learn where no text is at hand."""
    g = torch.Generator().manual_seed(3)
    words = ["the", "a", "king", "queen", "ship", "sails", "speaks", "slowly", "north", "of", "and", "sea", "says", "nothing", "everything", "is", "lost"]
    picks = torch.randint(0, len(words), (n // 5,), generator=g)
    out, last = [], 0
    for k in picks.tolist():
        last = (3 * last + k % 4) % len(words)  # each word allows four to follow
        out.append(words[last])
    return " ".join(out)[:n]


def loss_of(model, x, y):
    logits = model(x)
    return nn.functional.cross_entropy(logits.reshape(-1, logits.size(-1)), y.reshape(-1))


def train(model, optimizer, data, rank, steps, batch, lr=0.002, warmup=20, clip=1.0, each=None):
    """each(step, loss, backward_end): called after every step."""
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / warmup)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model, *data.batch(rank, step, batch))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if each:
            each(step, loss.item())

"""GPT of the traces, 2 processes, 200 steps: the loss under taut.torch.ddp() is within 1% of plain DDP's. DATA=<text>."""

import os
import time

import torch
from torch.nn.parallel import DistributedDataParallel as DDP

import taut.torch
from gpt import GPT, Text, made_up_text, train
from ranks import case, finish

torch.set_num_threads(1)
try:
    import torch._dynamo  # before ranks are forked: it takes seconds
except ImportError:
    pass


@case(long=True)
def ddp_loss(rank, size):
    text = Text(open(os.environ["DATA"]).read() if os.environ.get("DATA") else made_up_text())
    losses = []
    for settings in (None, dict(link="100mbit"), dict(codec="grid:rel=0.03"), dict(codec="quant:bits=4")):
        model, begin = DDP(GPT(text.vocab)), time.time()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
        if settings is not None:
            taut.torch.ddp(model, optimizer=optimizer, **settings)
        train(model, optimizer, text, rank, int(os.environ.get("STEPS", 200)), 4)
        losses.append(text.validate(model.module))
        if rank == 0:
            s = model.taut.stats() if settings is not None else {"bytes_dense": 1, "bytes_sent": 1, "budget_violations": 0}
            print("torch %s, %s: loss %.4f (%+.2f%%), %.1f times fewer bytes, budget exceeded in %d steps, %.0f s" % (
                torch.__version__, settings or "plain", losses[-1], 100 * (losses[-1] / losses[0] - 1), s["bytes_dense"] / s["bytes_sent"], s["budget_violations"],
                time.time() - begin), flush=True)
    assert all(abs(x / losses[0] - 1) < 0.01 for x in losses), losses


finish()

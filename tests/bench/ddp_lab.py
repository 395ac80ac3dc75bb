"""DistributedDataParallel on the practice cluster: plain, PyTorch's own hooks, and taut, in one run. Started by tests/bench/ddp_lab.sh on every
rank; rank 0 prints a JSON line for each."""

import argparse
import datetime
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python"))

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks  # noqa: E402
from torch.nn.parallel import DistributedDataParallel as DDP  # noqa: E402

import taut.torch  # noqa: E402
from gpt import GPT, Text, made_up_text, train  # noqa: E402


def powersgd(model):
    from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook as p
    model.register_comm_hook(p.PowerSGDState(None, matrix_approximation_rank=4, start_powerSGD_iter=10), p.powerSGD_hook)


def make(mode, data):
    model = GPT(data.vocab)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
    if mode.startswith("taut"):
        name, *settings = mode.split("+")
        _, _, transport = name.partition("-")
        settings = dict(s.split("=", 1) for s in settings)
        return taut.torch.ddp(model, optimizer=optimizer, transport=transport or "tcp", **settings), optimizer
    model = DDP(model)
    if mode == "fp16":
        model.register_comm_hook(None, default_hooks.fp16_compress_hook)
    elif mode == "powersgd":
        powersgd(model)
    return model, optimizer


def codecs_of(model):
    """How many elements travel by which codec, at the end."""
    found = {}
    for layer in model.taut.comm.layers():
        s = layer.stats()
        if "codec" in s:
            key = "%s/%s" % (s["codec"], s.get("algorithm"))
            found[key] = found.get(key, 0) + s["elements"]
    return found


def measure(mode, data, rank, args):
    model, optimizer = make(mode, data)
    times, begin = [], time.perf_counter()

    def each(step, loss):
        times.append(time.perf_counter())
    train(model, optimizer, data, rank, args.steps, args.batch, each=each)
    ms = sorted(1e3 * (b - a) for a, b in zip([begin] + times, times))
    out = {"mode": mode, "torch": torch.__version__, "ranks": dist.get_world_size(), "steps": args.steps, "loss_val": data.validate(model.module),
           "step_ms": 1e3 * (times[-1] - begin) / args.steps, "median_ms": ms[len(ms) // 2]}
    if mode.startswith("taut"):
        s = model.taut.stats()
        out.update(ratio=s["bytes_dense"] / max(s["bytes_sent"], 1), budget_violations=s["budget_violations"], plans=s["plans"])
        out.update({k.replace("_s", "_ms"): 1e3 * s[k] / args.steps for k in ("comm_s", "exposed_s", "codec_s", "plan_s") if k in s})
        out.update(quartiles_ms=[ms[len(ms) // 4], ms[3 * len(ms) // 4]], codecs=codecs_of(model))
        model.taut.close()
    return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument("modes", nargs="+", help="plain, fp16, powersgd, taut, taut-mpi; taut+SETTING=VALUE+...")
    p.add_argument("--steps", type=int, default=100)
    p.add_argument("--batch", type=int, default=2)
    p.add_argument("--data", default="")
    p.add_argument("--root", default="10.77.0.1:29511")
    args = p.parse_args()
    torch.set_num_threads(1)
    rank, size = int(os.environ["OMPI_COMM_WORLD_RANK"]), int(os.environ["OMPI_COMM_WORLD_SIZE"])
    dist.init_process_group("gloo", init_method="tcp://" + args.root, rank=rank, world_size=size, timeout=datetime.timedelta(seconds=120))
    data = Text(open(args.data).read() if args.data else made_up_text())
    for mode in args.modes:
        dist.barrier()
        out = measure(mode, data, rank, args)
        if rank == 0:
            print(json.dumps(out), flush=True)
    dist.barrier()
    sys.stdout.flush()
    os._exit(0)  # gloo's threads of some versions do not end


main()

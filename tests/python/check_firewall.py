"""Packets that a firewall drops or refuses between the ranks, each in a network namespace of its own (root, nft; LAB_NAME and LAB_NET of a launch/lab that is
up): an error that says who cannot be reached, on every rank, within the timeout; DDP goes on over its group's collectives. CASE RANK: one rank of a case."""

import json
import os
import subprocess
import sys
import time

import taut

HOST, NET = os.environ["LAB_NAME"] + "-n%d", os.environ["LAB_NET"] + ".%d"
ROOT, LIMIT_MS, GRACE_S = NET % 1 + ":29417", 4000, 4
SYN = "tcp flags & (syn|ack) == syn"  # new connections; those that are there stay


def address(rank):
    return NET % (rank + 1)


def nft(*rules):
    """In this process's namespace: what comes in, or (out) goes out."""
    subprocess.run(["nft", "-f", "-"], input="table inet wall {\n chain come { type filter hook input priority 0;\n%s\n}\n chain go { type filter hook output priority 0;\n%s\n}\n}\n" % (
        "\n".join(r for r in rules if not r.startswith("out ")), "\n".join(r[4:] for r in rules if r.startswith("out "))), text=True, check=True)


def gradients(comm, rank, size, steps=3):
    import numpy as np
    for step in range(steps):
        x = np.full((60, 50), rank + step, np.float32)
        comm.allreduce(x, "w", op="sum")
        assert (x == sum(r + step for r in range(size))).all()
        comm.step_end()


def meet(rank, size):
    with taut.Comm.tcp(rank, size, root=ROOT, codec="none", timeout_ms=LIMIT_MS) as comm:
        gradients(comm, rank, size)


def nothing(rank, size):
    meet(rank, size)


def root_dropped(rank, size):
    if rank == 0:
        nft("tcp dport 29417 drop")
    meet(rank, size)


def root_refused(rank, size):
    if rank == 0:
        nft("tcp dport 29417 reject with tcp reset")
    meet(rank, size)


def root_unreachable(rank, size):
    if rank == 0:
        nft("tcp dport 29417 reject with icmpx admin-prohibited")
    meet(rank, size)


def answers_dropped(rank, size):
    """The question arrives, what comes back does not leave."""
    if rank == 0:
        nft("out tcp sport 29417 drop")
    meet(rank, size)


def others_dropped(rank, size):
    """Rank 0 can be reached by all, rank 1 by nobody."""
    if rank == 1:
        nft("%s drop" % SYN)
    meet(rank, size)


def dropped_later(rank, size):
    """From some step on nothing passes, and nobody is told."""
    with taut.Comm.tcp(rank, size, root=ROOT, codec="quant:bits=8", timeout_ms=LIMIT_MS) as comm:
        import numpy as np
        x = np.full((60, 50), rank, np.float32)
        comm.allreduce(x, "w")
        comm.step_end()
        if rank == 1:
            nft("tcp dport 1-65535 drop", "out tcp dport 1-65535 drop")
        global begin
        begin = time.time()
        comm.allreduce(x, "w")
        comm.step_end()


def _ddp(rank, size, **settings):
    """Of a group whose connections are there before the wall; the mean of its gradients."""
    import datetime
    import torch
    import torch.distributed as dist
    import taut.torch
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method="tcp://" + ROOT, rank=rank, world_size=size, timeout=datetime.timedelta(seconds=120))
    dist.all_reduce(torch.ones(4))
    dist.barrier()
    nft("%s drop" % SYN)
    dist.barrier()
    global begin
    begin = time.time()
    torch.manual_seed(1)
    model = taut.torch.ddp(torch.nn.Linear(64, 64), codec="none", timeout_ms=LIMIT_MS, **settings)
    model(torch.full((2, 64), float(rank))).sum().backward()
    assert torch.allclose(model.module.weight.grad, torch.full((64, 64), (size - 1.0)))
    return model.taut.comm.transport if hasattr(model.taut.comm, "transport") else type(model.taut.comm).__name__


def ddp_must_have_tcp(rank, size):
    return _ddp(rank, size, transport="tcp")


def ddp_goes_over(rank, size):
    import warnings
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        _ddp(rank, size)
    told = [str(w.message) for w in heard if "cannot reach each other by TCP of ours" in str(w.message)]
    assert len(told) == 1, told
    raise RuntimeError(told[0])  # to be looked at


SILENT, LATE = "no answer, as behind a firewall", LIMIT_MS / 1000 + GRACE_S
# name: ranks, what some rank's sentence has, statuses that are right, seconds at most
CASES = {
    "nothing": (2, [], [None], 30),
    "root_dropped": (2, [ROOT, SILENT, "rank 1 did not come"], ["TAUT_E_TIMEOUT"], LATE),
    "root_refused": (2, [ROOT, "Connection refused"], ["TAUT_E_TIMEOUT"], LATE),
    "root_unreachable": (2, [ROOT], ["TAUT_E_TIMEOUT"], LATE),
    "answers_dropped": (3, [ROOT, SILENT, "rank 1, 2 did not come"], ["TAUT_E_TIMEOUT"], LATE),
    "others_dropped": (3, [address(1), SILENT], ["TAUT_E_TIMEOUT"], LATE),
    "dropped_later": (2, ["nothing from rank 0", "nothing from rank 1"], ["TAUT_E_TIMEOUT", "TAUT_E_PEER"], LATE),
    "ddp_must_have_tcp": (2, [address(1), SILENT], ["TAUT_E_TIMEOUT"], LATE),
    "ddp_goes_over": (2, [address(1), SILENT], ["told"], 20 + 2 * GRACE_S),
}
begin = 0


def one_rank(name, rank):
    global begin
    begin = time.time()
    answer = {"status": None, "text": ""}
    try:
        globals()[name](rank, CASES[name][0])
    except taut.Error as e:
        answer = {"status": e.status, "text": str(e)}
    except RuntimeError as e:
        answer = {"status": "told", "text": str(e)}
    answer["seconds"] = time.time() - begin
    print(json.dumps(answer), flush=True)
    os._exit(0)


def run(name):
    size, words, statuses, most = CASES[name]
    ranks = [subprocess.Popen(["ip", "netns", "exec", HOST % r, sys.executable, __file__, name, str(r)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env=dict(os.environ, GLOO_SOCKET_IFNAME="eth0")) for r in range(size)]
    outs = [p.communicate(timeout=200)[0] for p in ranks]
    for r in range(size):
        subprocess.run(["ip", "netns", "exec", HOST % r, "nft", "flush", "ruleset"], check=True)
    answers = [json.loads(out.strip().split("\n")[-1]) if out.strip().endswith("}") else None for out in outs]
    if os.environ.get("VERBOSE"):
        print(name, answers)
    bad = [] if all(answers) else ["no answer: %s" % outs]
    if not bad:
        bad += ["rank %d: %s" % (r, a) for r, a in enumerate(answers) if a["status"] not in statuses or a["seconds"] > most]
        bad += ["nobody says %r: %s" % (w, answers) for w in words if not any(w in a["text"] for a in answers)]
    return bad


if len(sys.argv) == 3:
    one_rank(sys.argv[1], int(sys.argv[2]))
passed = failed = skipped = 0
for name in sys.argv[1:] or CASES:
    if name.startswith("ddp") and subprocess.run([sys.executable, "-c", "import torch"], stderr=subprocess.DEVNULL).returncode:
        print("SKIP %s: no torch" % name)
        skipped += 1
        continue
    bad = run(name)
    passed, failed = passed + (not bad), failed + bool(bad)
    if bad:
        print("FAIL %s\n%s" % (name, "\n".join(bad)))
print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
sys.exit(failed != 0)

"""Every program in docs/python.md, and what README.md shows of Python, runs, as its first line says: under torchrun, mpirun, or by hand."""

import os
import re
import subprocess
import sys
import tempfile

import taut
from ranks import case, finish, free_ports, skip

TOP = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BUILD = os.path.join(TOP, os.environ.get("BUILD", "build/release"))
LIMIT_S = 120 if os.environ.get("LONG", "0") == "0" else 900  # torch is slow to start on a busy machine
PROGRAMS = {}
for kind, text in re.findall(r"```(python|c)\n(.*?)```", open(os.path.join(TOP, "docs", "python.md")).read(), re.S):
    PROGRAMS[re.search(r"[a-z_]+\.(py|c)", text).group()] = text

# README.md: what is new in a program of theirs
PROGRAMS["readme.py"] = """import torch, torch.distributed as dist
dist.init_process_group("gloo")
model = torch.nn.Linear(64, 64)
optimizer = torch.optim.Adam(model.parameters())
%s
for step in range(3):
    optimizer.zero_grad()
    model(torch.randn(4, 64)).pow(2).mean().backward()
    optimizer.step()
print("sent", model.taut.stats()["bytes_sent"])
dist.destroy_process_group()
""" % re.search(r"```python\n(.*?)```", open(os.path.join(TOP, "README.md")).read(), re.S).group(1)


def has(module):
    if module in sys.modules:
        return True
    return subprocess.run([sys.executable, "-c", "import " + module], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def torch_version():
    return tuple(int(n) for n in __import__("torch").__version__.split(".")[:2]) if has("torch") else (0, 0)


os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_rmaps_base_oversubscribe="1")


def run_in(folder, command, env=None, wait=True):
    p = subprocess.Popen(command, cwd=folder, env=dict(os.environ, **(env or {})), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if not wait:
        return p
    out = p.communicate(timeout=LIMIT_S)[0].decode()
    assert p.returncode == 0, out
    return out


def under_torchrun(folder, name, size=2):
    if torch_version() < (2, 0):  # Debian's torchrun does not run with its Python: what it sets is set here
        return "".join(by_hand(folder, [sys.executable, name], size, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_ports(3))))
    return run_in(folder, [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(size), "--master_port", str(free_ports(3)), name])


def by_hand(folder, command, size=2, **more):
    root = "127.0.0.1:%d" % free_ports(2)
    them = [run_in(folder, command, dict(more, RANK=str(r), WORLD_SIZE=str(size), TAUT_ROOT=root), wait=False) for r in range(size)]
    outs = [p.communicate(timeout=LIMIT_S)[0].decode() for p in them]
    assert all(p.returncode == 0 for p in them), outs
    return outs


def example(name, needs=True, why=""):
    text = PROGRAMS.pop(name)
    if not needs:
        skip("%s: %s" % (name, why))
        return lambda body: body

    def add(body):
        def test():
            with tempfile.TemporaryDirectory() as folder:
                with open(os.path.join(folder, name), "w") as f:
                    f.write(text)
                body(folder, name)
        test.__name__ = name.split(".")[0]
        return case()(test)
    return add


@example("ddp.py", has("torch"), "no torch")
def ddp(folder, name):
    out = under_torchrun(folder, name)
    assert re.search(r"loss \d.*times fewer bytes", out), out


@example("readme.py", has("torch"), "no torch")
def readme(folder, name):
    assert re.search(r"sent [1-9]", under_torchrun(folder, name))


@example("fsdp.py", torch_version() >= (2, 9), "needs torch 2.9")
def fsdp(folder, name):
    under_torchrun(folder, name)


@example("replicas.py", torch_version() >= (2, 7), "needs torch 2.7")
def replicas(folder, name):
    under_torchrun(folder, name, 4)


@example("backend.py", torch_version() >= (2, 0), "needs torch 2.0")
def backend(folder, name):
    under_torchrun(folder, name)


@example("loop.py", has("numpy"), "no numpy")
def loop(folder, name):
    by_hand(folder, [sys.executable, name])


@example("mpi_loop.py", has("mpi4py") and has("numpy"), "no mpi4py")
def mpi_loop(folder, name):
    run_in(folder, ["mpirun", "-n", "2", sys.executable, name])


@example("loader.py", has("numpy") and os.path.exists(BUILD + "/bin/taut"), "no numpy, or no taut command")
def loader(folder, name):
    with open(folder + "/book.txt", "w") as f:
        f.write("\n".join("line %d of a book" % i for i in range(5000)))
    run_in(folder, [BUILD + "/bin/taut", "data", "pack", "book.txt", "-o", "book.taut"])
    run_in(folder, [sys.executable, name])


@example("ring.c")
def ring(folder, name):
    run_in(folder, [os.environ.get("CC", "cc"), "-I", TOP + "/comm", name, "-L", BUILD + "/lib", "-ltaut", "-Wl,-rpath," + BUILD + "/lib", "-o", "ring"])
    outs = by_hand(folder, ["./ring"])
    assert sorted(outs) == ["rank 0: 0.5\n", "rank 1: 0.5\n"], outs


@case()
def no_other_programs():
    assert not PROGRAMS, PROGRAMS.keys()


finish()

"""What documents show as commands and fragments of C, and no test of its own runs, word by word, in a folder with the files that they name: PREFIX, an installed
Taut; docs/guide.md has tests/long/test_guide.sh, docs/python.md tests/python/check_docs.py. VERBOSE=1: says what it runs; DOCS="README.md ...": only of these."""

import json
import os
import re
import shutil
import subprocess
import sys

TOP = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, TOP + "/tests/support")
from doc_blocks import blocks  # noqa: E402
import doc_files  # noqa: E402
import doc_fragments  # noqa: E402

PREFIX = sys.argv[1]
TORCH = os.path.exists(PREFIX + "/libexec/taut-train")
# what a reader would wait for, or has a shorter way to say: appended to commands that begin so
MORE = [("taut data distill", " --iterations 3 --teacher-steps 20 --judge-steps 20"), ("mpirun -n 2 taut train --model gpt", " --steps 5"), ("taut top", " --once"),
        ("launch/lab run", " --sizes 64K:64K --codec quant:bits=4"), ("mpirun -n 4 taut bench allreduce", " --codec grid"), ("taut data compare", " --seeds 1")]
CHANGES = [("/var/lib/node_exporter/", ""), ("$SLURM_JOB_ID", "7"), ("SHARD…", "web.taut"), ("[--field NAME]", "--field text"), ("[--epochs E]", "--epochs 2"), ("[--jaccard 0.8] [--ngram 5] [--exact]", "--jaccard 0.8 --ngram 5"), ("mpirun -n 8", "mpirun -n 4"),
           ("web-*.taut", "web-0.taut web-1.taut"), ("--sizes 64K:64M", "--sizes 64K:1M")]
passed = failed = skipped = 0


def wanted(what):
    return not os.environ.get("DOCS") or what.split(":")[0] in os.environ["DOCS"].split()


def verdict(what, problem):
    global passed, failed
    if not wanted(what):
        return
    if problem is None:
        passed += 1
    else:
        failed += 1
        print("FAIL %s: %s" % (what, problem))


def skip(what):
    global skipped
    skipped += 1
    print("SKIP %s" % what)


def shell(command, more=None):
    if os.environ.get("VERBOSE"):
        print("+ " + command, flush=True)
    p = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600, env=dict(os.environ, **(more or {})))
    out = p.stdout.decode(errors="replace")
    return out, None if p.returncode == 0 else "exit %d: %s" % (p.returncode, "\n".join(out.strip().split("\n")[-6:]))


def block_of(document, begins):
    found = [text for _, text in blocks(document) if text.startswith(begins)]
    assert len(found) == 1, "%s has %d blocks that begin with %r" % (document, len(found), begins)
    return found[0]


def commands(document, begins):
    """The lines of a block, without what explains them."""
    for line in block_of(document, begins).replace("\\\n", " ").strip().split("\n"):
        line = re.split(r"  +#|  +[A-Za-z0-9]", line)[0] if not line.startswith("#") else ""
        if line.strip():
            yield line.strip()


def runs(document, begins, also=None):
    for line in commands(document, begins) if wanted(document) else []:
        for old, new in CHANGES:
            line = line.replace(old, new)
        line += next((more for start, more in MORE if line.startswith(start)), "")
        if not TORCH and re.search(r"taut (train|data (distill|compare))", line):
            skip("%s: %s: built without libtorch" % (document, line))
            continue
        if line.startswith("launch/lab") and os.geteuid() != 0:
            skip("%s: %s: needs root" % (document, line))
            continue
        out, problem = shell(line)
        verdict("%s: %s" % (document, line), problem or (also and also(line, out)))


def fragment(document, begins, wrap, link, run, want):
    """A fragment of C inside the program that it supposes."""
    if not wanted(document):
        return
    name = re.sub(r"\W", "_", begins)[:30]
    with open(name + ".c", "w") as f:
        f.write(wrap % block_of(document, begins))
    out, problem = shell("%s %s.c -std=gnu11 -Wall -Werror $(pkg-config --cflags --libs taut) %s -o %s" % (link, name, "-lm", name))
    if problem is None and run:
        out, problem = shell(run % name)
        problem = problem or (None if re.search(want, out, re.S) else "says %r" % out[-500:])
    verdict("%s: %s" % (document, begins), problem)


# ---- data: shards, plans, selection ----

doc_files.mnist()
doc_files.texts()
runs("docs/data.md", "taut data pack")
runs("docs/data-plans.md", "taut data pack")
for name in ("images-idx3-ubyte", "labels-idx1-ubyte"):
    shell("gzip -dc train-%s.gz > %s" % (name, name))
fragment("docs/data.md", "taut_shard_open", doc_fragments.READING, "cc", "./%s", r"^read \d+ bytes and \d+ samples")
if shutil.which("mpicc"):
    fragment("docs/data-plans.md", "taut_loader_config", doc_fragments.LOADING, "mpicc", "mpirun -n 2 ./%s", r"3000 samples a rank.*3000 samples a rank")
    runs("docs/data-selection.md", "taut data plan")
    verdict("docs/data-selection.md: the scores", shell("taut data plan el2n:budget=30%% mnist.taut --scores S.txt -o el.plan".replace("%%", "%"))[1] if TORCH else None)
else:
    skip("no mpicc: fragments over MPI")
doc_files.tar()
shell("taut data export mnist.taut -o mosaic-dataset")
shutil.copy("mnist.taut", "kept.taut")  # an index of that name replaces it
runs("docs/data.md", "taut data index")
shutil.copy("kept.taut", "mnist.taut")
shutil.rmtree("mnist-mds", ignore_errors=True)
runs("docs/data.md", "taut data export")
runs("docs/data.md", "taut data info --repeats")

# ---- the command ----

doc_files.gradients()
if TORCH:
    for codec in ("auto", "none"):
        shell("mpirun -n 2 taut train --data text.txt --dim 32 --blocks 1 --steps 20 --codec %s --log %s.jsonl" % (codec, codec))
    runs("README.md", "taut info")
else:
    skip("README.md: the command: built without libtorch")
runs("README.md", "taut data pack book.txt")
runs("docs/planning.md", "taut plan --trace")

# ---- programs that nobody changes ----

if shutil.which("mpicc"):
    with open("loop.c", "w") as f:
        f.write(block_of("docs/preload.md", "#include <mpi.h>"))
    verdict("docs/preload.md: loop.c", shell("mpicc -O2 -o train loop.c && cp train their_program")[1])
    os.environ["PREFIX"] = PREFIX
    learns = lambda line, out: None if "step 40 loss 0.0" in out else "does not learn: %s" % out[-300:]  # noqa: E731
    runs("README.md", "launch/tautrun", learns)
    runs("docs/preload.md", "tautrun -n 4", learns)
    line, mpich, srun = commands("docs/preload.md", "mpirun -n 4 -x")

    def preloaded(line):
        """It learns, and its sums were compressed."""
        if os.path.exists("r.json"):
            os.remove("r.json")
        out, problem = shell(line, {"TAUT_CODEC": "quant:bits=4", "TAUT_REPORT": "r.json"})
        coded = sum(site["coded_calls"] for site in json.load(open("r.json"))["sites"]) if os.path.exists("r.json") else 0
        return problem or (None if coded > 25 and "step 40 loss 0.0" in out else "%d calls were compressed: %s" % (coded, out[-300:]))
    verdict("docs/preload.md: " + line, preloaded(line))
    if shutil.which("mpicc.mpich") and os.path.exists(PREFIX + "/lib/libtaut-preload-mpich.so"):
        mpich = mpich.replace("mpirun", "mpirun.mpich").replace("./train", "./train.mpich")
        verdict("docs/preload.md: " + mpich, shell("mpicc.mpich -O2 -o train.mpich loop.c")[1] or preloaded(mpich))
    else:
        skip("docs/preload.md: no MPICH")
    verdict("docs/preload.md: srun", None if "libtaut-preload-mpi.so ./train" in srun else srun)  # submitted by tests/long/test_preload_slurm.sh
    runs("docs/planning.md", "TAUT_LINK")
    os.environ["LD_LIBRARY_PATH"] = PREFIX + "/lib"
    os.environ["LD_AUDIT_PATH"] = PREFIX + "/lib"
    runs("docs/nccl.md", "LD_PRELOAD", learns)  # a program without NCCL is left alone

    # ---- metrics: the job writes what the questions ask for ----
    shell("tautrun -n 2 --codec quant:bits=4 ./train")
    runs("docs/metrics.md", "TAUT_METRICS")
    verdict("docs/operations.md", shell("\n".join(commands("docs/operations.md", "export TAUT_METRICS")).replace("/var/lib/node_exporter/", "").replace("$SLURM_JOB_ID", "8") +
                                        "\ntautrun -n 2 --codec quant:bits=4 ./train")[1] or (None if os.path.getsize("taut-8.prom") else "an empty file"))
    names = set(re.findall(r"^(taut_\w+)", open("taut-8.prom").read(), re.M)) if os.path.exists("taut-8.prom") else set()
    asked = set(re.findall(r"taut_\w+", block_of("docs/metrics.md", "rate(taut_uncompressed")))
    verdict("docs/metrics.md: questions", None if asked and asked <= names else "no metrics %s" % sorted(asked - names))
    verdict("docs/operations.md: the collector's argument", None if re.search(r'^ARGS="--collector\.textfile\.directory=/\S+"$', block_of("docs/operations.md", "# /etc/default"), re.M) else "has changed")

    # ---- batch, survivors, NCCL ----
    options, line = block_of("docs/launch.md", "#SBATCH").strip().split("\n")
    script = open(TOP + "/launch/slurm/mpirun.sbatch").read()
    verdict("docs/launch.md: " + options, None if options in script else "launch/slurm/mpirun.sbatch has others")
    if TORCH:
        verdict("docs/launch.md: " + line, shell(line.replace("mpirun", "mpirun -n 2").replace("...", "--data text.txt --dim 32 --blocks 1 --steps 3"), {"SLURM_JOB_ID": "1"})[1] or
                (None if os.path.exists("run.checkpoint") else "no checkpoint"))
    fragment("docs/launch.md", "s = taut_step_end", doc_fragments.SURVIVING, "mpicc", "./%s", r"2 of 3 are left.*2 of 3 are left")
    fragment("docs/nccl.md", "taut_comm_create_mpi", doc_fragments.NCCL, "mpicc", None, None)

# ---- what README.md begins with; the demo itself in a few steps ----

if TORCH and shutil.which("mpirun"):
    verdict("README.md: make demo", shell("cd %s && STEPS=5 BUILD=%s launch/demo" % (TOP, os.environ["BUILD"]))[1])
for line in commands("README.md", "make demo"):
    verdict("README.md: " + line, shell("make -n -C %s --no-print-directory %s >/dev/null" % (TOP, line.split()[1]))[1])

# ---- how to work on it: targets and their settings are there; what they do is run by themselves ----

for begins in ("make   ", "make test T=comm"):
    for line in commands("CONTRIBUTING.md", begins):
        for one in line.split(" | ") if "MODE=debug" not in line else ["make MODE=debug", "make MODE=asan", "make MODE=tsan"]:
            target = re.search(r"\bmake\b(.*)", one)
            if not target:
                continue
            words = [w for w in target.group(1).replace("venv/bin/python", sys.executable).split() if not w.startswith(("TORCH=pip", "CUDA=1"))]
            words = " ".join(words).replace("T='frame tar'", "T=frame")
            if "mpich" in words and not shutil.which("mpicc.mpich"):
                continue
            verdict("CONTRIBUTING.md: " + one, shell("make -n -C %s --no-print-directory %s >/dev/null" % (TOP, words))[1])
print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
sys.exit(failed != 0)

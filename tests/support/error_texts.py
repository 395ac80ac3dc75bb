#!/usr/bin/env python3
"""error_texts.py : every text that the sources fail with, as FILE:LINE: TEXT; with --check only those that break the rule, and exit code 1.

The rule: an error names the bad value. A text has a conversion for it; or says that something is NULL, that memory is out, or which size is not set;
or begins with the option at fault; or stands in KNOWN, where there is no value to name: a state, something that is missing, what the machine did.
Texts that a helper puts behind a prefix which names the value ("failed(what, path, text)") are not looked at: see PREFIXED.
"""
import os
import re
import sys

FAILS = re.compile(r"(?<!\w)(?:taut__fail|taut__engine_fail|taut__node_fail|taut__fail_as_mpi|cli_fail|cli_usage|fail|complain)\(")
SAYS_WHICH = re.compile(r"\bNULL\b|(?:out of|no) (?:device |host )?memory|size is not set|^--?\w|stopped$")
PREFIXED = ("failed(", "distill_fail(")  # MPI's call, or the file, stands in front
FOLDERS = ("comm", "compressors", "scheduler", "launch", "shim")
KNOWN = set("""
CRC32C of the frame of its samples does not match
MPI does not start
NCCL: a group is begun before the last one was taken
NCCL: another rank could not measure it
NCCL: another rank could not use it
NCCL: the communicator has been aborted
a buffer of more than 2^64 bytes
a code exceeds what its integers hold: the agreed step is too small for these values
auto is no codec of a layer
backward without a forward before it
batch: give tokens or values, one of them
codec auto needs a communicator: name a codec to encode one tensor
codec work failed on the device
data: a group is begun while another one is under way
data: a message outside a group
data: aborted
data: the end of a group that was not begun
empty codec spec: write NAME or NAME:KEY=VALUE,...
give --trace FILE.json or --replay FILE, one of them
grid: codes need an agreed step: collect statistics and calibrate first
images: no labels
images: there are none
its places are malformed
kind=script: no file is named
list: needs file=PATH
loader: no mutex
loader: no shards
log: malformed
missing operand; expected: SHARD...
mix: needs shares, one a shard, as in mix:shares=2:1
no buffer for pixels
no floats in it
no hits were kept: taut_torch_keep(model, 1), then forward
no path of a shard
no path to export to
no second moment before the first step
no shards to export
no width for codes was agreed
not a stored frame
not a tf.train.Example; option raw takes records as they are
not a whole JPEG: empty
plan: no shard
plan: no stage: full, static, rs2, list, ...
plan: problem and choice must be given, with problem->size set
plan: text cannot be printed
powersgd encode: one float32 tensor at a time, with its residual added before
powersgd: no state for the factors
preloadthis MPI is neither Open MPI nor MPICH
prior: no sample has a token
progress=1: a communication thread needs MPI_THREAD_MULTIPLE
quant: zero=1 with bits=1: the two levels are the ends: bits must be 2..8
randk: no state for the averaged values
ranks differ in their settings or layers, and no line of them shows where: do all run the same library?
ranks hold different bytes: see the lines that say NO
sampler: 0 samples: must be at least 1
sgd has no second moment
sgd has no second moment to scale by
stack: a device needs the spec, not only the payload
stack: a stage cannot be a stack
stack: an empty stage: write stack:A+B, as in stack:topk+quant
stack: needs at least two stages, as in stack:topk+quant
taut train printed no result
taut_comm_create_mpi: MPI failed while ranks compared their settings
taut_comm_create_mpi: MPI_COMM_NULL: this rank is no member of the communicator; only members may call
taut_comm_create_mpi: MPI_Init has not been called
taut_comm_create_mpi: MPI_Init has not been called, or MPI_Finalize has
taut_comm_create_mpi: an intercommunicator: must be an intracommunicator, as MPI_Intercomm_merge makes one
taut_comm_create_mpi: ranks run versions of Taut with different settings
taut_comm_mpi: not a communicator that taut_comm_shrink() made of one over MPI
taut_comm_open_cuda_mpi: this MPI has no MPIX_Query_cuda_support
taut_comm_open_cuda_mpi: this MPI says that it was built without CUDA
taut_comm_shrink: nothing has failed: all ranks are there
taut_comm_shrink: one rank has nobody to go on with
taut_comm_shrink: over TCP once only: it was called on this communicator
taut_step_drop: call it after taut_step_end, before the next start
the files that this indexes are not open
the model has no parameters
the ranks could not compare their plans
taut_comm_shrink: another rank was lost, or failed, meanwhile; it may be called again
taut_comm_shrink: another rank could not make its transport
another rank has given up MPI's communicator, which has lost a rank
taut_comm_shrink: MPIX_Comm_shrink failed
the shard was opened from its index alone
this library was built without libjpeg-turbo
threads: no communicator of the survivors could be made
topk: calibrate: needs the whole tensor
topk: encode: pieces with and without a calibration in one batch
where this library lies is not known
zipfit: the samples that were looked at are all empty
""".strip().split("\n"))


def texts(path):
    """(line, text) of each call that fails: its string literals, joined."""
    source = open(path).read()
    for call in FAILS.finditer(source):
        at, depth, quote = call.end(), 1, None
        begin = at
        while depth and at < len(source):
            c = source[at]
            if quote:
                if c == "\\":
                    at += 1
                elif c == quote:
                    quote = None
            elif c in "\"'":
                quote = c
            elif c in "()":
                depth += 1 if c == "(" else -1
            at += 1
        found = re.findall(r'"((?:[^"\\]|\\.)*)"', source[begin:at - 1])
        if found:
            yield source.count("\n", 0, call.start()) + 1, "".join(found)


def main():
    check, bad, seen = "--check" in sys.argv, 0, set()
    count = 0
    for path in sorted(os.path.join(d, f) for top in FOLDERS for d, _, names in os.walk(top) for f in names):
        if not path.endswith((".c", ".h", ".cpp", ".cu", ".cuh")):
            continue
        for line, text in texts(path):
            count += 1
            seen.add(text)
            fine = "%" in text or SAYS_WHICH.search(text) or text in KNOWN
            if not check:
                print(f"{path}:{line}: {text}")
            elif not fine:
                bad += 1
                print(f"{path}:{line}: names no value: {text}")
    if check:
        for text in sorted(KNOWN - seen):
            bad += 1
            print(f"no source says any more: {text}")
        print(f"{count} texts, {bad} to be mended")
    sys.exit(1 if bad or count < 1000 else 0)


main()

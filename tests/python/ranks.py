"""Test cases over ranks that are forked processes, in one group of torch.distributed (gloo) or without it.

    @case(size=2)
    def name(rank, size): ...            # runs on every rank; asserts

    finish()                              # runs all, or those named on the command line; prints "N passed, N failed, N skipped"
"""

import ctypes
import faulthandler
import inspect
import os
import pickle
import select
import signal
import socket
import sys
import time
import traceback

LIMIT_S = float(os.environ.get("LIMIT_S", 90 if os.environ.get("LONG", "0") == "0" else 1500))
_cases, _skips = [], []


def case(size=2, group=True, long=False):
    """size: a number of ranks, or several; group: with torch.distributed; long: in the long tier only."""
    def add(body):
        _cases.append((body, size if isinstance(size, (tuple, list)) else (size,), group, long))
        return body
    return add


def skip(reason):
    _skips.append(reason)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def free_ports(n):
    """The first of n ports in a row that are free."""
    while True:
        first = free_port()
        try:
            for k in range(1, n):
                with socket.socket() as s:
                    s.bind(("127.0.0.1", first + k))
            return first
        except OSError:
            continue


def _rank_main(body, rank, size, group, port, out):
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # with its parent
    faulthandler.dump_traceback_later(0.9 * LIMIT_S)  # a rank that hangs says where
    try:
        if group:
            import torch.distributed as dist
            import datetime
            dist.init_process_group("gloo", init_method="tcp://127.0.0.1:%d" % port, rank=rank, world_size=size, timeout=datetime.timedelta(seconds=60))
            dist.barrier()  # rank 0 has the store, and may end before others have come out of init_process_group()
        answer = (True, body(rank, size))
    except BaseException:
        answer = (False, traceback.format_exc())
    with os.fdopen(out, "wb") as f:
        pickle.dump(answer, f)
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(0)


def _read(fd, until):
    data = b""
    while True:
        ready, _, _ = select.select([fd], [], [], max(until - time.time(), 0))
        if not ready:
            return None
        piece = os.read(fd, 1 << 20)
        if not piece:
            return data
        data += piece


def run(body, size, group=True, port=None):
    """[(ended well, what body returned, or the text of its exception)] by rank; None: killed, or without an answer in time."""
    port, pids, pipes = port or free_port(), [], []
    sys.stdout.flush(), sys.stderr.flush()
    for rank in range(size):
        here, there = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(here)
            for fd in pipes:
                os.close(fd)
            _rank_main(body, rank, size, group, port, there)
        os.close(there)
        pids.append(pid), pipes.append(here)
    until, answers = time.time() + LIMIT_S, []
    for fd in pipes:
        data = _read(fd, until)
        answers.append(pickle.loads(data) if data else None)
        os.close(fd)
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.waitpid(pid, 0)
    return answers


def raises(kind, text, call):
    """The exception of that kind whose text has those words."""
    try:
        call()
    except kind as e:
        assert text in str(e), "%r is not in %r" % (text, str(e))
        return e
    raise AssertionError("no %s with %r" % (kind.__name__, text))


def _run_one(body, size, group):
    wants = inspect.signature(body).parameters
    if not wants:
        body()  # in the parent: it makes its own ranks
        return None
    bad = ["rank %d of %d: %s" % (r, size, a[1] if a else "no answer") for r, a in enumerate(run(body, size, group)) if not (a and a[0])]
    return "\n".join(bad)


def finish():
    names, passed, failed = sys.argv[1:], 0, 0
    for body, sizes, group, long in _cases:
        if (names and body.__name__ not in names) or (long and os.environ.get("LONG", "0") == "0" and not names):
            continue
        for size in sizes:
            begin = time.time()
            try:
                bad = _run_one(body, size, group)
            except Exception:
                bad = traceback.format_exc()
            passed, failed = passed + (not bad), failed + bool(bad)
            if bad:
                print("FAIL %s\n%s" % (body.__name__, bad))
            if os.environ.get("VERBOSE"):
                print("%-32s %d ranks %.2f s" % (body.__name__, size, time.time() - begin))
    for reason in _skips:
        print("SKIP %s" % reason)
    print("%d passed, %d failed, %d skipped" % (passed, failed, len(_skips)))
    sys.exit(failed != 0)

"""taut.data: batches of shards made by `taut data pack`, over one rank and over ranks of torch.distributed."""

import os
import subprocess
import sys
import tempfile

import numpy as np

import taut
import taut.data
from check_structs import check_structs
from ranks import case, finish, raises, run, skip

TAUT = os.path.join(os.environ.get("BUILD", "build/release"), "bin", "taut")
N = 103


def make(folder):
    rows = (np.arange(N * 12).reshape(N, 3, 4) * 7 % 251).astype(np.float32)
    np.save(folder + "/x.npy", rows)
    with open(folder + "/t.jsonl", "w") as f:
        for i in range(N):
            f.write('{"text": "sample %d", "tokens": %s}\n' % (i, list(range(i % 5 + 1))))
    subprocess.run([TAUT, "data", "pack", folder + "/x.npy", "-o", folder + "/x.taut"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([TAUT, "data", "pack", folder + "/t.jsonl", "-o", folder + "/t.taut"], check=True, stdout=subprocess.DEVNULL)
    return rows


@case()
def batches():
    with tempfile.TemporaryDirectory() as folder:
        rows, seen = make(folder), []
        with taut.data.Loader(folder + "/x.taut", batch=10, rounds=2) as loader:
            name = list(loader.fields)[0]
            assert len(loader) in (2 * N // 10, 2 * N // 10 + 1, 2 * (N // 10 + 1))
            for batch in loader:
                assert len(batch) == batch.n and (batch.weights == 1).all()
                for i, x in zip(batch.ids, batch[name]):
                    assert (x == rows[i]).all() and not x.flags.writeable
                assert (batch.stack(name) == rows[batch.ids]).all()
                seen += batch.ids.tolist()
                first = batch
            raises(RuntimeError, "this batch is over", lambda: first[name])
            raises(KeyError, "no field 'nobody'; there are", lambda: loader._find("nobody"))
        assert sorted(seen) == sorted(list(range(N)) * 2)
        raises(RuntimeError, "is closed", lambda: next(loader))
        with taut.data.Loader([folder + "/t.taut"], batch=N) as loader:
            batch = next(loader)
            assert batch["text"] == ["sample %d" % i for i in batch.ids]
            assert [list(t) for t in batch["tokens"]] == [list(range(i % 5 + 1)) for i in batch.ids]
            raises(ValueError, "differ in length", lambda: batch.stack("tokens"))
            pid = os.fork()
            if pid == 0:
                try:
                    raises(RuntimeError, "forked", lambda: next(loader))
                    loader.close()
                    os._exit(0)
                except BaseException:
                    os._exit(1)
            assert os.waitpid(pid, 0)[1] == 0


@case()
def goes_on():
    with tempfile.TemporaryDirectory() as folder:
        make(folder)
        with taut.data.Loader(folder + "/x.taut", batch=7) as whole:
            ids = [b.ids.tolist() for b in whole]
        with taut.data.Loader(folder + "/x.taut", batch=7) as loader:
            first = [next(loader).ids.tolist() for _ in range(4)]
            place = loader.state()
        with taut.data.Loader(folder + "/x.taut", batch=7, state=place) as loader:
            assert first + [b.ids.tolist() for b in loader] == ids
        raises(taut.Error, "TAUT_E_", lambda: taut.data.Loader(folder + "/x.taut", batch=7, state=b"nonsense"))
        raises(taut.Error, "nobody.taut", lambda: taut.data.Loader(folder + "/nobody.taut"))
        raises(taut.Error, "nobody", lambda: taut.data.Loader(folder + "/x.taut", fields=["nobody"]))
        raises(taut.Error, "batch", lambda: taut.data.Loader(folder + "/x.taut", batch=0))


@case()
def structs():
    check_structs("taut_data.h", taut.data.STRUCTS)


try:
    import torch  # noqa: F401
except ImportError:
    skip("no torch: loaders over ranks")
else:
    @case()
    def over_ranks():
        with tempfile.TemporaryDirectory() as folder:
            rows = make(folder)

            def body(rank, size):
                ids = []
                with taut.data.Loader(folder + "/x.taut", batch=9, group="world") as loader:
                    for batch in loader:
                        x = batch.tensor(list(loader.fields)[0])
                        assert (x.numpy() == rows[batch.ids]).all()
                        ids += batch.ids.tolist()
                e = raises(taut.Error, "nobody", lambda: taut.data.Loader(folder + ("/x.taut" if rank else "/nobody.taut"), group="world"))
                return ids
            for size in (2, 3):
                answers = run(body, size)
                assert all(a and a[0] for a in answers), answers
                assert sorted(sum((a[1] for a in answers), [])) == list(range(N))

sys.stdout.flush()
finish()

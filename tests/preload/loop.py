"""A training loop's sums in mpi4py; prints worst=E on rank 0."""
import array
import random

from mpi4py import MPI

comm, n, worst = MPI.COMM_WORLD, 24576, 0.0
rng = random.Random(comm.rank)
for step in range(14):
    g = array.array("f", (rng.gauss(0, 1) for _ in range(n)))
    exact = array.array("d", g)
    comm.Allreduce(MPI.IN_PLACE, exact)
    out = array.array("f", bytes(4 * n))
    comm.Allreduce(g, out)
    worst = max(worst, sum((a - b) ** 2 for a, b in zip(out, exact)) / sum(b * b for b in exact))
if comm.rank == 0:
    print("worst=%.3e" % worst)

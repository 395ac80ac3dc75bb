! The old interface. Prints worst=E on rank 0: the largest squared relative error of a sum against double precision.
program job
  implicit none
  include 'mpif.h'
  integer, parameter :: n = 24576
  integer :: rank, ranks, step, ierr
  real :: g(n), out(n)
  double precision :: exact(n), mine(n), worst, e
  worst = 0
  call MPI_INIT(ierr)
  call MPI_COMM_RANK(MPI_COMM_WORLD, rank, ierr)
  call MPI_COMM_SIZE(MPI_COMM_WORLD, ranks, ierr)
  do step = 1, 20
    call random_number(g)
    g = (g - 0.5) * (1 + 0.1 * rank) + 0.01 * rank
    mine = g
    call MPI_ALLREDUCE(mine, exact, n, MPI_DOUBLE_PRECISION, MPI_SUM, MPI_COMM_WORLD, ierr)
    if (mod(step, 2) == 0) then
      call MPI_ALLREDUCE(g, out, n, MPI_REAL, MPI_SUM, MPI_COMM_WORLD, ierr)
    else
      out = g
      call MPI_ALLREDUCE(MPI_IN_PLACE, out, n, MPI_REAL, MPI_SUM, MPI_COMM_WORLD, ierr)
    end if
    if (ierr /= MPI_SUCCESS) stop 1
    e = sum((out - exact)**2) / sum(exact**2)
    worst = max(worst, e)
  end do
  if (rank == 0) print '(a,es9.3)', 'worst=', worst
  call MPI_FINALIZE(ierr)
end program job

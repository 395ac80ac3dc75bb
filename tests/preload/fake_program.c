/* fake_program.c : of fake_mpi.c. Exits with 0 if all three calls arrived there. */
extern int calls;
int        MPI_Init(int *, char ***);
int        MPI_Allreduce(const void *, void *, int, int, int, int);
int        MPI_Finalize(void);

int main(int argc, char **argv)
{
    float x = 1;
    MPI_Init(&argc, &argv);
    MPI_Allreduce(&x, &x, 1, 0, 0, 0);
    MPI_Finalize();
    return calls == 3 ? 0 : 1;
}

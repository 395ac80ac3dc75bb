# Spack recipe of Taut. Put it into packages/taut/ of a repository of yours: docs/launch.md.
from spack.package import *

try:  # Spack 1 keeps what builds with make beside its recipes
    from spack_repo.builtin.build_systems.makefile import MakefilePackage
except ImportError:
    pass


class Taut(MakefilePackage):
    """Compressed allreduce for distributed training: every layer's gradient as small as one error budget allows."""

    # no archive is published: `spack dev-build taut@main` in a source folder, or set `git` to where yours is
    version("main", branch="main")

    variant("mpi", default=True, description="The MPI transport, taut bench allreduce, training over ranks")
    variant("torch", default=False, description="taut train and the shim to libtorch C++")
    variant("zstd", default=True, description="Shards: the dataset half")
    variant("jpeg", default=True, when="+zstd", description="JPEGs decoded on read")
    variant("blas", default=True, description="BLAS for the products of powersgd")
    variant("cuda", default=False, description="CUDA kernels")

    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("gmake", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("xxhash@0.8:")
    depends_on("jansson")
    depends_on("zlib-api")
    depends_on("mpi@3:", when="+mpi")
    depends_on("py-torch", when="+torch")
    depends_on("python", when="+torch")
    depends_on("zstd", when="+zstd")
    depends_on("libjpeg-turbo", when="+jpeg")
    depends_on("openblas", when="+blas")
    depends_on("cuda@11.8:", when="+cuda")
    depends_on("check", type="test")

    def _flags(self):
        spec = self.spec
        flags = ["PREFIX=" + self.prefix]  # CC and CXX are in the environment
        for name in ("mpi", "zstd", "jpeg", "blas", "cuda"):
            on = spec.satisfies("+" + name)
            flags.append("{0}={1}".format(name.upper(), 1 if on else 0))
        if spec.satisfies("+mpi"):
            flags.append("MPICC=" + spec["mpi"].mpicc)
        if spec.satisfies("+torch"):
            flags += ["TORCH=pip", "PYTHON=" + spec["python"].command.path]
        else:
            flags.append("TORCH=0")
        return flags

    def build(self, spec, prefix):
        make(*self._flags())

    def install(self, spec, prefix):
        make("install", *self._flags())

    def check(self):
        make("quick", *self._flags())

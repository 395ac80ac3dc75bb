"""The little of Spack's language that launch/slurm/spack/package.py uses: says which commands the recipe would run, for test_spack.sh.

  spack_double.py 0|1 RECIPE PREFIX +variant ~variant ...     one line per command: "build make ...", "install make ..."

0, 1: Spack's version, in which the base class has another home.
"""
import runpy
import shlex
import sys
import types

VARIANTS, DEPENDS, COMMANDS = {}, [], []


class Wrapper:
    def __init__(self, **fields):
        self.__dict__.update(fields)


class Spec:
    """On or off by variant; of packages, the programs that are here."""

    def __init__(self, on):
        self.on = on

    def satisfies(self, text):
        assert text[0] == "+" and text[1:] in VARIANTS, f"unknown condition {text!r}"
        return self.on[text[1:]]

    def __getitem__(self, name):
        assert any(d.split("@")[0] == name for d, _ in DEPENDS), f"{name} is used, and no dependency"
        return {"mpi": Wrapper(mpicc="mpicc"), "python": Wrapper(command=Wrapper(path="/usr/bin/python3"))}[name]


class MakefilePackage:
    def __init__(self, spec, prefix):
        self.spec, self.prefix = spec, prefix


def variant(name, default=None, description="", when=None):
    assert isinstance(default, bool) and description, name
    assert when is None or when[0] == "+", when
    VARIANTS[name] = (default, when)


def depends_on(spec, when=None, type=("build", "link")):
    for condition in [when] if when else []:
        assert condition[0] == "+" and condition[1:] in VARIANTS, f"{spec}: when={condition}"
    DEPENDS.append((spec, when))


def make(*arguments):
    COMMANDS.append(["make", *arguments])


def module(name, words):
    m = types.ModuleType(name)
    m.__dict__.update(words)
    m.__all__ = list(words)
    m.__path__ = []
    sys.modules[name] = m


def load(version, recipe):
    words = {"variant": variant, "depends_on": depends_on, "make": make, "version": lambda *a, **k: None}
    base = {"MakefilePackage": MakefilePackage}
    module("spack", {})
    module("spack.package", words if version == "1" else {**words, **base})
    if version == "1":
        for name in ("spack_repo", "spack_repo.builtin", "spack_repo.builtin.build_systems"):
            module(name, {})
        module("spack_repo.builtin.build_systems.makefile", base)
    classes = [c for c in runpy.run_path(recipe).values() if isinstance(c, type) and issubclass(c, MakefilePackage) and c is not MakefilePackage]
    assert len(classes) == 1 and classes[0].__doc__, classes
    return classes[0]


def main(version, recipe, prefix, *wanted):
    package = load(version, recipe)
    on = {name: default for name, (default, _) in VARIANTS.items()}
    for w in wanted:
        assert w[1:] in on, f"unknown variant {w}"
        on[w[1:]] = w[0] == "+"
    for name, (_, when) in VARIANTS.items():
        on[name] = on[name] and (when is None or on[when[1:]])
    it = package(Spec(on), prefix)
    for step in ("build", "install", "check"):
        COMMANDS.clear()
        getattr(it, step)(*(() if step == "check" else (it.spec, prefix)))
        for c in COMMANDS:
            print(step, shlex.join(c))


main(*sys.argv[1:])

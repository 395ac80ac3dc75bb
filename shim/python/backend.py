"""The build backend of the package (PEP 517), without requirements: nothing is downloaded to build it.

A wheel holds the package's sources and, in taut/lib, libtaut with the libraries that it needs: libtaut.so, and where an MPI is installed
libtaut-openmpi.so and libtaut-mpich.so, which find their MPI as any program does. `make python-libs` of the checkout builds them;
TAUT_WHEEL_LIBS names a folder that holds them already."""

import base64
import hashlib
import os
import re
import struct
import subprocess
import sys
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "..", ".."))
NAME, VERSION = "taut", re.search(r'__version__ = "([^"]+)"', open(os.path.join(HERE, "taut", "__init__.py")).read()).group(1)
METADATA = """Metadata-Version: 2.1
Name: taut
Version: %s
Summary: compressed allreduce for distributed training: PyTorch, mpi4py, NumPy
Requires-Python: >=3.8
""" % VERSION


def get_requires_for_build_wheel(config_settings=None):
    return []


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    info = "%s-%s.dist-info" % (NAME, VERSION)
    os.makedirs(os.path.join(metadata_directory, info), exist_ok=True)
    with open(os.path.join(metadata_directory, info, "METADATA"), "w") as f:
        f.write(METADATA)
    return info


def _libraries():
    folder = os.environ.get("TAUT_WHEEL_LIBS")
    if not folder:
        if not os.path.exists(os.path.join(ROOT, "comm", "taut.h")):
            raise RuntimeError("taut: a wheel is built in a checkout of the project (pip install ./shim/python), or with TAUT_WHEEL_LIBS=<folder of libtaut.so>")
        subprocess.run(["make", "--no-print-directory", "-C", ROOT, "python-libs"], check=True, stdout=sys.stderr)
        folder = os.path.join(ROOT, "build", "python", "wheel")
    found = sorted(f for f in os.listdir(folder) if re.fullmatch(r"lib[a-z0-9-]+\.so(\.\d+)*", f))
    if "libtaut.so" not in found:
        raise RuntimeError("taut: there is no libtaut.so in %s" % folder)
    return [os.path.join(folder, f) for f in found]


def _glibc(path):
    """The least version of the C library that it needs: 2.N."""
    data = open(path, "rb").read()
    if data[:4] != b"\x7fELF":
        raise RuntimeError("taut: %s is no shared library" % path)
    return max([int(m.group(1)) for m in re.finditer(rb"\0GLIBC_2\.(\d+)(?:\.\d+)?(?=\0)", data)] or [17])


def _machine(path):
    number = struct.unpack_from("<H", open(path, "rb").read(20), 18)[0]
    names = {62: "x86_64", 183: "aarch64"}
    if number not in names:
        raise RuntimeError("taut: %s is for machine %d: only x86_64 and aarch64 are known" % (path, number))
    return names[number]


def _tag(libraries):
    return "py3-none-manylinux_2_%d_%s" % (max(_glibc(f) for f in libraries), _machine(libraries[0]))


def _sources():
    for folder, _, files in sorted(os.walk(os.path.join(HERE, "taut"))):
        for f in sorted(files):
            if f.endswith(".py"):
                path = os.path.join(folder, f)
                yield os.path.relpath(path, HERE), path


class _Wheel:
    def __init__(self, path):
        self.zip, self.record = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED), []

    def add(self, name, data, mode=0o644):
        info = zipfile.ZipInfo(name.replace(os.sep, "/"), (2020, 1, 1, 0, 0, 0))  # the same bytes from the same sources
        info.external_attr = (0o100000 | mode) << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        self.zip.writestr(info, data)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        self.record.append("%s,sha256=%s,%d" % (info.filename, digest, len(data)))

    def close(self, info):
        self.record.append("%s/RECORD,," % info)
        self.zip.writestr(zipfile.ZipInfo("%s/RECORD" % info, (2020, 1, 1, 0, 0, 0)), "\n".join(self.record) + "\n")
        self.zip.close()


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    libraries = _libraries()
    tag = _tag(libraries)
    name = "%s-%s-%s.whl" % (NAME, VERSION, tag)
    info = "%s-%s.dist-info" % (NAME, VERSION)
    wheel = _Wheel(os.path.join(wheel_directory, name))
    for relative, path in _sources():
        wheel.add(relative, open(path, "rb").read())
    for path in libraries:
        wheel.add("taut/lib/" + os.path.basename(path), open(path, "rb").read(), 0o755)
    wheel.add(info + "/METADATA", METADATA.encode())
    wheel.add(info + "/WHEEL", ("Wheel-Version: 1.0\nGenerator: taut\nRoot-Is-Purelib: false\nTag: %s\n" % tag).encode())
    wheel.close(info)
    return name


def build_sdist(sdist_directory, config_settings=None):
    raise RuntimeError("taut: the package is built from a checkout of the project: pip install ./shim/python")

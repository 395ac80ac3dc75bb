"""Every field of ctypes structs: its offset and size, as the C compiler sees them in a header."""

import ctypes
import os
import subprocess
import tempfile

TOP = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))


def check_structs(header, structs):
    lines = ["#include <stdio.h>", '#include "comm/%s"' % header, "int main(void) {"]
    for name, struct in structs.items():
        lines.append('printf("%s %%zu\\n", sizeof(%s));' % (name, name))
        lines += ['printf("%s.%s %%zu\\n", offsetof(%s, %s));' % (name, f[0], name, f[0]) for f in struct._fields_]
    with tempfile.TemporaryDirectory() as folder:
        with open(folder + "/s.c", "w") as f:
            f.write("\n".join(lines + ["return 0; }"]))
        subprocess.run([os.environ.get("CC", "cc"), "-I", TOP, "-o", folder + "/s", folder + "/s.c"], check=True)
        said = dict(line.split() for line in subprocess.run([folder + "/s"], check=True, stdout=subprocess.PIPE).stdout.decode().splitlines())
    for name, struct in structs.items():
        assert int(said[name]) == ctypes.sizeof(struct), name
        for f in struct._fields_:
            assert int(said["%s.%s" % (name, f[0])]) == getattr(struct, f[0]).offset, (name, f[0])

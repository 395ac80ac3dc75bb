"""libtaut through ctypes: where it is found, its structs, its functions, its errors.

The structs are those of taut.h and taut_tcp.h; they begin with their size, so a library that knows more or fewer fields
takes what it knows. Calls release the interpreter's lock while they run."""

import ctypes as c
import os
import sys

__all__ = ["lib", "Error", "check", "Config", "TcpWhere", "EXCHANGE", "F32", "F16", "BF16", "SUM", "MEAN"]

F32, F16, BF16 = 0, 1, 2
SUM, MEAN = 0, 1
HOST, CUDA = 0, 1

_HERE = os.path.dirname(os.path.abspath(__file__))


UNSUPPORTED, PEER, TIMEOUT, MISMATCH, TRANSPORT = -12, -30, -31, -32, -33  # of taut_status


class Error(RuntimeError):
    """What a call of libtaut failed with: .status is the name, as in TAUT_E_MISMATCH, .code its number; the text is the library's."""

    def __init__(self, code, text):
        self.code, self.text = code, text
        self.status = status_name(code)
        super().__init__("%s: %s" % (self.status, text) if text else self.status)

    def __reduce__(self):  # pools of processes send exceptions pickled
        return type(self), (self.code, self.text)


class Config(c.Structure):
    """taut_config."""

    _fields_ = [("size", c.c_size_t), ("codec", c.c_char_p), ("budget", c.c_char_p), ("objective", c.c_char_p), ("metric", c.c_char_p),
                ("feedback", c.c_char_p), ("algorithm", c.c_char_p), ("hierarchy", c.c_char_p), ("solver", c.c_char_p), ("trace", c.c_char_p),
                ("seed", c.c_uint64), ("timeout_ms", c.c_int32), ("threads", c.c_int32), ("progress", c.c_int32), ("slice_kib", c.c_uint32),
                ("bucket_kib", c.c_uint32), ("small_elems", c.c_uint32), ("replan_steps", c.c_uint32), ("audit_steps", c.c_uint32),
                ("start_step", c.c_uint32), ("momentum", c.c_float), ("dropped", c.c_char_p), ("link", c.c_char_p), ("checksum", c.c_char_p), ("delivery", c.c_char_p)]


EXCHANGE = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_int, c.c_void_p, c.c_size_t, c.c_void_p)


class TcpWhere(c.Structure):
    """taut_tcp."""

    _fields_ = [("size", c.c_size_t), ("rank", c.c_int32), ("ranks", c.c_int32), ("root", c.c_char_p), ("peers", c.POINTER(c.c_char_p)),
                ("exchange", EXCHANGE), ("ctx", c.c_void_p), ("bind", c.c_char_p), ("connect_ms", c.c_int32)]


class LayerStats(c.Structure):
    """taut_layer_stats."""

    _fields_ = [("size", c.c_size_t), ("name", c.c_char * 128), ("elements", c.c_size_t), ("codec", c.c_char * 96), ("algorithm", c.c_char * 16),
                ("calls", c.c_uint64), ("bytes_sent", c.c_uint64), ("bytes_dense", c.c_uint64), ("bits_per_element", c.c_double),
                ("rel_err2", c.c_double), ("rel_err2_metric", c.c_double), ("residual_norm2", c.c_double), ("rel_err2_low", c.c_double),
                ("rel_err2_high", c.c_double), ("rel_err2_metric_low", c.c_double), ("rel_err2_metric_high", c.c_double), ("measured", c.c_int32)]


class CommStats(c.Structure):
    """taut_comm_stats."""

    _fields_ = [("size", c.c_size_t), ("steps", c.c_uint64), ("bytes_sent", c.c_uint64), ("bytes_dense", c.c_uint64), ("rel_err2", c.c_double),
                ("rel_err2_metric", c.c_double), ("rel_err2_audit", c.c_double), ("budget", c.c_double), ("budget_violations", c.c_uint64),
                ("plans", c.c_uint64), ("plan_hash", c.c_uint64), ("comm_s", c.c_double), ("exposed_s", c.c_double), ("plan_s", c.c_double),
                ("bytes_probes", c.c_uint64), ("rel_err2_low", c.c_double), ("rel_err2_high", c.c_double), ("rel_err2_metric_low", c.c_double),
                ("rel_err2_metric_high", c.c_double), ("measured", c.c_int32), ("codec_s", c.c_double)]


_P, _S, _Z, _I = c.c_void_p, c.c_char_p, c.c_size_t, c.c_int
_ZP, _PP = c.POINTER(c.c_size_t), c.POINTER(c.c_void_p)
_FUNCTIONS = {
    "taut_version": (_I, []),
    "taut_status_name": (_S, [_I]),
    "taut_last_error": (_S, []),
    "taut_features": (_S, []),
    "taut_comm_create_threads": (_I, [_I, c.POINTER(Config), _PP]),
    "taut_comm_destroy": (None, [_P]),
    "taut_comm_rank": (_I, [_P]),
    "taut_comm_size": (_I, [_P]),
    "taut_layer_register": (_I, [_P, _S, _I, _I, _ZP, _PP]),
    "taut_layer_codec": (_I, [_P, _S]),
    "taut_layer_scale": (_I, [_P, _P, _Z]),
    "taut_allreduce": (_I, [_P, _P, _I]),
    "taut_allreduce_start": (_I, [_P, _P, _I]),
    "taut_test": (_I, [_P, c.POINTER(_I)]),
    "taut_wait": (_I, [_P]),
    "taut_reduce_scatter": (_I, [_P, _P, _I]),
    "taut_allgather": (_I, [_P, _P]),
    "taut_layer_part": (_I, [_P, _I, _ZP, _ZP]),
    "taut_step_end": (_I, [_P]),
    "taut_step_drop": (_I, [_P]),
    "taut_layer_get_stats": (_I, [_P, c.POINTER(LayerStats)]),
    "taut_comm_get_stats": (_I, [_P, c.POINTER(CommStats)]),
    "taut_state_save": (_I, [_P, _P, _Z, _ZP]),
    "taut_state_load": (_I, [_P, _P, _Z]),
    "taut_state_join": (_I, [_P, _P, _Z]),
    "taut_encode_bound": (_I, [_S, _I, _ZP, _ZP]),
    "taut_encode": (_I, [_S, _I, _ZP, _P, c.c_uint64, _P, _Z, _ZP]),
    "taut_frame_info": (_I, [_P, _Z, _ZP, _ZP, _P, _Z]),
    "taut_decode": (_I, [_P, _Z, _P, _Z]),
    "taut_spec_check": (_I, [_S, _I, _ZP]),
}


_OPTIONAL = {  # of libraries built with what they need; whoever calls them looks first
    "taut_comm_create_tcp": (_I, [c.POINTER(TcpWhere), c.POINTER(Config), _PP]),
    "taut_allreduce_start_on": (_I, [_P, _P, _I, _I, _I, _P]),
    "taut_comm_open_nccl": (_I, [_P, _I]),
    "taut_nccl_version": (_I, []),
}


def _bind(so, functions, optional=False):
    for name, (result, arguments) in functions.items():
        f = getattr(so, name, None) if optional else getattr(so, name)
        if f is not None:
            f.restype, f.argtypes = result, arguments


def _candidates(flavour):
    """Where libtaut may be: TAUT_LIBRARY, inside the package, where the loader looks."""
    named = os.environ.get("TAUT_LIBRARY")
    if named:
        return [named]  # and nothing else: a wrong path is an error, not a reason to take another one
    inside = [os.path.join(_HERE, "lib", "libtaut%s.so" % flavour)]
    return [p for p in inside if os.path.exists(p)] + ([] if flavour else ["libtaut.so.0"])


def load(flavour=""):
    """The library; flavour "-openmpi" or "-mpich": the one linked with that MPI. OSError, with all that was tried."""
    tried = []
    for path in _candidates(flavour):
        try:
            so = c.CDLL(path)
            _bind(so, _FUNCTIONS)
            _bind(so, _OPTIONAL, optional=True)
            return so
        except (OSError, AttributeError) as e:
            tried.append("%s: %s" % (path, e))
    raise OSError("taut: libtaut%s was not found (%s); reinstall the package, or set TAUT_LIBRARY to a libtaut.so" % (flavour, "; ".join(tried) or "nothing to try"))


lib = load()


def has_mpi():
    """Whether there is a libtaut for some MPI: this one, or one beside it in the package."""
    return hasattr(lib, "taut_comm_create_mpi") or any(os.path.exists(os.path.join(_HERE, "lib", "libtaut-%s.so" % m)) for m in ("openmpi", "mpich"))


def status_name(code):
    return lib.taut_status_name(code).decode()


def check(code, so=None):
    """Raises Error unless code is TAUT_OK."""
    if code != 0:
        raise Error(code, (so or lib).taut_last_error().decode("utf-8", "replace"))


def text(value):
    """A str for a char * that may be NULL."""
    return None if value is None else str(value).encode()


def shape_array(shape):
    return (c.c_size_t * max(len(shape), 1))(*shape)


def config(settings):
    """keyword settings to a taut_config. TypeError names a setting that there is not, and those that there are."""
    known = {n: t for n, t in Config._fields_ if n != "size"}
    cfg = Config(size=c.sizeof(Config))
    for name, value in settings.items():
        if name not in known:
            raise TypeError("taut: no setting '%s'; there are: %s" % (name, ", ".join(known)))
        if value is None:
            continue
        if known[name] is c.c_char_p:
            setattr(cfg, name, text(value))
        else:
            try:
                setattr(cfg, name, value)
            except TypeError:
                raise TypeError("taut: setting %s=%r: must be a number" % (name, value)) from None
    return cfg


if sys.maxsize < 2**32:
    raise ImportError("taut: needs a 64-bit Python")

"""Compile the fused ops for this machine's processor, and load them into TensorFlow.

What was compiled is kept in the user's cache folder, for the same sources, TensorFlow, compiler and
processor.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import sys
import tempfile
from typing import Any, List

from common.files import make_durable
from common.processes import errors_of, output_of
from platforms.platform import cpu_flags, threads

FOLDER = os.path.dirname(os.path.abspath(__file__))
SOURCE = "ops.cc"
NEEDED = ("avx2", "fma")  # extensions of the processor
OPTIONS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-pthread")
COMPILERS = ("c++", "g++", "clang++")
LIBRARY = "ops.so"


class Unavailable(Exception):
    """There are no fused ops on this machine; the message is why."""


def load() -> Any:
    """Return the module of the fused ops. Raises Unavailable."""
    import tensorflow

    if sys.version_info < (3, 8) or not hasattr(tensorflow.compat, "v2"):
        raise Unavailable("TensorFlow 1.15 lacks the interface")
    require_processor()
    include = tensorflow.sysconfig.get_include()
    command = [compiler(), *OPTIONS, "-isystem", include]
    path = os.path.join(cache_folder(), key(command, tensorflow.__version__), LIBRARY)
    try:
        if not os.path.exists(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            compile_to(path, command)
        return opened(path)
    except OSError:  # no place for it: compiled for this process alone
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, LIBRARY)
            compile_to(path, command)
            return opened(path)


def require_processor() -> None:
    """Raise Unavailable unless this is Linux on a processor that the ops are written for."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise Unavailable("they are for Linux on x86-64")
    lacking = [each for each in NEEDED if each not in cpu_flags()]
    if lacking:
        raise Unavailable("the processor lacks {}".format(" and ".join(lacking).upper()))


def compiler() -> str:
    """Return the path of the C++ compiler: that of CXX, or the first one there is."""
    asked = os.environ.get("CXX")
    for name in [asked] if asked else COMPILERS:
        path = shutil.which(name)
        if path is not None:
            return path
    raise Unavailable("there is no C++ compiler ({})".format(asked or ", ".join(COMPILERS)))


def cache_folder() -> str:
    """Return the folder that keeps what was compiled."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(root, "sparsenet")


def key(command: List[str], version: str) -> str:
    """Return the name of what a command compiles: whatever it depends on is hashed."""
    found = hashlib.sha256()
    about = [*command, version, output_of([command[0], "--version"]) or "", " ".join(cpu_flags())]
    for text in about:
        found.update(text.encode() + b"\0")
    for name in sorted(os.listdir(FOLDER)):
        if name.endswith((".h", ".cc")):
            with open(os.path.join(FOLDER, name), "rb") as stream:
                found.update(stream.read())
    return found.hexdigest()[:32]


def compile_to(path: str, command: List[str]) -> None:
    """Compile the ops. Raises Unavailable with what the compiler said first, or OSError.

    Other processes may compile the same: each does so aside.
    """
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        beside = os.path.join(folder, LIBRARY)
        said = errors_of([*command, os.path.join(FOLDER, SOURCE), "-o", beside], dict(os.environ))
        if not os.path.exists(beside):
            reason = next(
                (line for line in said.splitlines() if "error" in line), "no reason given"
            )
            raise Unavailable("they can't be compiled: {}".format(reason.strip()))
        make_durable(beside)
        os.replace(beside, path)


@functools.lru_cache(maxsize=None)  # its ops can be registered only once
def opened(path: str) -> Any:
    """Return the module of a library's ops, which use as many threads as TensorFlow."""
    import tensorflow

    try:
        module = tensorflow.load_op_library(path)
    except tensorflow.errors.OpError as error:
        raise Unavailable("they can't be loaded: {}".format(error.message))
    ctypes.CDLL(path).SparseNetUseThreads(threads())
    return module

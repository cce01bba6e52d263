"""Say in one line which module a command lacks, and where it comes from.

Commands import their modules before they start, so Python itself is told how to report it: the
first import of every command, supported_python.py, imports this. The standard library is all that
it needs.
"""

import importlib.util
import os
import re
import shlex
import sys

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EXIT_MISUSE = 2  # as sparsenet.errors has it

# Packages by the names under which pip knows them, where these are others.
DISTRIBUTIONS = {"cv2": "opencv-python-headless", "sklearn": "scikit-learn"}
# In no requirements file, as they are one choice of several.
CHOSEN = ("torch",)
# Of the standard library, but not on Windows.
UNIX_ONLY = ("fcntl", "grp", "pty", "pwd", "resource", "termios")
OPTIONAL_FILES = ["keras.txt", "export.txt", "horovod.txt"]


def sentence(error: ImportError) -> str:
    """Return what is missing and what to do about it."""
    module = (error.name or "").partition(".")[0]
    reason = _reason(str(error))
    if module in UNIX_ONLY:
        return "{}: Python has it on Unix alone; accepted: Linux, macOS, or WSL on Windows".format(
            reason
        )
    if _is_own(module):
        return "{}: this checkout is not complete; accepted: all of its files".format(reason)
    if module.startswith("_") and isinstance(error, ModuleNotFoundError):
        return "{}: this Python was built without it; accepted: another build than {}".format(
            reason, sys.executable
        )
    asked = module if module in CHOSEN else "-r " + shlex.quote(requirements_of(module))
    return "{}; install what is needed with: {} -m pip install {}".format(
        reason, shlex.quote(sys.executable), asked
    )


def _reason(text: str) -> str:
    """Return the line of a message that says what happened; some packages put advice around it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["a module is missing"]
    errors = [line for line in lines if re.search(r"Error: |error was: ", line)]
    return (errors or lines)[-1 if errors else 0]


def _is_own(module: str) -> bool:
    path = os.path.join(CHECKOUT, module)
    return bool(module) and (os.path.isdir(path) or os.path.isfile(path + ".py"))


def requirements_of(module: str) -> str:
    """Return the path of the requirements file that a module comes with."""
    name = DISTRIBUTIONS.get(module, module).replace("_", "-").lower()
    main = _main_file()
    files = [main] + [os.path.join(CHECKOUT, "requirements", each) for each in OPTIONAL_FILES]
    return next((path for path in files if name in _listed(path)), main)


def _main_file() -> str:
    """Return the file of this environment: Ascend's, Keras's, or that of both TensorFlow stacks."""
    if _is_there("npu_bridge") or os.path.basename(sys.argv[0]) == "main_npu.py":
        return os.path.join(CHECKOUT, "requirements", "npu.txt")
    if _is_there("keras") and not _is_there("tensorpack") and sys.version_info >= (3, 10):
        return os.path.join(CHECKOUT, "requirements", "keras.txt")
    return os.path.join(CHECKOUT, "requirements.txt")


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _listed(path: str) -> set:
    """Return the packages that a requirements file lists."""
    try:
        with open(path, encoding="utf-8") as stream:
            return {
                re.split(r"[^A-Za-z0-9_-]", line)[0].replace("_", "-").lower() for line in stream
            }
    except OSError:
        return set()


def report(kind, error, traceback) -> None:
    """Report what ended a command, as sys.excepthook: a missing module in one line, exit code 2."""
    if isinstance(error, ImportError):
        sys.stderr.write("error: {}\n".format(sentence(error)))
        sys.exit(EXIT_MISUSE)
    sys.__excepthook__(kind, error, traceback)


sys.excepthook = report

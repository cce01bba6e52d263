"""Measure how training speed grows with the number of devices: images/s and scaling efficiency.

python scripts/scaling.py 1,2,4 [--horovod] [flags of main_gpu.py]

Each number of devices trains on random images for two epochs, of which the second is timed; every
device has the same number of images per step. With --horovod, horovodrun starts one process per
device on this host; without it, one process uses several GPUs.
"""

import _checkout  # noqa: F401, I001
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import List

from common.cli import Parser, seconds, int_at_least, ints_at_least
from sparsenet.errors import RunFailed, UserError, exit_code_of
from run_directory.table import find_table, read_rows, summary

MAIN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "main_gpu.py")


def parser() -> Parser:
    """Return the parser of this command's own flags; those of the launcher are left over."""
    parser = Parser(
        description="Measure images/s and scaling efficiency for numbers of devices.",
        epilog="Other flags are passed on to main_gpu.py, such as --depth 40.",
    )
    parser.add_argument(
        "devices", type=ints_at_least(1), metavar="N,N,...", help="numbers of devices, e.g. 1,2,4"
    )
    parser.add_argument("--horovod", action="store_true", help="one process per device")
    parser.add_argument(
        "--batch_size", type=int_at_least(1), metavar="N", default=64, help="images per device [64]"
    )
    parser.add_argument(
        "--steps", type=int_at_least(2), metavar="N", default=50, help="steps per epoch [50]"
    )
    parser.add_argument(
        "--timeout", type=seconds, metavar="S", default=3600, help="seconds per run [3600]"
    )
    return parser


def main() -> None:
    args, flags = parser().parse_known_args()
    if args.horovod and shutil.which("horovodrun", path=search_path()) is None:
        raise UserError("horovodrun is not found; accepted: what requirements/horovod.txt lists")
    print("{:>7}  {:>8}  {:>10}".format("devices", "images/s", "efficiency"), flush=True)
    single = None
    for count in args.devices:
        speed = images_per_second(count, args, flags)
        single = single or speed / count
        print("{:>7}  {:>8.0f}  {:>10.1%}".format(count, speed, speed / count / single), flush=True)


def images_per_second(count: int, args, flags: List[str]) -> float:
    """Return the training speed on `count` devices, over all of them."""
    with tempfile.TemporaryDirectory() as folder:
        command = launcher(count, args.horovod) + flags + [
            "--fake", "--max_epoch", "2", "--steps_per_epoch", str(args.steps),
            "--batch_size", str(args.batch_size * count), "--log_dir", folder, "--name", "run",
        ]  # fmt: skip
        code, output = run_group(command, args.timeout)
        if code is None:
            raise RunFailed("{} devices: not done after {:g} s".format(count, args.timeout))
        if code:
            raise RunFailed("{} devices: {}".format(count, reason(output)))
        return summary(read_rows(find_table(os.path.join(folder, "run"))))["images_per_second"]


def run_group(command: List[str], timeout: float):
    """Run a command and return its exit code and output; the code is None after `timeout` seconds.

    Whatever it started is ended with it.
    """
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=dict(os.environ, PATH=search_path()), start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=timeout)
        return process.returncode, output.decode()
    except subprocess.TimeoutExpired:
        return None, ""
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def launcher(count: int, by_horovod: bool) -> List[str]:
    """Return the start of the command that trains on `count` devices."""
    command = [sys.executable, MAIN]
    if by_horovod:
        hosts = "localhost:{}".format(count)
        return ["horovodrun", "--gloo", "-np", str(count), "-H", hosts] + command
    return command + (["--gpu", ",".join(map(str, range(count)))] if count > 1 else [])


def search_path() -> str:
    """Return the PATH, with the folder of this Python put first."""
    return os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])


def reason(output: str) -> str:
    """Return the line of a launcher's output that says what went wrong."""
    lines = [line for line in output.splitlines() if "error: " in line] or output.splitlines()
    return lines[0].partition("error: ")[2] or lines[0] if lines else "no output"


if __name__ == "__main__":
    sys.exit(exit_code_of(main))

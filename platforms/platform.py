"""What a run computes on, as training sees it; each launcher fills it in."""

import dataclasses
import os
import platform as host
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

from platforms.workers import Workers


class LossScaling(NamedTuple):
    """How a platform scales the loss.

    find:     returns, once the graph is built, the loss scale and whether a step's gradients are
              finite (if not, it is skipped)
    remedies: what may help where every step is skipped, in words
    """

    find: Callable[[], Sequence[Any]]
    remedies: str


@dataclasses.dataclass
class Platform:
    """The devices, session config and workers that a run computes with.

    name:           gpu, npu or cpu; part of file names
    devices:        a description of each device of this process; each takes an equal part of its
                    batches
    session_config: how TensorFlow sessions use the devices; None where Keras computes
    versions:       of the libraries that compute, for run.json
    wrap_optimizer: returns the optimizer with what the platform adds to it
    loss_scaling:   None where nothing is scaled
    engine:         what trains: `tensorpack`, or Keras and its backend, such as `keras jax`
    precision:      of the computation, as run.json records it
    options:        what else was asked of the platform, for run.json
    workers:        the processes that train together
    fusion:         replaces ops of the graph by faster ones; None where none are replaced
    folders:        folders that the platform writes to, made together with the run directory
    remark:         what the user should know about the choice, such as why it is not a GPU
    """

    name: str
    devices: List[str]
    session_config: Any
    versions: Dict[str, str] = dataclasses.field(default_factory=dict)
    wrap_optimizer: Callable = lambda optimizer: optimizer
    loss_scaling: Optional[LossScaling] = None
    engine: str = "tensorpack"
    precision: str = "float32"
    options: Dict[str, object] = dataclasses.field(default_factory=dict)
    workers: Workers = Workers()
    fusion: Optional[Any] = None
    folders: Sequence[str] = ()
    remark: Optional[str] = None

    @property
    def total_devices(self) -> int:
        """Return the number of devices of all workers."""
        return len(self.devices) * self.workers.world_size


# Extensions of x86 by which rounding differs, the widest first: flag of Linux, name.
EXTENSIONS = (("amx_tile", "AMX"), ("avx512f", "AVX-512"), ("avx2", "AVX2"))


def describe_cpu() -> str:
    """Return name, widest extension and number of cores of this machine's processor."""
    name = _cpu_info("model name") or host.machine()
    flags = cpu_flags()
    extension = next((" with " + each for flag, each in EXTENSIONS if flag in flags), "")
    usable, cores = usable_cores(), os.cpu_count()
    return "{}{}, {} cores".format(
        name, extension, cores if usable == cores else "{} of {}".format(usable, cores)
    )


def cpu_flags() -> List[str]:
    """Return the extensions of this machine's processor, by Linux's names for them."""
    return _cpu_info("flags").split()


def _cpu_info(field: str) -> str:
    """Return what Linux says of the first core; "" elsewhere, or if it says nothing."""
    try:
        with open("/proc/cpuinfo") as stream:
            return next(line.split(":", 1)[1].strip() for line in stream if line.startswith(field))
    except (OSError, StopIteration):
        return ""


def usable_cores() -> int:
    """Return the number of cores that this process may use: taskset and containers limit it."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def threads() -> int:
    """Return the number of threads that TensorFlow divides an operation between on the CPU.

    Sums are added up in another order with another number of them.
    """
    asked = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) else usable_cores()

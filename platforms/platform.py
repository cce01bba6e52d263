"""What a run computes on, as training sees it: filled in by the launchers."""

import dataclasses
from typing import Callable, Dict, List, Optional, Sequence

from common.tf_stack import tf

from platforms.workers import Workers


@dataclasses.dataclass
class Platform:
    """Describe what a run computes on.

    name:           gpu, npu or cpu: part of file names
    devices:        a description of each device; the batch is divided evenly among them
    session_config: how TensorFlow's session uses them
    wrap_optimizer: what the platform puts around the optimizer
    precision:      of the computation, as run.json records it
    options:        what else was asked of the platform, for run.json
    workers:        the processes that train together
    folders:        that the platform writes to, made with the run directory
    remark:         what a person should know of the choice, such as why it is not a GPU
    """

    name: str
    devices: List[str]
    session_config: tf.ConfigProto
    wrap_optimizer: Callable = lambda optimizer: optimizer
    precision: str = "float32"
    options: Dict[str, object] = dataclasses.field(default_factory=dict)
    workers: Workers = Workers()
    folders: Sequence[str] = ()
    remark: Optional[str] = None

    @property
    def total_devices(self) -> int:
        """Over all workers."""
        return len(self.devices) * self.workers.world_size

"""Workers: processes that train one network together, each on a device of its own.

Each computes the gradient of its part of a batch, and all apply the mean of the gradients to the
same weights. Horovod and Ascend's HCCL provide them; without either there is one worker.
"""

import dataclasses
import os
from typing import Any, Callable, Optional

from sparsenet.errors import UserError

# Set by horovodrun, over Gloo and over MPI.
STARTED_BY_HOROVOD = ("HOROVOD_SIZE", "OMPI_COMM_WORLD_SIZE")


@dataclasses.dataclass(frozen=True)
class Workers:
    """All workers, as one of them sees them; the chief writes the run directory.

    rank:         of this worker, from 0; the chief's is 0
    world_size:   number of workers
    mean:         returns the mean of a tensor over all workers, all of which have to run it; None
                  for a single one
    broadcast:    returns an op that gives all workers the chief's variables; None where the
                  trainer does that itself
    barrier:      returns once every worker has called it; None where a launch script ends all
                  workers if one fails
    make_trainer: returns tensorpack's trainer for one device, which averages gradients unless the
                  optimizer does; None for the simple one
    """

    rank: int = 0
    world_size: int = 1
    mean: Optional[Callable[[Any], Any]] = None
    broadcast: Optional[Callable[[], Any]] = None
    barrier: Optional[Callable[[Any], None]] = None
    make_trainer: Optional[Callable] = None

    @property
    def is_chief(self) -> bool:
        """Return whether this worker is the chief, which writes the run directory."""
        return self.rank == 0


def started_by_horovod() -> bool:
    """Return whether horovodrun has started this process."""
    return any(name in os.environ for name in STARTED_BY_HOROVOD)


def horovod_workers(has_gpus: bool) -> Workers:
    """Return the processes that horovodrun started; UserError if Horovod is not installed."""
    try:
        import horovod.tensorflow as hvd

        hvd.init()
    except ImportError as error:
        raise UserError(
            "horovod can't be imported ({}); accepted: an environment that has what "
            "requirements/horovod.txt lists, or a start without horovodrun".format(error)
        )
    return Workers(
        hvd.rank(),
        hvd.size(),
        mean=lambda tensor: hvd.allreduce(tensor, op=hvd.Average),
        barrier=horovod_barrier,
        make_trainer=horovod_trainer if has_gpus else horovod_trainer_without_gpu,
    )


def horovod_barrier(session_config) -> None:
    """Return once every worker has called this; OpError if one has ended before."""
    from common.tf_stack import tf

    import horovod.tensorflow as hvd

    with tf.Graph().as_default(), tf.Session(config=session_config) as session:
        session.run(hvd.allreduce(tf.constant(0.0), name="all_are_ready"))


def local_rank() -> int:
    """Return the rank of this process among those on this host, from 0."""
    import horovod.tensorflow as hvd

    return hvd.local_rank()


def horovod_trainer():
    """Return tensorpack's Horovod trainer.

    It broadcasts the variables before the first step and averages the gradients.
    """
    from tensorpack import HorovodTrainer

    trainer = HorovodTrainer(average=True)
    # Moving statistics are averaged at an epoch's end; the chief's must not replace them before.
    trainer.BROADCAST_EVERY_EPOCH = False
    return trainer


def horovod_trainer_without_gpu():
    """Return the Horovod trainer for a host without GPUs: naming one aborts TensorFlow 1.15."""
    trainer = horovod_trainer()
    trainer._local_rank = ""  # what the trainer puts into visible_device_list
    return trainer

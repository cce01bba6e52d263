"""Processes that train one network together, each on a device of its own.

Each computes the gradient of its part of a batch; the mean of the gradients moves the same weights
in all of them. Horovod and Ascend's HCCL give such workers; without either there is one.
"""

import dataclasses
import os
from typing import Callable, Optional

from common.tf_stack import tf

from tensorpack import HorovodTrainer, SimpleTrainer

from sparsenet.errors import UserError

# Set by horovodrun, over Gloo and over MPI.
STARTED_BY_HOROVOD = ("HOROVOD_SIZE", "OMPI_COMM_WORLD_SIZE")


@dataclasses.dataclass(frozen=True)
class Workers:
    """Describe all workers, as one of them sees them; the chief writes the run directory.

    rank:         of this one, from 0; the chief has 0
    world_size:   number of workers
    mean:         tensor -> its mean over all workers; all of them have to ask for it
    broadcast:    an op that gives all variables the chief's values; None where the
                  trainer does that itself
    barrier:      returns when every worker has called it; None where a launch script ends them all
    make_trainer: a trainer for one device that averages gradients, unless the optimizer does
    """

    rank: int = 0
    world_size: int = 1
    mean: Callable[[tf.Tensor], tf.Tensor] = tf.identity
    broadcast: Optional[Callable[[], tf.Operation]] = None
    barrier: Optional[Callable[[tf.ConfigProto], None]] = None
    make_trainer: Callable = SimpleTrainer

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes the run directory (tensorpack's word)."""
        return self.rank == 0


def started_by_horovod() -> bool:
    """Whether horovodrun has started this process."""
    return any(name in os.environ for name in STARTED_BY_HOROVOD)


def horovod_workers(has_gpus: bool) -> Workers:
    """The processes that horovodrun has started; UserError where Horovod is not installed."""
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


def horovod_barrier(session_config: tf.ConfigProto) -> None:
    """Return when every worker has called this; OpError where one has ended before."""
    import horovod.tensorflow as hvd

    with tf.Graph().as_default(), tf.Session(config=session_config) as session:
        session.run(hvd.allreduce(tf.constant(0.0), name="all_are_ready"))


def local_rank() -> int:
    """Which of the processes on this host this one is, from 0."""
    import horovod.tensorflow as hvd

    return hvd.local_rank()


def horovod_trainer() -> HorovodTrainer:
    """tensorpack's trainer, which broadcasts variables at the start and averages gradients."""
    trainer = HorovodTrainer(average=True)
    # Statistics are averaged at an epoch's end: the first worker's must not replace them before.
    trainer.BROADCAST_EVERY_EPOCH = False
    return trainer


def horovod_trainer_without_gpu() -> HorovodTrainer:
    """The same where there is no GPU to choose: naming one aborts TensorFlow 1.15."""
    trainer = horovod_trainer()
    trainer._local_rank = ""  # what the trainer puts into visible_device_list
    return trainer

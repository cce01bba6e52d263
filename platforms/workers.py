"""Workers: processes that train one network together, each on a device of its own.

Each computes the gradient of its part of a batch, and all apply the mean of the gradients to the
same weights. Horovod and Ascend's HCCL provide them; without either there is one worker.
"""

import dataclasses
import json
import os
from typing import Any, Callable, Optional

from sparsenet.errors import UserError

# What launchers set for each process -> the value that the only process, or the first, has.
ALONE = {
    "HOROVOD_SIZE": 1,  # horovodrun over Gloo
    "OMPI_COMM_WORLD_SIZE": 1,  # Open MPI, and horovodrun over it
    "PMI_SIZE": 1,  # MPICH, Intel MPI, srun --mpi=pmi2
    "MV2_COMM_WORLD_SIZE": 1,  # MVAPICH
    "WORLD_SIZE": 1,  # torchrun
    "PMIX_RANK": 0,  # PMIx, which sets no number of processes
}


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


def started_together() -> Optional[str]:
    """Return NAME=VALUE of the variable by which a launcher says that it started several processes.

    It is None where this process is the only one, whatever started it.
    """
    for variable, alone in ALONE.items():
        if _number(variable) > alone:
            return _shown(variable)
    return _started_by_srun() or _cluster_of_tensorflow()


def _number(variable: str) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else 0


def _shown(variable: str) -> str:
    return "{}={}".format(variable, os.environ[variable])


def _started_by_srun() -> Optional[str]:
    """Return Slurm's variable if this is one of several tasks that srun started.

    SLURM_NTASKS alone does not say so: a job has it too, in the script that sbatch runs once, as
    rank 0, and in the shell of salloc, which has no rank.
    """
    if "SLURM_STEP_NUM_TASKS" in os.environ:  # srun alone sets it
        return _shown("SLURM_STEP_NUM_TASKS") if _number("SLURM_STEP_NUM_TASKS") > 1 else None
    has_rank = "SLURM_PROCID" in os.environ
    is_of_job = _number("SLURM_PROCID") == 0 and "SLURM_JOB_ID" in os.environ
    if has_rank and not is_of_job and _number("SLURM_NTASKS") > 1:
        return _shown("SLURM_NTASKS")
    return None


def _cluster_of_tensorflow() -> Optional[str]:
    """Return TF_CONFIG if it lists several processes that train."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        cluster = json.loads(text)["cluster"]
        count = sum(len(hosts) for task, hosts in cluster.items() if task != "evaluator")
    except (ValueError, KeyError, TypeError, AttributeError):  # nothing, or not TensorFlow's
        return None
    return _shown("TF_CONFIG") if count > 1 else None


def require_one_network(workers: Workers) -> None:
    """Raise UserError where several processes were started, and each would train alone."""
    launcher = started_together()
    if workers.world_size == 1 and launcher is not None:
        raise UserError(
            "{}: one of several processes, which don't see each other; accepted: one process, or "
            "a start as docs/several-devices.md has it".format(launcher)
        )


def horovod_workers(has_gpus: bool) -> Workers:
    """Return the processes that were started together; UserError if Horovod is not installed."""
    try:
        import horovod.tensorflow as hvd

        hvd.init()
    except ImportError as error:
        raise UserError(
            "{}: one of several processes, and horovod can't be imported ({}); accepted: one "
            "process, or an environment that has what requirements/horovod.txt lists".format(
                started_together(), error
            )
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

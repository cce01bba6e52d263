"""Train a SparseNet on the GPUs of one machine, or on its CPU where there is none.

python ./main_gpu.py --dataset c10 --dataset_dir DIR --fetch sparse --depth 100 --growth_rate 24 \
    --batch_size 64 --drop_1 150 --drop_2 225 --max_epoch 300
"""

import supported_python  # noqa: F401, I001  (first: it refuses a Python that can't go on)
import os
import sys

from command_line import parse
from errors import UserError, exit_code_of


def platform(settings):
    """The GPUs asked for, the first one if none was, or the CPU if there is none."""
    from tf_stack import session_config, tf

    from run_platform import Platform
    from train import describe_cpu, describe_gpus
    from workers import Workers, horovod_workers, started_by_horovod

    present = len(tf.config.experimental.list_physical_devices("GPU"))
    absent = [i for i in settings.gpus or () if i >= present]
    if absent:
        raise UserError(
            "--gpu {}: device {} is absent; accepted: {}".format(
                ",".join(map(str, settings.gpus)),
                absent[0],
                "0 to {}".format(present - 1) if present else "nothing, there is no GPU here",
            )
        )
    workers = horovod_workers(present > 0) if started_by_horovod() else Workers()
    config = session_config()
    if not present:
        return Platform("cpu", [describe_cpu()], config, workers=workers)
    # Same seed, same result; and full float32, since what is compared has to have one precision.
    os.environ.setdefault("TF_CUDNN_DETERMINISTIC", "1")
    if hasattr(tf.config.experimental, "enable_tensor_float_32_execution"):
        tf.config.experimental.enable_tensor_float_32_execution(False)
    config.gpu_options.allow_growth = True
    gpus = gpus_of_this_process(settings.gpus, present)
    config.gpu_options.visible_device_list = ",".join(map(str, gpus))
    return Platform("gpu", describe_gpus(gpus), config, workers=workers)


def gpus_of_this_process(asked, present):
    """The GPUs asked for or the first one; under horovodrun each process has one of its own."""
    from workers import local_rank, started_by_horovod

    if not started_by_horovod():
        return asked or (0,)
    if asked is not None:
        raise UserError(
            "--gpu {}; accepted: nothing under horovodrun, which gives each process one".format(
                ",".join(map(str, asked))
            )
        )
    if local_rank() >= present:
        raise UserError(
            "process {} of this host has no GPU; accepted: at most {} processes on it".format(
                local_rank(), present
            )
        )
    return (local_rank(),)


def main():
    settings = parse(sys.argv[1:])
    if settings is None:
        return
    import train  # TensorFlow takes seconds to start: mistakes in the command are told before

    train.run(settings, platform)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))

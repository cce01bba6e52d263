"""The platform of one machine's GPUs, or of its CPU where there is none."""

import os
import re
import sys
from typing import Any, Dict, List, Optional, Tuple

from common.tf_stack import session_config, tf, versions

from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig
from tensorflow.python.client import device_lib

from common.processes import errors_of, output_of
from platforms.cpu_kernels import build
from platforms.cpu_kernels.fuse import Fusion
from platforms.loss_scaling import FIRST_SCALE, LossScalingOptimizer, scale_and_is_finite
from platforms.platform import LossScaling, Platform, describe_cpu
from platforms.rewriting import set_precision
from platforms.workers import Workers, horovod_workers, local_rank, started_together
from run_directory.record import kernels_of, read_record
from run_directory.settings import FLOAT32, FUSED, MIXED_FLOAT16, STANDARD, Settings
from sparsenet.errors import UserError

REMEDIES = "longer epochs in which it can fall, or --precision float32"


def platform(settings: Settings) -> Platform:
    """Return the platform: the GPUs asked for, else the first one, or the CPU if there is no GPU.

    Raises UserError for a GPU that is absent.
    """
    if settings.gpus == ():
        return cpu_platform(settings)
    present = len(tf.config.experimental.list_physical_devices("GPU"))
    asked = settings.gpus or ()
    absent = [i for i in asked if i >= present]
    if absent:
        raise UserError(
            "--gpu {}: device {} is absent; accepted: {}".format(
                ",".join(map(str, asked)),
                absent[0],
                "0 to {}".format(present - 1) if present else "nothing, there is no GPU here",
            )
        )
    if not present:
        chosen = cpu_platform(settings)
        if chosen.workers.is_chief:  # asking takes seconds where there is a driver
            chosen.remark = why_not_a_gpu()
        return chosen
    if settings.kernels is not None:
        raise UserError("--kernels {}; accepted: with --gpu none only".format(settings.kernels))
    workers = all_workers(has_gpus=True)
    config = session_config()
    os.environ.setdefault("TF_CUDNN_DETERMINISTIC", "1")  # same seed, same result
    config.gpu_options.allow_growth = True
    gpus = gpus_of_this_process(settings.gpus, present)
    config.gpu_options.visible_device_list = ",".join(map(str, gpus))
    precision = set_precision(settings, "gpu", config)
    return Platform(
        "gpu", describe_gpus(config), config, versions(), workers=workers, **scaling_of(precision)
    )


def cpu_platform(settings: Settings) -> Platform:
    """Return the platform of the CPU, whether or not there are GPUs.

    Raises UserError if it can't have the kernels or the precision that are asked for.
    """
    config = session_config()
    config.device_count["GPU"] = 0
    spare_preparation(config.graph_options.rewrite_options)
    workers = all_workers(has_gpus=False)
    precision = set_precision(settings, "cpu", config)
    fusion = fusion_for(settings) if precision == FLOAT32 else None
    platform = Platform(
        "cpu", [describe_cpu()], config, versions(), workers=workers, fusion=fusion,
        **scaling_of(precision),
    )  # fmt: skip
    platform.options["kernels"] = STANDARD if fusion is None else FUSED
    return platform


def scaling_of(precision: str) -> Dict[str, Any]:
    """Return the fields of a Platform that follow from its precision."""
    fields: Dict[str, Any] = {"precision": precision}
    if precision == MIXED_FLOAT16:  # small gradients would be 0 in it
        fields["wrap_optimizer"] = LossScalingOptimizer
        fields["loss_scaling"] = LossScaling(scale_and_is_finite, REMEDIES)
        fields["options"] = {"loss_scale": {"kind": "dynamic", "value": FIRST_SCALE}}
    return fields


def fusion_for(settings: Settings) -> Optional[Fusion]:
    """Return what fuses the layers of a graph; None if TensorFlow's own kernels are to compute.

    A resumed run goes on with the kernels that it has had, unless it is to have others. Raises
    UserError if fused ones are asked for and there are none on this machine.
    """
    kernels = settings.kernels
    if kernels is None and settings.resume is not None:
        kernels = kernels_of(read_record(settings.resume))
    if kernels == STANDARD:
        return None
    try:
        return Fusion(build.load())
    except build.Unavailable as error:
        if settings.kernels == FUSED:
            raise UserError("--kernels fused: {}; accepted: --kernels standard".format(error))
        return None


def spare_preparation(rewrite: RewriterConfig) -> None:
    """Leave out what TensorFlow tries on a graph before its first run, and can't use on a CPU.

    They are the swapping of tensors to the host, another layout of them, and, on TensorFlow 2, a
    second inference of their shapes: a third of the preparation. What is computed stays the same.
    """
    rewrite.memory_optimization = RewriterConfig.NO_MEM_OPT
    rewrite.layout_optimizer = RewriterConfig.OFF
    if "disable_tfg_optimizer" in RewriterConfig.DESCRIPTOR.fields_by_name:
        rewrite.disable_tfg_optimizer = True


def all_workers(has_gpus: bool) -> Workers:
    """Return the processes that train together: Horovod's, if a launcher started several."""
    return horovod_workers(has_gpus) if started_together() else Workers()


def gpus_of_this_process(asked: Optional[Tuple[int, ...]], present: int) -> Tuple[int, ...]:
    """Return the ids of the GPUs that this process uses: those asked for, or the first one.

    Under horovodrun each process has one of its own; UserError if others are asked for or if there
    are too few.
    """
    if not started_together():
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


def why_not_a_gpu() -> Optional[str]:
    """Return why TensorFlow sees no GPU despite an NVIDIA driver; None if there is no driver.

    TensorFlow names the libraries that it could not load only in its log, which is muted in this
    process: another one is started to read it.
    """
    if not has_nvidia_driver():
        return None
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return "on the CPU: CUDA_VISIBLE_DEVICES hides the GPUs"
    program = "import tensorflow; tensorflow.config.experimental.list_physical_devices('GPU')"
    log = errors_of(
        [sys.executable, "-c", program],
        dict(os.environ, TF_CPP_MIN_LOG_LEVEL="0", TF_CPP_VMODULE="dso_loader=1"),
    )
    missing = list(dict.fromkeys(re.findall(r"Could not load dynamic library '([^']+)'", log)))
    if not missing:
        return "on the CPU: TensorFlow sees no GPU"
    more = " and {} more".format(len(missing) - 1) if len(missing) > 1 else ""
    return "on the CPU: TensorFlow can't load {}{}".format(missing[0], more)


def has_nvidia_driver() -> bool:
    """Return whether this machine has NVIDIA's driver, hence probably a GPU."""
    return os.path.exists("/proc/driver/nvidia/version") or bool(output_of(["nvidia-smi", "-L"]))


def describe_gpus(config: tf.ConfigProto) -> List[str]:
    """Return the names of the GPUs that sessions of this config have, as TensorFlow reports them.

    The driver's own list counts GPUs that CUDA_VISIBLE_DEVICES hides, and may have another order.
    """
    found = [each for each in device_lib.list_local_devices(config) if each.device_type == "GPU"]
    names = [re.search("name: (.*?), pci bus", each.physical_device_desc) for each in found]
    return [name.group(1) if name else "GPU {}".format(i) for i, name in enumerate(names)]

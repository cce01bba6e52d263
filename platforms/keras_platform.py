"""The platform of a run that Keras trains: the devices of its backend."""

from typing import List, Optional, Tuple

from platforms.platform import Platform, describe_cpu
from platforms.workers import Workers
from run_directory.settings import FLOAT32, MIXED_BFLOAT16
from sparsenet.errors import UserError

PRECISIONS = (FLOAT32, MIXED_BFLOAT16)  # Keras's dtype policies that need no loss scaling


def platform(backend: str, precision: str, devices: int, processes: Optional[tuple]) -> Platform:
    """Return the platform; UserError if there are not as many devices.

    precision: one of PRECISIONS
    devices:   of this process, to train with
    processes: (address of process 0, number of processes, number of this one), or None for one
    """
    import keras

    workers = Workers()
    if processes is not None:
        if backend != "jax":
            raise UserError("--processes with Keras on {}; accepted: with jax".format(backend))
        address, count, number = processes
        keras.distribution.initialize(address, count, number)
        workers = Workers(number, count)
    name, descriptions = _devices(backend)
    if devices > len(descriptions) or (devices > 1 and backend != "jax"):
        most = len(descriptions) if backend == "jax" else 1
        raise UserError("--devices {}; accepted: 1 to {}".format(devices, most))
    _turn_off_tensor_float_32(backend)
    keras.config.set_dtype_policy(precision)
    keras.config.set_image_data_format("channels_last")  # as the data are, whatever keras.json says
    if devices > 1 or processes is not None:
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(auto_shard_dataset=False)
        )
    return Platform(
        name,
        descriptions[:devices],
        None,
        _versions(backend),
        engine="keras {}".format(backend),
        precision=precision,
        workers=workers,
        remark=None if backend == "jax" else "the fast loop needs Keras's backend JAX",
    )


def _devices(backend: str) -> Tuple[str, List[str]]:
    """Return `gpu` or `cpu` and a description of each device of this process."""
    if backend == "jax":
        import jax

        found = jax.local_devices()
        if found[0].platform == "cpu":
            return "cpu", [describe_cpu()] * len(found)
        return found[0].platform, [each.device_kind for each in found]
    if backend == "torch":
        import torch

        if torch.cuda.is_available():
            count = torch.cuda.device_count()
            return "gpu", [torch.cuda.get_device_name(number) for number in range(count)]
        return "cpu", [describe_cpu()]
    import tensorflow

    found = tensorflow.config.list_physical_devices("GPU")
    details = [tensorflow.config.experimental.get_device_details(each) for each in found]
    names = [each.get("device_name", "GPU") for each in details]
    return ("gpu", names) if names else ("cpu", [describe_cpu()])


def _turn_off_tensor_float_32(backend: str) -> None:
    """Let float32 be float32 on a GPU, as in main_gpu.py; by default it may have 10 bits there."""
    if backend == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "float32")
    elif backend == "torch":
        import torch

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    else:
        import tensorflow

        tensorflow.config.experimental.enable_tensor_float_32_execution(False)


def _versions(backend: str) -> dict:
    """Return the versions of the libraries that compute, for run.json."""
    import importlib

    names = ("keras", backend) if backend != "jax" else ("keras", "jax", "jaxlib")
    return {name: importlib.import_module(name).__version__ for name in names}

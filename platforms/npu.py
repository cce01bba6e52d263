"""Ascend NPUs as a platform: session config, loss scaling, several devices.

`npu_bridge` is imported late and by name. Since 2022, importing its npu_init makes every session an
NPU session, so it has to come after all that needs a session of its own; and `import *` from it
would rebind `tf`, `os` and more.
"""

import dataclasses
import importlib
import os
from typing import Callable, Dict, Optional

from common.tf_stack import session_config, tf, versions

from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from platforms.loss_scaling import scale_and_is_finite
from platforms.npu_options import OPTIONS, LossScale, NpuSettings, Value
from platforms.npu_ranks import device_id, rank_and_world_size, without_rank_table
from platforms.platform import LossScaling, Platform
from platforms.workers import Workers
from sparsenet.errors import UserError

INSTALL = (
    "accepted: an Ascend host with CANN and its TensorFlow 1.15 plugin (npu_bridge) installed, "
    "after `source /usr/local/Ascend/ascend-toolkit/set_env.sh`; requirements/npu.txt lists the "
    "rest"
)
REMEDIES = (
    "a smaller one (--loss_scale fixed:N), longer epochs in which it can fall, or --precision_mode "
    "must_keep_origin_dtype"
)


def platform(npu: NpuSettings) -> Platform:
    """Return the platform of this process's NPU; UserError if npu_bridge can't be imported."""
    rank, world_size = rank_and_world_size()
    options = with_workers(npu.options, world_size)
    device = options.get("session_device_id", device_id())
    if without_rank_table():
        # Beside them CANN leaves CM_* unread, without a word.
        for name in ("RANK_ID", "RANK_SIZE"):
            os.environ.pop(name, None)
    bridge = import_bridge()
    return Platform(
        "npu",
        ["Ascend NPU, device {}".format(device)],
        npu_session_config(options),
        versions(),
        wrap_optimizer=lambda optimizer: wrap(optimizer, npu.loss_scale, world_size, bridge),
        loss_scaling=LossScaling(scale_and_is_finite, REMEDIES) if npu.loss_scale else None,
        precision=str(options["precision_mode"]),
        options=dict(options, loss_scale=npu.loss_scale and dataclasses.asdict(npu.loss_scale)),
        workers=npu_workers(rank, world_size, bridge),
        folders=npu.folders,
    )


def import_bridge():
    """Return npu_bridge.npu_init; UserError, saying what to install and source, if it fails."""
    try:
        return importlib.import_module("npu_bridge.npu_init")
    # How it fails if CANN is not sourced, or beside another TensorFlow.
    except (ImportError, OSError, AttributeError, tf.errors.OpError) as error:
        raise UserError("npu_bridge can't be imported ({}); {}".format(error, INSTALL))


def dry_run(npu: NpuSettings) -> str:
    """Return the session config as text; needs no NPU."""
    _, world_size = rank_and_world_size()
    config = npu_session_config(with_workers(npu.options, world_size))
    remark = "# memory_optimization is RewriterConfig.OFF, which its enumeration calls MANUAL"
    return "{}\n{}".format(remark, str(config).rstrip("\n"))


# The session -----------------------------------------------------------------------------------


def with_workers(options: Dict[str, Value], world_size: int) -> Dict[str, Value]:
    """Return options with what several devices need.

    That is all-reduce during computation, unless the options say otherwise.
    """
    return dict({"hcom_parallel": True} if world_size > 1 else {}, **options)


def npu_session_config(options: Dict[str, Value]) -> tf.ConfigProto:
    """Return the session config with which TensorFlow computes on the NPU.

    options: see npu_options.OPTIONS

    Both switches are set explicitly: some versions of npu_bridge set the second one only if they
    add the optimizer themselves. Its own documents give it the other switch's OFF.
    """
    config = session_config()
    rewrite = config.graph_options.rewrite_options
    rewrite.remapping = RewriterConfig.OFF
    rewrite.memory_optimization = RewriterConfig.OFF
    optimizer = rewrite.custom_optimizers.add()
    optimizer.name = "NpuOptimizer"
    for key, value in sorted(options.items()):
        # The type has to be the option's: any other is accepted silently and ignored.
        field = OPTIONS[key].field
        typed = str(value).encode() if field == "s" else value
        setattr(optimizer.parameter_map[key], field, typed)
    return config


# The optimizer ---------------------------------------------------------------------------------


def wrap(optimizer, scale: Optional[LossScale], world_size: int, bridge):
    """Return the optimizer with loss scaling and, for several devices, the NPU's all-reduce."""
    if world_size > 1:
        optimizer = bridge.NPUDistributedOptimizer(optimizer)
        if without_rank_table():
            optimizer.compute_gradients = with_rank_size(optimizer.compute_gradients, world_size)
    if scale is None:
        return optimizer
    return bridge.NPULossScaleOptimizer(
        optimizer, loss_scale_manager(scale, bridge), is_distributed=world_size > 1
    )


def with_rank_size(compute_gradients: Callable, world_size: int) -> Callable:
    """Return a function that computes gradients while RANK_SIZE is set.

    Without it NPUDistributedOptimizer averages nothing; but when the session starts, it must not be
    there.
    """

    def compute(*arguments, **options):
        os.environ["RANK_SIZE"] = str(world_size)
        try:
            return compute_gradients(*arguments, **options)
        finally:
            del os.environ["RANK_SIZE"]

    return compute


def loss_scale_manager(scale: LossScale, bridge):
    """Return the manager of a fixed loss scale, or of one that grows until values overflow."""
    if scale.kind == "fixed":
        return bridge.FixedLossScaleManager(loss_scale=scale.value)
    return bridge.ExponentialUpdateLossScaleManager(
        init_loss_scale=scale.value,
        incr_every_n_steps=1000,
        decr_every_n_nan_or_inf=2,
        incr_ratio=2,
        decr_ratio=0.5,
    )


# Several devices -------------------------------------------------------------------------------


def npu_workers(rank: int, world_size: int, bridge) -> Workers:
    """Return the processes that Ascend's launch scripts started, one per device."""
    if world_size == 1:
        return Workers()
    hccl = importlib.import_module("npu_bridge.hccl.hccl_ops")
    return Workers(
        rank,
        world_size,
        mean=lambda tensor: hccl.allreduce(tf.convert_to_tensor(tensor), "sum") / world_size,
        broadcast=lambda: broadcast_variables(hccl),
    )


def broadcast_variables(hccl) -> tf.Operation:
    """Return an op that gives all floating-point variables the chief's values."""
    variables = [v for v in tf.global_variables() if v.dtype.base_dtype.is_floating]
    values = hccl.broadcast([tf.convert_to_tensor(v) for v in variables], root_rank=0)
    return tf.group(*[tf.assign(v, value) for v, value in zip(variables, values)])

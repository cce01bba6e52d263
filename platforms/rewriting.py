"""Have TensorFlow compute in the precision that is asked for, or refuse what it can't do."""

from typing import List, Set

from common.tf_stack import VERSION, tf

import numpy as np
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from platforms.precision import REWRITINGS, TF32_CAPABILITY
from run_directory.settings import FLOAT32, TF32, Settings
from sparsenet.errors import UserError


def set_precision(settings: Settings, platform: str, config: tf.ConfigProto) -> str:
    """Return the precision of a run, once sessions of `config` compute in it.

    platform: `cpu` or `gpu`

    Raises UserError for a precision that TensorFlow does not have there. It leaves out without a
    word what it can't do, so that a graph is rewritten to see it.
    """
    precision = settings.precision or FLOAT32
    available = precisions(platform)
    if precision not in available:
        raise refused(precision, platform, available)
    if platform == "gpu" and has_tf32_switch():  # TensorFlow 2 has it on
        tf.config.experimental.enable_tensor_float_32_execution(precision == TF32)
    rewriting = REWRITINGS[platform].get(precision)
    if rewriting is not None:
        setattr(config.graph_options.rewrite_options, rewriting.field, RewriterConfig.ON)
        if not computes_in(tf.as_dtype(rewriting.dtype), config):
            raise refused(precision, platform, [each for each in available if each != precision])
    return precision


def precisions(platform: str) -> List[str]:
    """Return the precisions that this TensorFlow has switches for."""
    fields = RewriterConfig.DESCRIPTOR.fields_by_name
    has_tf32 = platform == "gpu" and has_tf32_switch() and all_have_tf32()
    mixed = [name for name, each in REWRITINGS[platform].items() if each.field in fields]
    return [FLOAT32] + [TF32] * has_tf32 + mixed


def refused(precision: str, platform: str, accepted: List[str]) -> UserError:
    """Return the error for a precision that TensorFlow does not have on a platform."""
    return UserError(
        "--precision {}; accepted on this {} with TensorFlow {}: {}".format(
            precision, platform.upper(), VERSION, ", ".join(accepted)
        )
    )


def has_tf32_switch() -> bool:
    """Return whether this TensorFlow has a switch for TensorFloat-32; 1.15 has no such."""
    return hasattr(tf.config.experimental, "enable_tensor_float_32_execution")


def all_have_tf32() -> bool:
    """Return whether all GPUs have TensorFloat-32."""
    details = tf.config.experimental.get_device_details
    devices = tf.config.experimental.list_physical_devices("GPU")
    found = [details(each).get("compute_capability", (0, 0)) for each in devices]
    return min(found, default=(0, 0)) >= TF32_CAPABILITY


def computes_in(dtype: tf.DType, config: tf.ConfigProto) -> bool:
    """Return whether sessions of `config` give a dtype to operations of a graph in float32."""
    ran = tf.RunMetadata()
    traced = tf.RunOptions(output_partition_graphs=True)
    with tf.Graph().as_default(), tf.Session(config=config) as session:
        x, kernel = (
            tf.placeholder(tf.float32, [1, 8, 8, 8]),
            tf.placeholder(tf.float32, [3, 3, 8, 8]),
        )
        y = tf.nn.conv2d(tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME")), kernel, 1, "SAME")
        zeros = {each: np.zeros(each.shape) for each in (x, kernel)}
        session.run(tf.reduce_sum(y), zeros, options=traced, run_metadata=ran)
    return dtype in dtypes_of(ran)


def dtypes_of(ran: tf.RunMetadata) -> Set[tf.DType]:
    """Return the dtypes in the graphs that a traced step ran, as they were rewritten for it."""
    return {
        tf.as_dtype(value.type)
        for graph in ran.partition_graphs
        for node in graph.node
        for value in node.attr.values()
        if value.type
    }

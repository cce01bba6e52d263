"""A stand-in for Huawei's npu_bridge, for machines without an Ascend device.

As the real one since 2022, it changes every session when it is imported, and holds names that
`import *` would rebind. It refuses what the device would not take or would silently not read.
"""

import functools
from os import environ

import tensorflow
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig
from tensorflow.python.client import session

from npu_bridge.record import note

TYPES = {
    "b": "use_off_line mix_compile_mode enable_data_pre_proc enable_dump enable_dump_debug "
    "profiling_mode hcom_parallel is_tailing_optimization",
    "i": "iterations_per_loop graph_run_mode op_debug_level enable_exception_dump deterministic "
    "session_device_id hccl_timeout op_execute_timeout",
    "s": "precision_mode modify_mixlist op_select_implmode dump_path dump_step dump_mode "
    "dump_debug_mode profiling_options fusion_switch_file graph_memory_max_size "
    "variable_memory_max_size op_compiler_cache_mode op_compiler_cache_dir auto_tune_mode "
    "jit_compile HCCL_algorithm",
}
TYPE_OF = {key: field for field, keys in TYPES.items() for key in keys.split()}


class Rebound:
    """What `import *` would put in the place of a module: any use of it fails."""

    def __getattr__(self, name):
        raise AssertionError("`import *` has rebound a module: {}".format(name))


tf = os = util = Rebound()

v1 = tensorflow.compat.v1


def check(config):
    """The options of a session's config by name; AssertionError for what is wrong with it."""
    assert config is not None and config.allow_soft_placement
    rewrite = config.graph_options.rewrite_options
    assert rewrite.remapping == rewrite.memory_optimization == RewriterConfig.OFF
    (optimizer,) = rewrite.custom_optimizers
    assert optimizer.name == "NpuOptimizer", optimizer.name
    options = {}
    for key, value in optimizer.parameter_map.items():
        assert key in TYPE_OF, "unknown key {}".format(key)
        field = value.WhichOneof("value")
        assert field == TYPE_OF[key], "{} is of type {}".format(key, field)
        found = getattr(value, field)
        options[key] = found.decode() if field == "s" else found
    assert options["use_off_line"] is True and "precision_mode" in options
    return options


def patched(init):
    @functools.wraps(init)
    def with_npu(self, target="", graph=None, config=None):
        note("session", check(config))
        if "CM_CHIEF_IP" in environ:
            assert not {"RANK_TABLE_FILE", "RANK_ID", "RANK_SIZE"} & set(environ)
        plain = v1.ConfigProto()
        plain.CopyFrom(config)
        # TensorFlow here knows no NpuOptimizer.
        plain.graph_options.rewrite_options.ClearField("custom_optimizers")
        init(self, target, graph, plain)

    return with_npu


session.BaseSession.__init__ = patched(session.BaseSession.__init__)


class FixedLossScaleManager:
    def __init__(self, loss_scale, enable_overflow_check=True):
        self._loss_scale = v1.convert_to_tensor(float(loss_scale), name="loss_scale")
        note("loss scale", ["fixed", float(loss_scale)])

    def get_loss_scale(self):
        return self._loss_scale

    def update_loss_scale(self, finite_grads):
        return v1.no_op()


class ExponentialUpdateLossScaleManager:
    """Of the two directions, down alone."""

    def __init__(self, init_loss_scale, incr_every_n_steps, decr_every_n_nan_or_inf=2,
                 incr_ratio=2, decr_ratio=0.8):  # fmt: skip
        self._loss_scale = v1.Variable(float(init_loss_scale), trainable=False, name="loss_scale")
        self._bad_steps = v1.Variable(0, trainable=False, name="bad_steps")
        self._decr_every, self._decr_ratio = decr_every_n_nan_or_inf, decr_ratio
        note("loss scale", ["dynamic", float(init_loss_scale)])

    def get_loss_scale(self):
        return self._loss_scale

    def update_loss_scale(self, finite_grads):
        bad_steps = self._bad_steps + 1 - v1.cast(finite_grads, "int32")
        falls = bad_steps >= self._decr_every
        scale = v1.where(falls, self._loss_scale * self._decr_ratio, self._loss_scale)
        with v1.control_dependencies([scale, bad_steps]):
            return v1.group(
                v1.assign(self._loss_scale, scale),
                v1.assign(self._bad_steps, v1.where(falls, 0, bad_steps)),
            )


class NPULossScaleOptimizer(v1.train.Optimizer):
    """Scales the cost and the gradients back, by a power of two: in float32 nothing changes.

    Above the scale that NPU_STAND_IN_LARGEST_SCALE names, gradients count as overflowed.
    """

    def __init__(self, opt, loss_scale_manager, is_distributed=False):
        super().__init__(False, "NPULossScaleOptimizer")
        self._opt, self._manager = opt, loss_scale_manager
        note("loss scale optimizer", [type(opt).__name__, is_distributed])

    def compute_gradients(self, loss, *arguments, **options):
        scale = v1.identity(self._manager.get_loss_scale())
        found = self._opt.compute_gradients(loss * scale, *arguments, **options)
        return [(g if g is None else g / scale, v) for g, v in found]

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        grads_and_vars = list(grads_and_vars)
        with v1.name_scope(self._name), v1.control_dependencies([g for g, _ in grads_and_vars]):
            largest = float(environ.get("NPU_STAND_IN_LARGEST_SCALE", "inf"))
            finite = v1.reduce_all(
                v1.less_equal(v1.identity(self._manager.get_loss_scale()), largest),
                name="overflow_status_reduce_all",
            )
        update = v1.cond(
            finite,
            lambda: self._opt.apply_gradients(grads_and_vars, global_step, name),
            v1.no_op,
        )
        return v1.group(update, self._manager.update_loss_scale(finite))


class NPUDistributedOptimizer(v1.train.Optimizer):
    def __init__(self, optimizer, name=None):
        super().__init__(False, name or "NPUDistributedOptimizer")
        self._optimizer = optimizer
        note("distributed optimizer", [type(optimizer).__name__])

    def compute_gradients(self, *arguments, **options):
        note("averaged", [environ.get("RANK_SIZE")])  # nothing without it
        return self._optimizer.compute_gradients(*arguments, **options)

    def apply_gradients(self, *arguments, **options):
        return self._optimizer.apply_gradients(*arguments, **options)

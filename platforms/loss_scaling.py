"""Loss scaling: the loss is multiplied, so that float16 can hold the gradients that follow from it.

Otherwise those below 6e-8 would be 0. A step whose gradients overflow is skipped.
"""

from typing import List

from common.tf_stack import tf

from tensorpack.tfutils.optimizer import ProxyOptimizer

FIRST_SCALE = 2.0**15
GROWS_AFTER = 2000  # steps without an overflow
IS_FINITE = "overflow_status_reduce_all"  # as npu_bridge names it


class LossScalingOptimizer(ProxyOptimizer):
    """An optimizer whose gradients are those of the scaled loss, divided by the scale.

    The scale starts at FIRST_SCALE. A step whose gradients are not all finite changes nothing else
    but halves it, though not below 1; after GROWS_AFTER other ones it doubles. As it is a power of
    two, it rounds nothing. It is a variable, so that a resumed run goes on with it.
    """

    def __init__(self, optimizer):
        super().__init__(optimizer, "LossScaling")
        self._scale = tf.get_variable("loss_scale", initializer=FIRST_SCALE, trainable=False)
        self._good_steps = tf.get_variable("good_steps", initializer=0, trainable=False)
        self._is_updated = False

    def compute_gradients(self, loss, *arguments, **options):
        """Return the gradients of the loss, and the variables that they are of."""
        found = self._opt.compute_gradients(loss * self._scale, *arguments, **options)
        return [(g if g is None else g / self._scale, v) for g, v in found]

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        """Return the operation that changes variables and scale.

        It is called once for each device of this process. All have the same gradients, and the
        first one changes the scale.
        """
        grads_and_vars = list(grads_and_vars)
        with tf.name_scope("loss_scaling"):
            are_finite = [tf.reduce_all(tf.math.is_finite(g)) for g, _ in grads_and_vars]
            is_finite = tf.reduce_all(are_finite, name=IS_FINITE)
        step = tf.cond(
            is_finite,
            lambda: self._opt.apply_gradients(grads_and_vars, global_step, name),
            tf.no_op,
        )
        if self._is_updated:
            return step
        self._is_updated = True
        return tf.group(step, self._update(is_finite))

    def _update(self, is_finite):
        """Return the operation that changes the scale after a step."""
        with tf.name_scope("loss_scaling"), tf.control_dependencies([is_finite]):
            scale, good_steps = tf.identity(self._scale), self._good_steps + 1
            grows = good_steps >= GROWS_AFTER
            kept = tf.where(grows, scale * 2, scale)
            scale = tf.where(is_finite, kept, tf.maximum(scale / 2, 1.0))
            good_steps = tf.where(is_finite & ~grows, good_steps, 0)
            with tf.control_dependencies([scale, good_steps]):
                return tf.group(
                    tf.assign(self._scale, scale), tf.assign(self._good_steps, good_steps)
                )


def scale_and_is_finite() -> List[tf.Tensor]:
    """Return the loss scale, and whether a step's gradients are finite, of the default graph.

    They are found by the names that npu_bridge gives them; empty where it gives none.
    """
    operations = tf.get_default_graph().get_operations()
    scales = [v for v in tf.global_variables() if last_part(v.op) == "loss_scale"]
    scales += [op.outputs[0] for op in operations if last_part(op) == "loss_scale"]  # fixed
    finite = [op.outputs[0] for op in operations if last_part(op) == IS_FINITE]
    return [tf.identity(scales[0], "loss_scale_now"), finite[0]] if scales and finite else []


def last_part(operation: tf.Operation) -> str:
    """Return `loss_scale` of `scope/loss_scale`."""
    return operation.name.rpartition("/")[2]

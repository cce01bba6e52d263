"""What became of the steps of an epoch under loss scaling: a step that overflows is skipped."""

from common.tf_stack import tf

from tensorpack.callbacks import Callback

from platforms.platform import LossScaling
from sparsenet.errors import RunFailed
from training.screen import print_loss_scaling, show


class LossScalingMeter(Callback):
    """Count the skipped steps of an epoch; RunFailed if they were all skipped.

    Nothing else shows them: the losses stay finite while the weights stay what they were. As
    TrainingMeter, it fetches the same tensors in every step.
    """

    _chief_only = False  # all workers skip a step together, and end together

    def __init__(self, scaling: LossScaling):
        self._scaling = scaling

    def _setup_graph(self):
        with tf.control_dependencies([self.trainer.train_op]):
            self._fetches = list(self._scaling.find())

    def _before_train(self):
        if not self._fetches and self.trainer.is_chief:
            show("(skipped steps are not counted: this npu_bridge has other names for them)")

    def _before_epoch(self):
        self._steps = self._skipped = 0

    def _before_run(self, _):
        return tf.train.SessionRunArgs(self._fetches)

    def _after_run(self, _, values):
        if values.results:
            self._scale, is_finite = values.results
            self._steps += 1
            self._skipped += not is_finite

    def _after_epoch(self):
        if self._steps and self._skipped == self._steps:
            raise RunFailed(
                "gradients overflowed in every step of epoch {}: all {} were skipped, and nothing "
                "was learned; the loss scale has come to {:.6g}; accepted: {}".format(
                    self.epoch_num, self._steps, self._scale, self._scaling.remedies
                )
            )

    def _trigger_epoch(self):
        if self._steps and self.trainer.is_chief:
            self.trainer.monitors.put_scalar("loss_scale", float(self._scale))
            self.trainer.monitors.put_scalar("skipped_steps", self._skipped)
            print_loss_scaling(float(self._scale), self._skipped, self._steps)

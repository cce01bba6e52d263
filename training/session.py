"""The session of a run: made, and its variables set, in one call of TensorFlow."""

from typing import Mapping

from common.tf_stack import tf

import numpy as np
from tensorpack.tfutils.sesscreate import NewSessionCreator

from platforms.platform import Platform


class InitializedSession(NewSessionCreator):
    """Create a session whose variables have the given values, or else their initial ones.

    The graph is complete then, and computed as the platform computes it.

    platform: of the run
    values:   by the names of variables

    TensorFlow goes over the whole graph for each new set of operations that it is to run. There are
    four of them if tensorpack's NewSessionCreator and DictRestore do this, one after another. It is
    one of the former, since the trainer of Horovod takes no other, and sets the GPU in its config.
    """

    def __init__(self, platform: Platform, values: Mapping[str, np.ndarray]):
        super().__init__(config=platform.session_config)
        self._platform = platform
        self._values = values

    def create_session(self) -> tf.Session:
        """Return the session of the default graph."""
        if self._platform.fusion is not None:
            self._platform.fusion.apply(tf.get_default_graph())
        session = tf.Session(config=self.config)
        # Not run, but graph.pbtxt has it, and what reads that looks for it.
        tf.global_variables_initializer()
        others = [tf.local_variables_initializer(), tf.tables_initializer()]
        variables = tf.global_variables()
        given = {
            # As Variable.load does it: no operation is added for it.
            variable.initializer.inputs[1]: self._values[variable.op.name]
            for variable in variables
            if variable.op.name in self._values
        }
        session.run([variable.initializer for variable in variables] + others, given)
        return session

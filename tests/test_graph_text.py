"""The text of a graph is protobuf's, and a session has the values that it was given."""

from common.tf_stack import tf

import numpy as np
import pytest
from google.protobuf import text_format
from graphs import Built

from platforms.platform import Platform
from run_directory.graph_text import meta_graph_text
from sparsenet.published import RECIPES
from training.session import InitializedSession

PLATFORM = Platform("cpu", ["a CPU"], session_config=None)


@pytest.mark.slow
def test_the_text_of_a_graph():
    """Of a training graph, with and without devices, and with a field that no graph here has."""
    built = Built(RECIPES["digits"].config, is_training=True)
    with built.graph.as_default():
        tf.constant([b'with "quotes"\n', b"\xff"], name="escapes")
        meta_graph = tf.train.export_meta_graph()
    assert meta_graph_text(meta_graph) == text_format.MessageToString(meta_graph)
    nodes = meta_graph.graph_def.node
    nodes[0].device = "/device:CPU:0"
    nodes[1].experimental_debug_info.original_node_names.append("another")
    assert meta_graph_text(meta_graph) == text_format.MessageToString(meta_graph)


def test_variables_have_the_given_or_their_initial_values():
    with tf.Graph().as_default():
        for name in ("given", "initial"):
            tf.get_variable(name, initializer=np.arange(3, dtype=np.float32))
        operations = [op.name for op in tf.get_default_graph().get_operations()]
        session = InitializedSession(PLATFORM, {"given": np.full(3, 7.0, np.float32), "absent": 1})
        values = session.create_session().run(tf.global_variables())
        added = [op.name for op in tf.get_default_graph().get_operations()][len(operations) :]
    assert [value.tolist() for value in values] == [[7, 7, 7], [0, 1, 2]]
    assert added[:3] == ["init", "init_1", "init_all_tables"]  # as tensorpack's has them

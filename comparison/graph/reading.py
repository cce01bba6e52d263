"""Read TensorFlow graphs: GraphDef, MetaGraphDef or SavedModel, as text or binary, any version."""

from typing import Callable, NamedTuple, Set

from common.tf_stack import tf

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from common.protobuf_wire import Damaged, count_messages
from comparison.graph.text_form import NotParsed, first_name, parse
from sparsenet.errors import UserError

ACCEPTED = "a GraphDef, a MetaGraphDef or a SavedModel, as text (.pbtxt) or binary (.pb, .meta)"
# What takes time or memory of its own, however few bytes it has. Real graphs have 19 bytes or more
# a message. Those of training have 200 an op and 120 an input, as text 660 and 410.
BYTES_OF_MESSAGE, FEW_MESSAGES = 8, 10000
FEW_OPS, FEW_INPUTS = 20000, 40000  # that are accepted in a file of any size


class Least(NamedTuple):
    """How many bytes a file has at least for each op of its graph, and for each input of one."""

    op: int
    input: int


IN_TEXT, IN_BINARY = Least(500, 250), Least(150, 80)


class Form(NamedTuple):
    """A message that holds a graph, known in a text by the names of its fields."""

    new: Callable
    fields: Set[str]
    graph_of: Callable


# In this order a binary message is taken for the first form that it can be read as.
FORMS = [
    Form(SavedModel, {"saved_model_schema_version", "meta_graphs"}, lambda saved:
         saved.meta_graphs[0].graph_def
         if saved.saved_model_schema_version and saved.meta_graphs else tf.GraphDef()),
    Form(tf.MetaGraphDef, {"meta_info_def", "graph_def", "saver_def", "collection_def",
                           "signature_def", "asset_file_def", "object_graph_def"},
         lambda meta: meta.graph_def),
    Form(tf.GraphDef, {"node", "versions", "version", "library"}, lambda graph: graph),
]  # fmt: skip


def read_graph(path: str) -> tf.GraphDef:
    """Return the graph that a file holds; UserError if it holds none.

    Fields that this TensorFlow does not know are ignored: the file may be of another version.
    """
    try:
        with open(path, "rb") as stream:
            content = stream.read()
    except OSError as error:
        raise UserError("{}: {}".format(path, error.strerror))
    graph, least = _from_text(content, path), IN_TEXT
    if graph is None:
        graph, least = _from_binary(content), IN_BINARY
    if graph is None or not graph.node:
        raise UserError("{} holds no graph; accepted: {}".format(path, ACCEPTED))
    require_usual_size(graph, len(content), least, path)
    return graph


def require_usual_size(graph: tf.GraphDef, size: int, least: Least, path: str) -> None:
    """Raise UserError for a graph with far more ops or inputs than files of its size have."""
    functions = [each.node_def for each in graph.library.function]
    ops = sum(map(len, [graph.node, *functions]))
    inputs = sum(len(node.input) for nodes in [graph.node, *functions] for node in nodes)
    for what, count, most in [
        ("ops", ops, max(size // least.op, FEW_OPS)),
        ("inputs", inputs, max(size // least.input, FEW_INPUTS)),
    ]:
        if count > most:
            raise UserError("{} has {:,} {}, too many for its size".format(path, count, what))


def _from_text(content: bytes, path: str):
    """Return the graph that a text describes; None if it describes none."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    name = first_name(text)
    form = next((form for form in FORMS if name in form.fields), None)
    if form is None:
        return None
    message = form.new()
    try:
        parse(text, message)
    except NotParsed as error:
        raise UserError("{} can't be read as a graph: {}".format(path, error))
    return form.graph_of(message)


def _from_binary(content: bytes):
    """Return the graph that a serialised message holds; None if it holds none."""
    for form in FORMS:
        message = form.new()
        try:
            count_messages(
                content, message.DESCRIPTOR, len(content) // BYTES_OF_MESSAGE + FEW_MESSAGES
            )
            message.ParseFromString(content)
        except (Damaged, DecodeError, UnicodeDecodeError, RecursionError):
            continue
        graph = form.graph_of(message)
        if graph.node and all(node.op for node in graph.node):
            return graph
    return None

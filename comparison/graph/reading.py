"""Read TensorFlow graphs: GraphDef, MetaGraphDef or SavedModel, as text or binary, any version."""

from typing import Callable, NamedTuple, Set

from common.tf_stack import tf

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from common.protobuf_wire import Damaged, count_messages
from comparison.graph.text_form import NotParsed, first_name, parse
from sparsenet.errors import UserError

ACCEPTED = "a GraphDef, a MetaGraphDef or a SavedModel, as text (.pbtxt) or binary (.pb, .meta)"
# What takes time or memory of its own, however few bytes it has: real graphs have 19 bytes or more
# a message, and graphs of training 600 or more an op. FEW are always accepted.
BYTES_OF_MESSAGE, BYTES_OF_OP, FEW = 8, 250, 10000


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
    graph = _from_text(content, path) or _from_binary(content)
    if graph is None or not graph.node:
        raise UserError("{} holds no graph; accepted: {}".format(path, ACCEPTED))
    ops = len(graph.node) + sum(len(each.node_def) for each in graph.library.function)
    if ops > len(content) // BYTES_OF_OP + FEW:
        raise UserError("{} has {:,} ops, too many for its size".format(path, ops))
    return graph


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
            count_messages(content, message.DESCRIPTOR, len(content) // BYTES_OF_MESSAGE + FEW)
            message.ParseFromString(content)
        except (Damaged, DecodeError, UnicodeDecodeError, RecursionError):
            continue
        graph = form.graph_of(message)
        if graph.node and all(node.op for node in graph.node):
            return graph
    return None

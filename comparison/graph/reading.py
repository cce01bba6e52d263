"""Read TensorFlow graphs: GraphDef or MetaGraphDef, as text or binary, of any version."""

import re

from common.tf_stack import tf

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from sparsenet.errors import UserError

ACCEPTED = "a GraphDef or a MetaGraphDef, as text (.pbtxt) or binary (.pb, .meta)"
FIRST_WORD = re.compile(r"\s*(?:#.*\s*)*(\w+)\s*[:{<]")
FIELDS_OF_GRAPH = {"node", "versions", "version", "library"}
FIELDS_OF_META_GRAPH = {
    "meta_info_def", "graph_def", "saver_def", "collection_def", "signature_def",
    "asset_file_def", "object_graph_def",
}  # fmt: skip


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
    return graph


def _from_text(content: bytes, path: str):
    """Return the graph that a text describes; None if it describes none."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    first = FIRST_WORD.match(text)
    if first is None or first.group(1) not in FIELDS_OF_GRAPH | FIELDS_OF_META_GRAPH:
        return None
    is_meta = first.group(1) in FIELDS_OF_META_GRAPH
    message = tf.MetaGraphDef() if is_meta else tf.GraphDef()
    try:
        text_format.Parse(text, message, allow_unknown_field=True)
    except text_format.ParseError as error:
        raise UserError("{} can't be read as a graph: {}".format(path, error))
    return message.graph_def if is_meta else message


def _from_binary(content: bytes):
    """Return the graph that a serialised message holds; None if it holds none."""
    for message, graph_of in (
        (tf.MetaGraphDef(), lambda meta: meta.graph_def),
        (tf.GraphDef(), lambda graph: graph),
    ):
        try:
            message.ParseFromString(content)
        except (DecodeError, UnicodeDecodeError):
            continue
        if graph_of(message).node and all(node.op for node in graph_of(message).node):
            return graph_of(message)
    return None

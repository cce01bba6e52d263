"""The text of a graph, as protobuf writes it, in a fraction of its time."""

from typing import Any, Dict, Iterator, Tuple

from google.protobuf import text_format

INDENT = 4  # of a node's fields, in `graph_def {` and `node {`
PLAIN = {"name", "op", "input", "device", "attr"}  # the fields that TensorFlow's nodes have


def meta_graph_text(meta_graph: Any) -> str:
    """Return a MetaGraphDef as text: the same as text_format.MessageToString returns.

    Nearly all of it are attributes of nodes. Few of them differ, and each is formatted once.
    """
    rest = type(meta_graph)()
    rest.CopyFrom(meta_graph)
    rest.graph_def.ClearField("node")
    start = "graph_def {\n"
    before, _, after = ("\n" + text_format.MessageToString(rest)).partition("\n" + start)
    return "".join([before[1:], "\n", start, *_nodes(meta_graph.graph_def.node), after])


def _nodes(nodes: Any) -> Iterator[str]:
    """Yield the text of nodes, which are the first field of a GraphDef."""
    known: Dict[Tuple[str, bytes], str] = {}
    for node in nodes:
        yield "  node {\n"
        if PLAIN.issuperset(field.name for field, _ in node.ListFields()):
            yield from _fields(node, known)
        else:
            yield text_format.MessageToString(node, indent=INDENT)
        yield "  }\n"


def _fields(node: Any, known: Dict[Tuple[str, bytes], str]) -> Iterator[str]:
    """Yield the text of a node's fields. Names need no escapes: TensorFlow has few signs in them.

    known: text of the attributes that were formatted before
    """
    named = [("name", node.name), ("op", node.op), *(("input", each) for each in node.input)]
    for field, value in named + [("device", node.device)]:
        if value:
            yield '    {}: "{}"\n'.format(field, value)
    for key in sorted(node.attr):
        attribute = key, node.attr[key].SerializeToString(deterministic=True)
        if attribute not in known:
            alone = type(node)()
            alone.attr[key].CopyFrom(node.attr[key])
            known[attribute] = text_format.MessageToString(alone, indent=INDENT)
        yield known[attribute]

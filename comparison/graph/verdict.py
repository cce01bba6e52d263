"""Whether two graphs are the same computation, as a part of the comparison."""

from typing import Dict, List, Sequence, Tuple

from common.garbage import none_collected
from comparison.findings import DIFFERENT, SAME, Part, absent, count_words
from comparison.graph.differences import Difference, compare_graphs
from comparison.graph.normal_form import NormalGraph, normal_form
from comparison.graph.reading import read_graph
from comparison.graph.structure import Malformed
from comparison.sources import Source
from sparsenet.errors import UserError

NAMED = 5  # types of ops that a line names


def compare_graph_files(a: Source, b: Source) -> Part:
    """Compare two graphs: the same if they are isomorphic after the normalisations of steps.py."""
    if a.graph is None or b.graph is None:
        lacking = a if a.graph is None else b
        return absent("graph", "no graph in {}".format(lacking.path))
    graphs = [_normal_form(path) for path in (a.graph, b.graph)]
    result = compare_graphs(*graphs)
    # A graph without the test's tower, or without training, is compared in the parts it has.
    one_sided = {part for part, sizes in result.sizes.items() if 0 in sizes and any(sizes)}
    compared = [each for each in result.differences if each.part not in one_sided]
    deciding = [each for each in compared if each.decides]
    lines = [difference_text(each) for each in deciding]
    if len(compared) > len(deciding):
        more = len(compared) - len(deciding)
        lines.append("({} more that only observe, as summaries do)".format(more))
    lines += [
        "{}: only in {}".format(part, "A" if result.sizes[part][0] else "B")
        for part in sorted(one_sided)
    ]
    applied = normalizations(graphs, result)
    return Part(
        "graph",
        DIFFERENT if deciding else SAME,
        headline(graphs, result, deciding),
        "isomorphic after the normalisations that are counted",
        lines=lines,
        always=[ignored_text(applied), *not_computed_lines(graphs)],
        data={
            "files": [a.graph, b.graph],
            "sizes": result.sizes,
            "normalizations": applied,
            "differences": compared,
            "one_sided": sorted(one_sided),
        },
    )


def _normal_form(path: str) -> NormalGraph:
    """Return the normal form of the graph in a file; UserError if there is none."""
    try:
        with none_collected():
            return normal_form(read_graph(path))
    except Malformed as error:
        raise UserError("{} can't be read as a graph: {}".format(path, error))


def normalizations(graphs, result) -> Dict[str, Tuple[int, int]]:
    """Return for each normalisation how often it was applied in A and in B."""
    applied = {
        reason: (graphs[0].applied[reason], graphs[1].applied[reason])
        for reason in graphs[0].applied
    }
    reordered = (result.reordered, result.reordered)
    applied["sums and products with their terms in another order"] = reordered
    return applied


def headline(graphs, result, deciding: List[Difference]) -> str:
    """Return the finding in one line: the counts, then the first difference."""
    if deciding:
        return "{}; first: {}".format(counts_text(deciding), difference_text(deciding[0]))
    if result.differences:
        return "the same in the parts that both have"
    return "isomorphic: {:,} distinct ops each".format(len(graphs[0].nodes))


def ignored_text(applied: Dict[str, Tuple[int, int]]) -> str:
    """Return every normalisation that was applied, with its counts."""
    found = ["{} {:,} | {:,}".format(k, *counts) for k, counts in applied.items() if any(counts)]
    return "ignored, in A | in B: {}".format("; ".join(found) or "nothing")


def not_computed_lines(graphs: Sequence[NormalGraph]) -> List[str]:
    """Return a line on the ops that could be constants and were compared as they are, or none."""
    found = [graph.not_computed for graph in graphs]
    counts = {name: [each.get(name, 0) for each in found] for each in found for name in each}
    if not counts:
        return []
    shown = ["{} {:,} | {:,}".format(name, *counts[name]) for name in sorted(counts)[:NAMED]]
    more = "; ..." if len(counts) > NAMED else ""
    return [
        "not computed, though of constants alone, in A | in B: {}{}".format("; ".join(shown), more)
    ]


def counts_text(differences: List[Difference]) -> str:
    """Return `network 1 added, 2 changed; gradient 3 changed`."""
    parts: Dict[str, Dict[str, int]] = {}
    for each in differences:
        counts = parts.setdefault(each.part, {})
        counts[each.kind] = counts.get(each.kind, 0) + 1
    return "; ".join("{} {}".format(part, count_words(counts)) for part, counts in parts.items())


def difference_text(each: Difference) -> str:
    """Return `removed Relu block2/layer1/Relu [64, 16, 16, 20]: ...; first affects ...`."""
    details = "; ".join(each.details)
    text = "{} {} {}".format(each.kind, each.op, each.name)
    text += " " + each.shape if each.shape else ""
    text += ": " + details if details else ""
    return text + ("; first affects " + each.noticed_by if each.noticed_by else "")

"""Two graphs, as a part of the comparison."""

from typing import List

from comparison.findings import DIFFERENT, SAME, Part, absent, count_words
from comparison.graph_matching import Difference, compare_graphs
from comparison.graph_normal_form import normal_form
from comparison.graph_reading import read_graph
from comparison.sources import Source


def compare_graph_files(a: Source, b: Source) -> Part:
    """The graphs are the same if they are isomorphic up to the normalisations that are listed."""
    for source in (a, b):
        if source.graph is None:
            return absent("graph", "no graph in {}".format(source.path))
    graphs = [normal_form(read_graph(source.graph)) for source in (a, b)]
    result = compare_graphs(*graphs)
    # A side without the test's tower, or without training, is compared in what it has.
    one_sided = {part for part, sizes in result.sizes.items() if 0 in sizes and any(sizes)}
    compared = [each for each in result.differences if each.part not in one_sided]
    shared = [each for each in compared if each.decides]
    looking_on = len(compared) - len(shared)
    applied = {
        reason: (graphs[0].applied[reason], graphs[1].applied[reason])
        for reason in graphs[0].applied
    }
    applied["sums and products with their terms in another order"] = (
        result.reordered, result.reordered,
    )  # fmt: skip
    headline = (
        "isomorphic: {:,} distinct ops each".format(len(graphs[0].nodes))
        if not result.differences
        else "the same in what both have"
        if not shared
        else "{}; first: {}".format(counts_text(shared), difference_text(shared[0]))
    )
    lines = [difference_text(each) for each in shared]
    if looking_on:
        lines.append("({} more that only look on, as summaries do)".format(looking_on))
    lines += [
        "{}: only in {}".format(part, "A" if result.sizes[part][0] else "B")
        for part in sorted(one_sided)
    ]
    passed_over = [
        "{} {:,} | {:,}".format(reason, *found) for reason, found in applied.items() if any(found)
    ]
    return Part(
        "graph",
        DIFFERENT if shared else SAME,
        headline,
        "isomorphic up to the normalisations that are counted",
        lines=lines,
        always=["passed over, in A | in B: {}".format("; ".join(passed_over) or "nothing")],
        data={
            "files": [a.graph, b.graph],
            "sizes": result.sizes,
            "normalizations": applied,
            "differences": compared,
            "one_sided": sorted(one_sided),
        },
    )


def counts_text(differences: List[Difference]) -> str:
    """`network 1 added, 2 changed; gradient 3 changed`."""
    parts = {}
    for each in differences:
        counts = parts.setdefault(each.part, {})
        counts[each.kind] = counts.get(each.kind, 0) + 1
    return "; ".join("{} {}".format(part, count_words(counts)) for part, counts in parts.items())


def difference_text(each: Difference) -> str:
    """`removed Relu block2/layer1/Relu [64, 16, 16, 20]: ...; noticed by ...`."""
    details = "; ".join(each.details)
    text = "{} {} {}".format(each.kind, each.op, each.name)
    text += " " + each.shape if each.shape else ""
    text += ": " + details if details else ""
    return text + ("; noticed by " + each.noticed_by if each.noticed_by else "")

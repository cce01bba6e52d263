"""What the ledger says below its tables: why counts differ, and answers to what others claim."""

import dataclasses
from typing import Dict, List

from ledger_rows import Row, rounds_to

from sparsenet.costs import flops, parameters, parameters_with_statistics
from sparsenet.published import PUBLISHED, RECIPES


def notes(rows: List[Row]) -> List[str]:
    """Return why counts differ and what else there is to say, each once."""
    names: Dict[str, List[str]] = {}
    for row in rows:
        for text in (row.reason, row.remarks):
            if text:
                names.setdefault(text, []).append(row.name)
    return ["{}: {}".format(", ".join(of), text) for text, of in names.items()]


# keras-SparseNet --------------------------------------------------------------------------------

KERAS_PRINTED = {"sparsenet-40-24": "0.74M", "sparsenet-100-24": "2.50M"}
KERAS_CONVENTIONS = [
    ("{}, {} classes".format(way, classes), count, classes)
    for classes in (100, 10)
    for way, count in (
        ("trainable", parameters),
        ("with moving statistics", parameters_with_statistics),
    )
]


def keras_answer() -> List[str]:
    """Return where the counts that keras-SparseNet prints come from."""
    lines = [
        "",
        "keras-SparseNet prints {} and {} for {} and {}, the paper {} and {}: there conv0 has k "
        "channels, and the paper's counts come out with 2k. Its default is to count moving "
        "statistics, for 10 classes. Counted with conv0 = k:".format(
            *KERAS_PRINTED.values(),
            *KERAS_PRINTED,
            *[PUBLISHED[name].parameters for name in KERAS_PRINTED],
        ),
    ]
    meets: Dict[str, List[str]] = {printed: [] for printed in KERAS_PRINTED.values()}
    for convention, count, classes in KERAS_CONVENTIONS:
        cells = []
        for name, printed in KERAS_PRINTED.items():
            here = count(with_narrow_stem(name, classes))
            is_met = rounds_to(here, printed, 10**6)
            cells.append("{:>9,} {:<7}".format(here, "= " + printed if is_met else ""))
            meets[printed] += [convention] * is_met
        lines.append("  {:<36} {}".format(convention, " ".join(cells)).rstrip())
    lines += ["{} is: {}.".format(text, "; or ".join(found)) for text, found in meets.items()]
    both = [c for c, _, _ in KERAS_CONVENTIONS if all(c in found for found in meets.values())]
    return lines + ["One convention that gives both: {}.".format("; or ".join(both) or "none")]


def with_narrow_stem(name: str, classes: int):
    """Return the network of a recipe with conv0 = k, as keras-SparseNet has it."""
    config = RECIPES[name].config
    return dataclasses.replace(config, stem_channels=config.growth_rate[0], classes=classes)


# Liu & Zeng -------------------------------------------------------------------------------------

LIU_ZENG_ERRORS = (  # data, Liu & Zeng's SparseNet, the DenseNet that they compare with
    ("CIFAR-10", 3.24, 3.46),
    ("CIFAR-100", 16.98, 17.18),
    ("SVHN", 1.69, 1.74),
)


def liu_zeng_answer() -> List[str]:
    """Return what Liu & Zeng print, and as far as it can be said what is found here."""
    errors = ", ".join("{1} on {0} (DenseNet {2})".format(*each) for each in LIU_ZENG_ERRORS)
    rival, basic = RECIPES["densenet-bc-190-40"].config, RECIPES["liu-zeng-basic-v1"].config
    here = [parameters(r.config) / 1e6 for n, r in RECIPES.items() if n.startswith("liu-zeng-")]
    return [
        "",
        "Liu & Zeng print errors (%) of {}. Growth and path of their networks were not found, so "
        "no row is given these errors. The rows have k = {}, the public scripts' default, and path "
        "{}, V1's there.".format(errors, basic.growth_rate[0], basic.nearest + basic.farthest),
        "They print 3.40 % on CIFAR-10 at 2.6 times fewer parameters and 3.7 times fewer FLOPs "
        "than DenseNet-BC-190-40: by the counts here {:.1f}M and {:.2f}G. The rows have {:.1f}M "
        "to {:.1f}M.".format(parameters(rival) / 2.6e6, flops(rival) / 3.7e9, min(here), max(here)),
        "They print 5.11 % for a DenseNet-40 with 22 connections; its other settings are not at "
        "hand.",
        "Attention adds 2 % to the parameters, they print. Here it adds {} % (V1 to V4), and {} % "
        "if every layer reads all before it. No reason for the difference is known: their path "
        "may be longer or their networks larger.".format(
            attention_shares(), attention_shares(fetch="dense")
        ),
    ]


def attention_shares(**fields) -> str:
    """Return the percent of parameters that attention adds to Liu & Zeng's V1 to V4.

    fields: of their networks, in place of what they have
    """

    def count(kind: str, size: str) -> int:
        config = RECIPES["liu-zeng-{}-{}".format(kind, size)].config
        return parameters(dataclasses.replace(config, **fields))

    shares = [count("abc", size) / count("bc", size) - 1 for size in ("v1", "v2", "v3", "v4")]
    return ", ".join("{:.1f}".format(100 * share) for share in shares)

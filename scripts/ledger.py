"""What each published network costs, beside what was published: parameters, operations, paths.

python scripts/ledger.py [--csv | --markdown] [--only START] [--check]
"""

import _checkout  # noqa: F401, I001
import csv
import dataclasses
import sys
import textwrap
from typing import Callable, List, NamedTuple, Optional, Sequence

from common.cli import Parser
from sparsenet.errors import RunFailed, UserError, exit_code_of
from sparsenet.costs import (
    activation_memory,
    skip_connections,
    flops,
    gradient_paths,
    macs,
    parameters,
    parameters_with_statistics,
    parameters_without_batch_norm,
)
from sparsenet.recipes import QUOTED, RECIPES, Published, Recipe


class Row(NamedTuple):
    """A line of the ledger: what was published, what the network here has, and the verdict."""

    name: str
    source: str
    classes: Optional[int] = None
    published: str = ""
    described: Optional[int] = None
    parameters: Optional[int] = None
    without_bn: Optional[int] = None
    verdict: str = ""
    macs: Optional[int] = None
    flops: Optional[int] = None
    published_flops: str = ""
    flops_verdict: str = ""
    connections: Optional[int] = None
    longest_path: Optional[int] = None
    mean_path: Optional[float] = None
    activation_bytes: Optional[int] = None
    errors: str = ""
    reason: str = ""
    remarks: str = ""


MATCH, DIFFERS, NOTHING = "match", "differs", ""


def rounds_to(count: int, printed: str, unit: int) -> bool:
    """Whether a count, in millions or thousands of millions, rounds to what was printed."""
    digits = printed[:-1]
    decimals = len(digits.partition(".")[2])
    return "{:.{}f}".format(count / unit, decimals) == digits


def row_of(recipe: Recipe) -> Row:
    """The line of a recipe."""
    published = recipe.published
    config = dataclasses.replace(recipe.config, classes=published.classes)
    count, without_bn = parameters(config), parameters_without_batch_norm(config)
    paths = gradient_paths(config)
    operations = flops(config)
    return Row(
        name=recipe.name,
        source=published.source,
        classes=published.classes,
        published=published.parameters,
        described=published.counted or None,
        parameters=count,
        without_bn=without_bn,
        verdict=verdict_on(published, count, without_bn),
        macs=macs(config),
        flops=operations,
        published_flops=published.flops,
        flops_verdict=verdict_on_flops(published, operations),
        connections=skip_connections(config),
        longest_path=paths.longest,
        mean_path=round(paths.mean, 3),
        activation_bytes=activation_memory(config),
        errors=errors_text(published.errors),
        reason=published.note,
        remarks="; ".join(remarks(published, without_bn, paths.unread)),
    )


def verdict_on(published: Published, count: int, without_bn: int) -> str:
    """`match` where all that is known of the count is met."""
    if published.counted and published.counted != count:
        return DIFFERS
    if published.without_bn and published.without_bn != without_bn:
        return DIFFERS
    if published.parameters:
        printed = without_bn if published.without_bn else count
        return MATCH if rounds_to(printed, published.parameters, 10**6) else DIFFERS
    return MATCH if published.counted else NOTHING


def verdict_on_flops(published: Published, operations: int) -> str:
    """The same for the papers' FLOPs."""
    if not published.flops:
        return NOTHING
    return MATCH if rounds_to(operations, published.flops, 10**9) else DIFFERS


def errors_text(errors: tuple) -> str:
    """Errors by data set in one cell."""
    return ", ".join("{} {:g}".format(data, error) for data, error in errors)


def remarks(published: Published, without_bn: int, unread: int) -> List[str]:
    """What else there is to say of a network."""
    found = []
    if published.without_bn:
        found.append(
            "{} is {:,}, the count without batch normalisation's parameters".format(
                published.parameters, without_bn
            )
        )
    if unread:
        found.append("{} outputs reach nothing".format(unread))
    return found


def quoted_row(name: str, published: Published) -> Row:
    """A line for a network that is only quoted."""
    return Row(
        name=name,
        source=published.source,
        published=published.parameters,
        errors=errors_text(published.errors),
        reason=published.note,
    )


def ledger() -> List[Row]:
    """All lines."""
    rows = [row_of(recipe) for recipe in RECIPES.values() if recipe.dataset != "digits"]
    return rows + [quoted_row(*each) for each in QUOTED.items()]


def failures(rows: List[Row]) -> List[Row]:
    """Lines that should match and do not: a difference counts unless a reason is documented.

    An exact count, where one is known, has to be met whatever was printed.
    """
    return [
        row
        for row in rows
        if (row.described and row.described != row.parameters)
        or (DIFFERS in (row.verdict, row.flops_verdict) and not row.reason)
    ]


# Ways to show it -------------------------------------------------------------------------------


def thousands(value: Optional[int]) -> str:
    """1234567 -> 1,234,567; nothing for None."""
    return "" if value is None else "{:,}".format(value)


def scaled(value: Optional[float], unit: int, decimals: int) -> str:
    """In units of `unit`; nothing for None."""
    return "" if value is None else "{:,.{}f}".format(value / unit, decimals)


class Column(NamedTuple):
    """A column of a table for people."""

    title: str
    cell: Callable[[Row], str]
    align: str = ">"


NAME = Column("network", lambda row: row.name, "<")
PARAMETERS = (
    Column("printed", lambda row: row.published),
    Column("described", lambda row: thousands(row.described)),
    Column("here", lambda row: thousands(row.parameters)),
    Column("classes", lambda row: thousands(row.classes)),
    Column("", lambda row: row.verdict, "<"),
)
COSTS = (
    Column("M MACs", lambda row: scaled(row.macs, 10**6, 0)),
    Column("G FLOPs", lambda row: scaled(row.flops, 10**9, 3)),
    Column("printed", lambda row: row.published_flops),
    Column("", lambda row: row.flops_verdict, "<"),
    Column("skips", lambda row: thousands(row.connections)),
    Column("path", lambda row: thousands(row.longest_path)),
    Column("mean", lambda row: scaled(row.mean_path, 1, 2)),
    Column("MiB", lambda row: scaled(row.activation_bytes, 2**20, 0)),
)
ERRORS = (Column("published errors (%)", lambda row: row.errors, "<"),)

LEGEND_PARAMETERS = """\
printed: by the source, in millions; described: the exact count that follows from its
description; here: trainable parameters counted here, with a classifier of so many
classes (the paper's CIFAR counts come out with {classes}). Empty: not published, or not at hand."""
LEGEND_COSTS = """\
MACs: multiply-accumulates of an image, in millions; FLOPs: as the papers count them,
two for each of those and two for each normalised value, in thousands of millions, and
what is printed of them; skips: connections, how often a layer reads an earlier output
of its block; path and mean: steps of a gradient between two outputs of a block, the
longest and on average; MiB: peak memory of activations in training, per image, float32."""
LEGEND_ERRORS = """\
In percent, as printed; +: with augmentation; later: in a later version of the paper."""


def legend(text: str) -> str:
    """A legend with the number of classes that the paper's own CIFAR counts are for, filled."""
    classes = RECIPES["sparsenet-100-24"].published.classes
    return textwrap.fill(text.format(classes=classes), 80)


def table(columns: Sequence[Column], rows: List[Row]) -> List[str]:
    """Lines of a table, each column as wide as it needs to be."""
    lines = [[column.title for column in columns]]
    lines += [[column.cell(row) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    return [
        " ".join(
            "{:{}{}}".format(cell, column.align, width)
            for cell, column, width in zip(line, columns, widths)
        ).rstrip()
        for line in lines
    ]


def print_text(rows: List[Row]) -> None:
    """Tables of at most 80 columns with their legends, then what is to be said of them."""
    with_errors = [row for row in rows if row.errors]
    for title, columns, shown, text in (
        ("PARAMETERS", PARAMETERS, rows, LEGEND_PARAMETERS),
        ("OPERATIONS, CONNECTIONS, GRADIENT PATHS, MEMORY", COSTS,
         [row for row in rows if row.macs], LEGEND_COSTS),
        ("PUBLISHED ERRORS", ERRORS, with_errors, LEGEND_ERRORS),
    ):  # fmt: skip
        print("\n".join([title, legend(text), "", *table((NAME,) + columns, shown), ""]))
    print("REMARKS")
    for text in notes(rows) + keras_answer() + liu_zeng_answer():
        print(textwrap.fill(text, 80, subsequent_indent="  ") if len(text) > 80 else text)


def notes(rows: List[Row]) -> List[str]:
    """Why counts differ and what else there is to say, each once."""
    names = {}
    for row in rows:
        for text in (row.reason, row.remarks):
            if text:
                names.setdefault(text, []).append(row.name)
    return ["{}: {}".format(", ".join(of), text) for text, of in names.items()]


# Answers to what others asked or claim ----------------------------------------------------------

KERAS_PRINTED = (("sparsenet-40-24", "0.74M"), ("sparsenet-100-24", "2.50M"))
KERAS_CONVENTIONS = [
    ("{}, {} classes".format(way, classes), count, classes)
    for classes in (100, 10)
    for way, count in (
        ("trainable", parameters),
        ("with moving statistics", parameters_with_statistics),
    )
]


def keras_answer() -> List[str]:
    """Where the counts that keras-SparseNet prints come from."""
    networks = [RECIPES[name] for name, _ in KERAS_PRINTED]
    printed = [text for _, text in KERAS_PRINTED]
    lines = [
        "",
        "keras-SparseNet prints {} and {} for {} and {}, the paper {} and {}: there conv0 has k "
        "channels, and the paper's counts come out with 2k. Its default is to count moving "
        "statistics, for 10 classes. Counted with conv0 = k:".format(
            *printed, *[n.name for n in networks], *[n.published.parameters for n in networks]
        ),
    ]
    meets = {text: [] for text in printed}
    for convention, count, classes in KERAS_CONVENTIONS:
        cells = []
        for text, network in zip(printed, networks):
            narrow = dataclasses.replace(
                network.config, stem_channels=network.config.growth_rate[0], classes=classes
            )
            is_met = rounds_to(count(narrow), text, 10**6)
            cells.append("{:>9,} {:<7}".format(count(narrow), "= " + text if is_met else ""))
            meets[text] += [convention] * is_met
        lines.append("  {:<36} {}".format(convention, " ".join(cells)).rstrip())
    lines += ["{} is: {}.".format(text, "; or ".join(found)) for text, found in meets.items()]
    both = [c for c, _, _ in KERAS_CONVENTIONS if all(c in found for found in meets.values())]
    return lines + ["One convention that gives both: {}.".format("; or ".join(both) or "none")]


LIU_ZENG_ERRORS = (  # data, Liu & Zeng's SparseNet, the DenseNet that they compare with
    ("CIFAR-10", 3.24, 3.46),
    ("CIFAR-100", 16.98, 17.18),
    ("SVHN", 1.69, 1.74),
)


def liu_zeng_answer() -> List[str]:
    """What Liu & Zeng print, and as far as it can be said what is found here."""
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
    """Percent that attention adds to the parameters of Liu & Zeng's V1 to V4 with other fields."""

    def count(kind: str, size: str) -> int:
        config = RECIPES["liu-zeng-{}-{}".format(kind, size)].config
        return parameters(dataclasses.replace(config, **fields))

    shares = [count("abc", size) / count("bc", size) - 1 for size in ("v1", "v2", "v3", "v4")]
    return ", ".join("{:.1f}".format(100 * share) for share in shares)


# Tables for programs and documents --------------------------------------------------------------


def print_csv(rows: List[Row]) -> None:
    """Plain integers, one line a network."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows(["" if value is None else value for value in row] for row in rows)


def markdown(rows: List[Row]) -> List[str]:
    """One table of everything for README and results/, and its legend."""
    columns = (NAME,) + PARAMETERS + COSTS + ERRORS
    lines = ["| " + " | ".join(column.title for column in columns) + " |"]
    lines.append("|" + "|".join("---" if c.align == "<" else "--:" for c in columns) + "|")
    for row in rows:
        lines.append("| " + " | ".join(column.cell(row) for column in columns) + " |")
    lines += ["", legend(LEGEND_PARAMETERS), "", legend(LEGEND_COSTS)]
    lines += ["", legend(LEGEND_ERRORS), ""]
    return lines + ["- " + text for text in notes(rows)]


def main() -> None:
    parser = Parser(description="What each published network costs, beside what was published.")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--csv", action="store_true", help="all columns, plain integers")
    ways.add_argument("--markdown", action="store_true", help="a table for a document")
    parser.add_argument(
        "--only", metavar="START", default="", help="rows whose names start with this"
    )
    parser.add_argument(
        "--check", action="store_true", help="exit 1 if a row should match and does not"
    )
    args = parser.parse_args()
    rows = [row for row in ledger() if row.name.startswith(args.only)]
    if not rows:
        raise UserError("--only {}; accepted: the start of a row's name".format(args.only))
    if args.csv:
        print_csv(rows)
    elif args.markdown:
        print("\n".join(markdown(rows)))
    else:
        print_text(rows)
    failed = failures(rows)
    if args.check and failed:
        raise RunFailed("{} rows differ: {}".format(len(failed), ", ".join(r.name for r in failed)))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))

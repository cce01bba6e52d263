"""What each published network costs, beside what was published: parameters, operations, paths.

python scripts/ledger.py [--csv | --markdown] [--only START] [--check]
"""

import _checkout  # noqa: F401, I001
import csv
import dataclasses
import sys
import textwrap
from typing import List, NamedTuple, Optional

from command_line import Parser
from errors import RunFailed, UserError, exit_code_of
from network_costs import (
    activation_memory,
    connections,
    flops,
    gradient_paths,
    macs,
    parameters,
    parameters_with_statistics,
    parameters_without_batch_norm,
)
from recipes import RECIPES, Published, Recipe

# Printed by the paper for comparison; no choice of fetch and combine makes them.
QUOTED = [
    ("wide-resnet-16", "11.0M", (("c10+", 4.81), ("c100+", 22.07))),
    ("fractal-21", "38.6M", (("c10+", 5.52), ("c100+", 23.30))),
]

KERAS = """\
Where keras-SparseNet's 0.74M and 2.50M come from (the paper prints 0.76M and
2.52M): its conv0 has k channels, the paper's counts come out with 2k. The rest
is what is counted, and for how many classes. For 40-24 and 100-24:
"""

LIU_ZENG = (
    "Liu & Zeng print errors of 3.24 % (CIFAR-10), 16.98 % (CIFAR-100) and 1.69 % (SVHN); which "
    "network of which size has which of them was not found."
)


class Row(NamedTuple):
    """A line of the ledger: what was published, what the network here has, and the verdict."""

    name: str
    source: str
    classes: Optional[int]
    published: str
    described: Optional[int]
    parameters: Optional[int]
    without_bn: Optional[int]
    verdict: str
    macs: Optional[int]
    flops: Optional[int]
    published_flops: str
    flops_verdict: str
    connections: Optional[int]
    longest_path: Optional[int]
    mean_path: Optional[float]
    activation_bytes: Optional[int]
    errors: str
    note: str


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
        connections=connections(config),
        longest_path=paths.longest,
        mean_path=round(paths.mean, 3),
        activation_bytes=activation_memory(config),
        errors=errors_text(published.errors),
        note=published.note + dead_weight(paths.unread),
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


def dead_weight(unread: int) -> str:
    """What to say of outputs that nothing reads."""
    return "{} outputs reach nothing".format(unread) if unread else ""


def quoted_row(name: str, parameters: str, errors: tuple) -> Row:
    """A line for a network that is only quoted."""
    blank = dict.fromkeys(Row._fields)
    blank.update(
        name=name, source="Zhu et al. 2018", published=parameters, verdict=NOTHING,
        published_flops="", flops_verdict=NOTHING, errors=errors_text(errors),
        note="quoted: no fetch and combine make it",
    )  # fmt: skip
    return Row(**blank)


def ledger() -> List[Row]:
    """All lines."""
    rows = [row_of(recipe) for recipe in RECIPES.values() if recipe.dataset != "digits"]
    return rows + [quoted_row(*each) for each in QUOTED]


def failures(rows: List[Row]) -> List[Row]:
    """Lines that should match and do not: a difference counts unless a reason is documented.

    An exact count, where one is known, has to be met whatever was printed.
    """
    return [
        row
        for row in rows
        if (row.described and row.described != row.parameters)
        or (DIFFERS in (row.verdict, row.flops_verdict) and not row.note)
    ]


# Ways to show it -------------------------------------------------------------------------------


def thousands(value: Optional[int]) -> str:
    """1234567 -> 1,234,567; nothing for None."""
    return "" if value is None else "{:,}".format(value)


def millions(value: Optional[int]) -> str:
    """In millions."""
    return "" if value is None else "{:,.0f}".format(value / 1e6)


def megabytes(value: Optional[int]) -> str:
    """In units of 2^20 bytes, rounded down."""
    return "" if value is None else thousands(value // 2**20)


def print_text(rows: List[Row]) -> None:
    """A table of at most 80 columns, then the notes."""
    line = "{:<27} {:>7} {:>11} {:<7} {:>6} {:>6} {:>4} {:>5}"
    print("MACs: millions; reads: of earlier outputs by the layers of a block; path: the")
    print("longest way of a gradient between outputs of a block; MB: activations, float32")
    print(line.format("network", "printed", "parameters", "", "MACs", "reads", "path", "MB"))
    for row in rows:
        print(
            line.format(
                row.name, row.published, thousands(row.parameters), row.verdict, millions(row.macs),
                thousands(row.connections), thousands(row.longest_path),
                megabytes(row.activation_bytes),
            ).rstrip()
        )  # fmt: skip
    print()
    for text in notes(rows):
        print(text if "\n" in text else textwrap.fill(text, 80, subsequent_indent="  "))


def notes(rows: List[Row]) -> List[str]:
    """The reasons of differences, FLOPs, and the answer about keras-SparseNet."""
    lines = ["{}: {}".format(row.name, row.note) for row in rows if row.note]
    measured = [row for row in rows if row.published_flops]
    lines += [
        "{}: {:.3f}G FLOPs, printed {} ({})".format(
            row.name, row.flops / 1e9, row.published_flops, row.flops_verdict
        )
        for row in measured
    ]
    return lines + ["", KERAS + "\n".join(keras_lines()), "", LIU_ZENG]


def keras_lines() -> List[str]:
    """The counts of networks with conv0 = k, under each convention."""
    lines = []
    for classes in (100, 10):
        networks = [
            dataclasses.replace(RECIPES[name].config, stem_channels=24, classes=classes)
            for name in ("sparsenet-40-24", "sparsenet-100-24")
        ]
        for way, count in (("trainable", parameters),
                           ("with moving statistics", parameters_with_statistics)):  # fmt: skip
            lines.append(
                "  {:<23} {:>3} classes: {:>9,} {:>10,}".format(
                    way + ",", classes, *[count(network) for network in networks]
                )
            )
    return lines


def print_csv(rows: List[Row]) -> None:
    """Plain integers, one line a network."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows(["" if value is None else value for value in row] for row in rows)


MARKDOWN_COLUMNS = (
    ("network", lambda row: row.name),
    ("printed", lambda row: row.published),
    ("here", lambda row: thousands(row.parameters)),
    ("", lambda row: row.verdict),
    ("MACs (M)", lambda row: millions(row.macs)),
    ("connections", lambda row: thousands(row.connections)),
    ("longest path", lambda row: thousands(row.longest_path)),
    ("activations (MB)", lambda row: megabytes(row.activation_bytes)),
    ("published errors (%)", lambda row: row.errors),
)  # fmt: skip


def markdown(rows: List[Row]) -> List[str]:
    """A table for README and results/."""
    lines = ["| " + " | ".join(title for title, _ in MARKDOWN_COLUMNS) + " |"]
    lines.append("|---" + "|--:" * (len(MARKDOWN_COLUMNS) - 2) + "|---|")
    for row in rows:
        lines.append("| " + " | ".join(cell(row) for _, cell in MARKDOWN_COLUMNS) + " |")
    return lines


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

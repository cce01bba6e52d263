"""What each published network costs, beside what was published: parameters, operations, paths.

python scripts/ledger.py [--csv | --markdown [--short]] [--only START] [--check]
python scripts/ledger.py --only sparsenet-121 --measure
python scripts/ledger.py --depth 40 --growth_rate 12 --fetch sparse
"""

import _checkout  # noqa: F401, I001
import csv
import sys
import textwrap
from typing import Callable, List, NamedTuple, Optional, Sequence

from common.cli import Parser
from common.flags import add_network_flags, network_flags, recipe_from
from ledger_remarks import keras_answer, liu_zeng_answer, notes
from ledger_rows import Row, failures, ledger, measured, row_of_any
from sparsenet.errors import RunFailed, UserError, exit_code_of
from sparsenet.published import PUBLISHED, RECIPES
from sparsenet.recipes import CLASSES


# Columns ----------------------------------------------------------------------------------------


def thousands(value: Optional[int]) -> str:
    """Return 1,234,567 for 1234567; nothing for None."""
    return "" if value is None else "{:,}".format(value)


def scaled(value: Optional[float], unit: int, decimals: int) -> str:
    """Return a value in units of `unit`; nothing for None."""
    return "" if value is None else "{:,.{}f}".format(value / unit, decimals)


class Column(NamedTuple):
    """Say what a column of a table for people is called and holds."""

    title: str
    cell: Callable[[Row], str]
    align: str = ">"


NAME = Column("network", lambda row: row.name, "<")
MACS = Column("M MACs", lambda row: scaled(row.macs, 10**6, 0))
ERRORS = Column("published errors (%)", lambda row: row.errors, "<")


class Table(NamedTuple):
    """A table of the ledger: its columns beside the name of the network, and what they mean."""

    title: str
    columns: Sequence[Column]
    legend: str


TABLES = (
    Table(
        "PARAMETERS",
        (
            Column("printed", lambda row: row.published),
            Column("described", lambda row: thousands(row.described)),
            Column("here", lambda row: thousands(row.parameters)),
            Column("classes", lambda row: thousands(row.classes)),
            Column("verdict", lambda row: row.verdict, "<"),
        ),
        """\
printed: by the source, in millions; described: the exact count that follows from its
description; here: trainable parameters counted here, with a classifier of so many
classes (the paper's CIFAR counts come out with {classes}); verdict: whether that is what is
printed and described. Empty: not published, or not at hand.""",
    ),
    Table(
        "OPERATIONS",
        (
            MACS,
            Column("G FLOPs", lambda row: scaled(row.flops, 10**9, 3)),
            Column("printed FLOPs", lambda row: row.published_flops),
            Column("FLOPs verdict", lambda row: row.flops_verdict, "<"),
        ),
        """\
MACs: multiply-accumulates of an image, in millions; FLOPs: as the papers count them,
two for each of those and two for each normalised value, in thousands of millions, and
what is printed of them.""",
    ),
    Table(
        "MILLISECONDS AN IMAGE",
        (
            Column("printed ms", lambda row: scaled(row.published_milliseconds, 1, 1)),
            Column("ms here", lambda row: scaled(row.milliseconds, 1, 1)),
        ),
        """\
As printed (on what is not known), and on this machine if --measure is given.""",
    ),
    Table(
        "SKIP CONNECTIONS, GRADIENT PATHS, MEMORY",
        (
            Column("skip connections", lambda row: thousands(row.skip_connections)),
            Column("path", lambda row: thousands(row.longest_path)),
            Column("mean", lambda row: scaled(row.mean_path, 1, 2)),
            Column("MiB", lambda row: scaled(row.activation_bytes, 2**20, 0)),
        ),
        """\
skip connections: how often a layer reads an earlier output of its block; path and mean:
steps of a gradient between two outputs of a block, the longest and on average; MiB:
peak memory of activations in training, per image, float32.""",
    ),
    Table(
        "PUBLISHED ERRORS",
        (ERRORS,),
        """\
In percent, as printed; +: with augmentation; later: in a later version of the paper.""",
    ),
)

# At most six columns: what a README has room for.
SHORT_COLUMNS: Sequence[Column] = (
    NAME,
    Column("printed parameters", lambda row: row.published),
    Column("parameters here", lambda row: thousands(row.parameters)),
    Column("as printed?", lambda row: row.verdict if row.published else "", "<"),
    MACS,
    ERRORS,
)
SHORT_LEGEND = """\
Parameters: trainable ones, with a classifier of as many classes as the printed count has
(the paper's CIFAR counts come out with {classes}). MACs: multiply-accumulates of an image, in
millions. Errors: +: with augmentation; later: in a later version of the paper. Empty: not
published."""


def legend(text: str) -> str:
    """Return a legend, filled, with the classes that the paper's own CIFAR counts are for."""
    filled = text.format(classes=PUBLISHED["sparsenet-100-24"].classes)
    return textwrap.fill(filled, 80, break_on_hyphens=False)


# Ways to show it --------------------------------------------------------------------------------


def print_text(rows: List[Row]) -> None:
    """Print tables of at most 80 columns with their legends, then what is to be said of them."""
    for title, columns, text in TABLES:
        shown = [row for row in rows if any(column.cell(row) for column in columns)]
        if shown:
            print("\n".join([title, legend(text), "", *text_table((NAME, *columns), shown), ""]))
    if notes(rows):
        print("REMARKS")
    for text in notes(rows):
        print_filled(text)


def text_table(columns: Sequence[Column], rows: List[Row]) -> List[str]:
    """Return the lines of a table, each column as wide as it needs to be."""
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


def print_csv(rows: List[Row]) -> None:
    """Print plain integers, one line a network."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows(["" if value is None else value for value in row] for row in rows)


def print_markdown(rows: List[Row], short: bool) -> None:
    """Print one table for a document, its legends, and what is to be said of its rows."""
    if short:
        columns, legends = SHORT_COLUMNS, [SHORT_LEGEND]
        rows = [row for row in rows if row.published or row.errors]
    else:
        columns = [NAME] + [column for table in TABLES for column in table.columns]
        legends = [table.legend for table in TABLES]
    lines = ["| " + " | ".join(column.title for column in columns) + " |"]
    lines.append("|" + "|".join("---" if c.align == "<" else "--:" for c in columns) + "|")
    for row in rows:
        lines.append("| " + " | ".join(column.cell(row) for column in columns) + " |")
    for text in legends:
        lines += ["", legend(text)]
    print("\n".join(lines + [""] + ["- " + text for text in notes(rows)]))


def print_answers() -> None:
    """Print what the ledger answers to claims of others."""
    for text in keras_answer() + liu_zeng_answer():
        print_filled(text)


def print_filled(text: str) -> None:
    """Print a remark in lines of at most 80 characters."""
    print(textwrap.fill(text, 80, subsequent_indent="  ") if len(text) > 80 else text)


def parser() -> Parser:
    """Return the command line."""
    parser = Parser(
        description="What each published network costs, beside what was published;\n"
        "with network flags, what that one network costs."
    )
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--csv", action="store_true", help="all columns, plain integers")
    ways.add_argument("--markdown", action="store_true", help="a table for a document")
    parser.add_argument(
        "--short",
        action="store_true",
        help="with --markdown: what is printed of networks, in six columns",
    )
    parser.add_argument(
        "--only", metavar="START", default="", help="rows whose names start with this"
    )
    parser.add_argument(
        "--measure", action="store_true", help="time an image on each network, on this machine"
    )
    parser.add_argument(
        "--check", action="store_true", help="exit 1 if a row should match and does not"
    )
    network = parser.add_argument_group("one network")
    add_network_flags(network)
    network.add_argument("--dataset", choices=list(CLASSES), help="whose classes it has")
    return parser


def is_of_one(args) -> bool:
    """Return whether flags describe a network."""
    return args.dataset is not None or bool(network_flags(args))


def rows_of(args) -> List[Row]:
    """Return the rows that are asked for."""
    if is_of_one(args):
        if args.only:
            raise UserError("--only {}; accepted: without network flags".format(args.only))
        return [row_of_any(recipe_from(args), args.dataset)]
    rows = [row for row in ledger() if row.name.startswith(args.only)]
    if not rows:
        raise UserError("--only {}; accepted: the start of a row's name".format(args.only))
    return rows


def main() -> None:
    """Print the ledger; with --check, fail where a row should match and does not."""
    args = parser().parse_args()
    if args.short and not args.markdown:
        raise UserError("--short; accepted: with --markdown only")
    rows = rows_of(args)
    if args.measure:
        asked = {row.name: recipe_from(args) for row in rows} if is_of_one(args) else RECIPES
        rows = measured(rows, asked)
    if args.csv:
        print_csv(rows)
    elif args.markdown:
        print_markdown(rows, args.short)
    else:
        print_text(rows)
        if not is_of_one(args):
            print_answers()
    failed = failures(rows)
    if args.check and failed:
        raise RunFailed("{} rows differ: {}".format(len(failed), ", ".join(r.name for r in failed)))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))

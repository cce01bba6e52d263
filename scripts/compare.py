"""Compare two runs: did they do the same, and if not, where do they first differ?

python scripts/compare.py RUN_A RUN_B [--html report.html] [--json report.json]

RUN is a run directory, of this project or of another code, a pack of one, or one bare file: a
graph, a checkpoint, a table or log, a run.json, activations. Exit code 0: the same within the
thresholds, 1: different, 2: nothing to decide by.
"""

import _checkout  # noqa: F401, I001
import contextlib
import json
import sys

from common.cli import Parser, new_file, float_where, positive, int_at_least
from common.files import write_whole
from sparsenet.errors import EXIT_FAILED, UserError, exit_code_of


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        description="Compare two runs: records, graph, checkpoints, curves, activations.",
        epilog="RUN: a run directory, a pack of one (.zip), a graph (.pbtxt, .pb, .meta), a\n"
        "checkpoint's prefix, a SavedModel, a table or log (loss+perf_*.txt, stats.json,\n"
        ".csv, .log), run.json, or activations (.npz).\n"
        "Exit code: 0 same within the thresholds, 1 different, 2 nothing to decide by.",
    )
    parser.add_argument("a", metavar="RUN_A")
    parser.add_argument("b", metavar="RUN_B")
    parser.add_argument(
        "--html", type=new_file(), metavar="FILE", help="write a self-contained report"
    )
    parser.add_argument(
        "--json", type=new_file(), metavar="FILE", help="write everything that was found"
    )
    parser.add_argument(
        "--reference", metavar="RUN", nargs="+", default=[],
        help="4 or more runs of the recipe, whose spread the curves are held against",
    )  # fmt: skip
    add_thresholds(parser)
    return parser


def add_thresholds(parser: Parser) -> None:
    """Add the flags that say how large a difference has to be to count."""
    thresholds = parser.add_argument_group("thresholds")
    thresholds.add_argument(
        "--max_distance", type=positive, metavar="F", default=1e-4,
        help="largest relative Euclidean distance of a variable [1e-4]",
    )  # fmt: skip
    thresholds.add_argument(
        "--min_cosine", type=float_where("from -1 to 1", lambda value: -1 <= value <= 1),
        metavar="F", default=0.98, help="smallest cosine of an activation or a gradient [0.98]",
    )  # fmt: skip
    thresholds.add_argument(
        "--sigmas",
        type=positive,
        metavar="F",
        default=3.0,
        help="tolerance of the curves, in standard deviations [3]",
    )
    thresholds.add_argument(
        "--test_images", type=int_at_least(1), metavar="N",
        help="size of the test set [from run.json, else 10000]",
    )  # fmt: skip
    thresholds.add_argument(
        "--same_stack", action="store_true",
        help="judge trained checkpoints too: stack, device, precision and seed are the same",
    )  # fmt: skip


def main() -> int:
    """Compare, print and write; return 0 for the same, 1 for different."""
    args = parser().parse_args()
    from comparison import sources

    with contextlib.ExitStack() as packs:
        paths = [args.a, args.b] + args.reference
        found = [packs.enter_context(sources.opened(path)) for path in paths]
        return compare_and_report(found, args)


def compare_and_report(found, args) -> int:
    """Compare the first two sources, with the others as references; print and write."""
    from comparison import findings, terminal

    a, b, *references = found
    thresholds = findings.Thresholds(args.max_distance, args.min_cosine, args.sigmas)
    parts = compare(a, b, references, thresholds, args)
    if findings.verdict(parts) is None:
        raise UserError(
            "nothing to decide by: {}".format(
                "; ".join("{}: {}".format(part.name, part.headline) for part in parts)
            )
        )
    if args.json:
        write(args.json, json_text(parts, args, thresholds))
    if args.html:
        from comparison import report

        write(args.html, report.page(parts, a, b, thresholds))
    print(terminal.text(parts, (args.a, args.b)))
    return EXIT_FAILED if findings.verdict(parts) == findings.DIFFERENT else 0


def compare(a, b, references, thresholds, args) -> list:
    """Return the five parts of the comparison."""
    from comparison.activations import compare_activation_files
    from comparison.checkpoints import compare_checkpoint_files
    from comparison.curves import compare_curve_files
    from comparison.findings import ABSENT
    from comparison.graph.verdict import compare_graph_files
    from comparison.records import compare_records

    others = [
        compare_records(a, b),
        compare_graph_files(a, b),
        compare_curve_files(a, b, references, thresholds, args.test_images),
        compare_activation_files(a, b, thresholds),
    ]
    alone = all(part.verdict == ABSENT for part in others)
    others.insert(
        2, compare_checkpoint_files(a, b, thresholds, alone=alone, same_stack=args.same_stack)
    )
    return others


def json_text(parts, args, thresholds) -> str:
    """Return everything that was found as JSON."""
    from comparison.findings import plain, verdict

    report = {
        "verdict": verdict(parts),
        "a": args.a,
        "b": args.b,
        "thresholds": thresholds,
        "parts": {part.name: part for part in parts},
    }
    return json.dumps(plain(report), indent=1, allow_nan=False) + "\n"


def write(path: str, text: str) -> None:
    """Write a file, whole or not at all; UserError if it can't be written."""
    try:
        write_whole(path, text)
    except OSError as error:
        raise UserError("{} can't be written: {}".format(path, error.strerror))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))

"""Measure what a user would notice, side by side, and say by how much it varies.

python scripts/benchmark.py BENCHMARK [--rounds N] [--json FILE.json] [its flags]
python scripts/benchmark.py table FILE.json
"""

import _checkout  # noqa: F401, I001
import json
import sys
from typing import Any, Dict

from benchmarks import growth, inference, memory, pipeline, records, startup, step
from benchmarks.measuring import Benchmark, conditions, lines, markdown, read_found, side_by_side
from common.cli import Parser, int_at_least, new_file
from common.files import write_whole
from sparsenet.errors import exit_code_of

BENCHMARKS = {
    "growth": growth.BENCHMARK,
    "inference": inference.BENCHMARK,
    "memory": memory.BENCHMARK,
    "pipeline": pipeline.BENCHMARK,
    "records": records.BENCHMARK,
    "startup": startup.BENCHMARK,
    "step": step.BENCHMARK,
}
TABLE = "table"


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(description="Measure what a user would notice, side by side.")
    kinds = parser.add_subparsers(dest="benchmark", metavar="BENCHMARK")
    kinds.required = True
    for name, benchmark in BENCHMARKS.items():
        epilog = "Other flags are passed on to main_gpu.py, such as --recipe digits."
        kind = kinds.add_parser(
            name, help=benchmark.about, epilog=epilog if benchmark.passes_on else None
        )
        kind.add_argument(
            "--rounds", type=int_at_least(1), metavar="N", default=5, help="that count [5]"
        )
        kind.add_argument(
            "--json", type=new_file(".json"), metavar="FILE.json", help="write all measurements"
        )
        benchmark.add_flags(kind)
    table = kinds.add_parser(TABLE, help="print what --json wrote as a table in Markdown")
    table.add_argument("found", metavar="FILE.json")
    return parser


def main() -> None:
    args, flags = parser().parse_known_args()
    benchmark = BENCHMARKS.get(args.benchmark)
    if flags and not (benchmark and benchmark.passes_on):
        parser().parse_args()  # says what is wrong with them
    if benchmark is None:
        print("\n".join(markdown(read_found(args.found))))
    else:
        measure(benchmark, args, flags)


def measure(benchmark: Benchmark, args, flags) -> None:
    """Measure case after case; print each, and write all of them where it is asked."""
    found: Dict[str, Any] = {
        "command": ["python", "scripts/benchmark.py"] + sys.argv[1:],
        "unit": benchmark.unit,
        "conditions": conditions(),
        "cases": {},
    }
    for case in benchmark.cases(args, flags):
        values = side_by_side(case, args.rounds)
        print("\n".join(lines(case.name, values, benchmark.unit)), flush=True)
        found["cases"][case.name] = values
        if args.json:
            write_whole(args.json, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(exit_code_of(main))

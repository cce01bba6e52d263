"""Pack what shows a run into one file, for exchange: scripts/compare.py reads it.

python scripts/pack.py RUN_DIR [--out FILE.zip]
"""

import _checkout  # noqa: F401, I001
import os
import sys

from common.cli import Parser, new_file
from run_directory.pack import ENDING, pack
from run_directory.record import read_record
from sparsenet.errors import UserError, exit_code_of, printable


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        description="Pack run.json, requirements.txt, the table of losses and speed,\n"
        "graph.pbtxt, and the first and the newest checkpoint of a run."
    )
    parser.add_argument("run", metavar="RUN_DIR")
    parser.add_argument(
        "--out", type=new_file(ENDING), metavar="FILE.zip", help="[RUN_DIR.zip, here]"
    )
    return parser


def main() -> None:
    """Write the pack and print what is in it."""
    args = parser().parse_args()
    read_record(args.run)
    out = args.out or os.path.basename(os.path.abspath(args.run)) + ENDING
    if os.path.exists(out):
        raise UserError("{} exists; accepted: another --out".format(out))
    for name in pack(args.run, out):
        print("{:>12,} {}".format(os.path.getsize(os.path.join(args.run, name)), printable(name)))
    print(out)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))

"""Print and write the figures of a run as ModelZoo's harness reads them.

python scripts/modelzoo_report.py RUN_DIR --case perf|acc --seconds N --out DIR
"""

import _checkout  # noqa: F401, I001
import os
import platform
import sys
from typing import Any, Dict, List

from common.cli import Parser, int_at_least
from sparsenet.errors import UserError, exit_code_of
from run_directory.table import Row, find_table, read_rows, summary
from run_directory.record import RECORD, hold_out_of, read_record
from run_directory.schema import required
from common.files import write_whole

HELD_OUT_ACCURACY = "HeldOutAccuracy"
NETWORK = "SparseNet_ID1616_for_TensorFlow"


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(description="A run's figures as ModelZoo's harness reads them.")
    parser.add_argument("run", metavar="RUN_DIR")
    parser.add_argument(
        "--case", choices=("perf", "acc"), required=True, help="performance or accuracy"
    )
    parser.add_argument(
        "--seconds", type=int_at_least(0), metavar="N", required=True, help="duration of the script"
    )
    parser.add_argument("--out", metavar="DIR", required=True, help="folder to write to")
    return parser


def main() -> None:
    args = parser().parse_args()
    record, rows = read_record(args.run), read_rows(find_table(args.run))
    if not rows:
        raise UserError("{} holds no finished epoch".format(args.run))
    found = figures(record, rows, args.case, args.seconds)
    print("------------------ Final result ------------------")
    for name, key in [
        ("Final Performance images/sec", "ActualFPS"),
        ("Final Performance sec/step", "TrainingTime"),
        ("Final Train Accuracy", "TrainAccuracy"),
        ("Final Held-out Accuracy", HELD_OUT_ACCURACY),
        ("E2E Training Duration sec", "E2ETrainingTime"),
    ]:
        if key in found:
            print("{} : {}".format(name, found[key]))
    case = found["CaseName"]
    write_whole(
        os.path.join(args.out, case + ".log"),
        "".join("{} = {}\n".format(*item) for item in found.items()),
    )
    write_whole(
        os.path.join(args.out, "train_{}_loss.txt".format(case)),
        "".join("{:.6f}\n".format(row["train_loss"]) for row in rows),
    )


def figures(record: dict, rows: List[Row], case: str, seconds: int) -> Dict[str, Any]:
    """Return what ${CaseName}.log holds, in its order.

    ActualFPS, in images/s over all devices, and TrainingTime, in seconds per step, leave out the
    start of a run, see run_directory.table.summary. TrainAccuracy is the fraction of test images
    that the trained network classifies correctly, ActualLoss the training loss of the last epoch.
    A run that was not tested on the test set has HeldOutAccuracy in place of TrainAccuracy.
    """
    accuracy = "TrainAccuracy" if hold_out_of(record) is None else HELD_OUT_ACCURACY
    devices = max(1, len(required(record, "devices", RECORD)) * record.get("workers", 1))
    batch = required(record, "recipe.batch_size", RECORD)
    found = summary(rows)
    name = "{}_bs{}_{}p_{}".format(NETWORK, batch // devices, devices, case)
    return {
        "Network": NETWORK,
        "RankSize": devices,
        "BatchSize": batch // devices,
        "DeviceType": platform.machine(),
        "CaseName": name,
        "ActualFPS": "{:.3f}".format(found["images_per_second"]),
        "TrainingTime": "{:.6f}".format(batch / found["images_per_second"]),
        accuracy: "{:.6f}".format(1 - found["test_error"]),
        "ActualLoss": "{:.6f}".format(found["train_loss"]),
        "E2ETrainingTime": seconds,
    }


if __name__ == "__main__":
    sys.exit(exit_code_of(main))

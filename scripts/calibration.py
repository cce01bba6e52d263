"""Calibrate the comparison of curves: how often is one recipe called different, and a fault found?

python scripts/calibration.py [--dataset_dir DIR] [--out results/calibration]

Trains the runs that OUT/runs.tsv lacks, one after the other, judges all by comparison/spread.py,
and writes OUT/table.md. The legacy stack trains, by the same command, what is compared with it.
"""

import _checkout  # noqa: F401, I001
import itertools
import os
import sys
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from common.cli import Parser
from common.files import write_whole
from comparison.spread import checks_of, figures_of, first_steps_checks, growth_figure
from run_directory.table import Row
from sparsenet.errors import UserError, exit_code_of

NO_FAULT = "none"
OTHER_STACK = "none, on TensorFlow 1.15"
IN_TRAINING = ("no weight decay", "learning rate not dropped", "batch-norm momentum 0.99")
IN_DATA = ("5 % of labels wrong", "one batch in ten twice")
SIGMAS = 3.0

COLUMNS = ("data", "fault", "seed", "epoch", "global_step", "learning_rate", "train_loss",
           "train_error", "test_loss", "test_error", "log_growth")  # fmt: skip

# A weight decay that acts in so few steps: each at a rate of 0.1 takes 0.01 % off the kernels.
DECAY = ("--weight_decay", "1e-3")
NETWORK = ("--depth", "7", "--growth_rate", "4", *DECAY)
LARGER = ("--depth", "10", "--growth_rate", "8", *DECAY)
LONGER = ("--max_epoch", "20", "--drop_1", "14", "--drop_2", "18")


class Experiment(NamedTuple):
    """Runs of one recipe.

    flags:        of main_gpu.py
    images:       of the training and of the test set
    seeds:        number of runs without a fault
    faults:       of which there are `faulty_seeds` runs each
    references:   numbers of references that are tried
    one_seed:     compare each faulty run with the run of its seed, else with that of the next one
    """

    flags: Sequence[str]
    images: Dict[str, int]
    seeds: int
    faults: Sequence[str]
    references: Sequence[int]
    one_seed: bool = False
    faulty_seeds: int = 10

    def names(self) -> List[Tuple[str, int]]:
        """Return (fault, seed) of each run that this stack trains."""
        faulty = itertools.product(range(self.faulty_seeds), self.faults)
        names = [(NO_FAULT, s) for s in range(self.seeds)] + [(f, s) for s, f in faulty]
        is_modern = sys.version_info >= (3, 10)
        return [name for name in names if (name[0] == OTHER_STACK) != is_modern]


EXPERIMENTS = {
    "digits": Experiment(
        ("--recipe", "digits", "--subset", "720", *NETWORK, "--batch_size", "36",
         "--max_epoch", "9", "--drop_1", "6", "--drop_2", "8"),
        {"train": 720, "test": 360}, 12, (*IN_TRAINING, *IN_DATA), (0, 4, 6, 8, 10),
    ),
    "digits, 20 epochs": Experiment(
        ("--recipe", "digits", *LARGER, "--batch_size", "36", *LONGER),
        {"train": 1437, "test": 360}, 12, (*IN_TRAINING, *IN_DATA), (0, 4, 6, 8, 10),
    ),
    "CIFAR-10": Experiment(
        ("--dataset", "c10", "--subset", "400", *NETWORK, "--batch_size", "20",
         "--max_epoch", "7", "--drop_1", "5", "--drop_2", "6"),
        {"train": 400, "test": 400}, 6, ("no mirroring",), (0, 4),
    ),
    "CIFAR-10, 20 epochs": Experiment(
        ("--dataset", "c10", "--subset", "2000", *LARGER, "--batch_size", "50", *LONGER),
        {"train": 2000, "test": 2000}, 8, ("no mirroring", IN_DATA[0]), (0, 4, 6),
    ),
    "CIFAR-10, 15 steps": Experiment(
        ("--dataset", "c10", "--subset", "100", *NETWORK, "--batch_size", "20",
         "--max_epoch", "3", "--learning_rate", "0.001"),
        {"train": 100, "test": 100}, 10, (OTHER_STACK, "no mirroring", *IN_DATA), (),
        one_seed=True,
    ),
}  # fmt: skip


class Run(NamedTuple):
    """The table of a run, and log_growth of its kernels."""

    rows: List[Row]
    log_growth: float


Runs = Dict[Tuple[str, str, int], Run]  # by data, fault and seed


def read_runs(path: str) -> Runs:
    """Return the runs in a file that write_runs wrote; none if there is no such file."""
    found: Runs = {}
    if not os.path.isfile(path):
        return found
    with open(path, encoding="utf-8") as stream:
        next(stream)
        for line in stream:
            data, fault, seed, *cells = line.rstrip("\n").split("\t")
            row = dict(zip(COLUMNS[3:], map(float, cells)))
            growth = row.pop("log_growth")
            run = found.setdefault((data, fault, int(seed)), Run([], growth))
            run.rows.append(row)
    return found


def write_runs(path: str, runs: Runs) -> None:
    """Write all runs as one table."""
    lines = ["\t".join(COLUMNS)]
    for (data, fault, seed), run in sorted(runs.items()):
        for row in run.rows:
            cells = [row[name] for name in COLUMNS[3:-1]] + [run.log_growth]
            lines.append("\t".join([data, fault, str(seed), *map("{:.6g}".format, cells)]))
    write_whole(path, "\n".join(lines) + "\n")


def train_missing(path: str, dataset_dir: Optional[str]) -> Runs:
    """Return all runs; those that the file lacks are trained and added to it."""
    runs = read_runs(path)
    for data, experiment in EXPERIMENTS.items():
        for fault, seed in experiment.names():
            if (data, fault, seed) in runs:
                continue
            from calibration_runs import run_once  # TensorFlow is not needed to judge

            flags = list(experiment.flags)
            if "digits" not in flags:
                if dataset_dir is None:
                    raise UserError("--dataset_dir is absent; accepted: the folder of CIFAR-10")
                flags += ["--dataset_dir", dataset_dir]
            runs[data, fault, seed] = Run(*run_once(flags, fault, seed))
            write_runs(path, runs)
            print("{}: {}, seed {}: trained".format(data, fault, seed), flush=True)
    return runs


def is_different(
    a: Run, b: Run, references: Sequence[Run], images: Dict[str, int], one_seed: bool
) -> bool:
    """Return whether the comparison calls two runs different."""
    if one_seed:
        return not all(check.holds for check in first_steps_checks([a.rows, b.rows]))
    figures = figures_of([a.rows, b.rows], [run.rows for run in references], images)
    if references:
        growths = np.array([run.log_growth for run in (a, b, *references)])
        figures.append(growth_figure(int(a.rows[-1]["global_step"]), growths))
    return not all(check.holds for check in checks_of(figures, SIGMAS))


def pairs(experiment: Experiment, fault: str) -> List[Tuple[int, int]]:
    """Return (seed of a run without a fault, seed of a run with the fault, or without any)."""
    if fault == NO_FAULT:
        return list(itertools.combinations(range(experiment.seeds), 2))
    other = 0 if experiment.one_seed else 1
    return [((seed + other) % experiment.seeds, seed) for seed in range(experiment.faulty_seeds)]


def found(runs: Runs, data: str, fault: str, references: int) -> str:
    """Return `9 of 10`: in how many pairs the runs are called different.

    The references are the right runs with the seeds that come next, round and round.
    """
    experiment = EXPERIMENTS[data]
    verdicts = []
    for a, b in pairs(experiment, fault):
        if (data, fault, b) not in runs:
            continue  # the other stack trains it
        order = [(a + i) % experiment.seeds for i in range(1, experiment.seeds)]
        others = [runs[data, NO_FAULT, seed] for seed in order if seed != b][:references]
        verdicts.append(
            is_different(runs[data, NO_FAULT, a], runs[data, fault, b], others,
                         experiment.images, experiment.one_seed)
        )  # fmt: skip
    return "{} of {}".format(sum(verdicts), len(verdicts))


def table(runs: Runs) -> str:
    """Return what was measured as tables in Markdown."""
    lines = []
    for data, experiment in EXPERIMENTS.items():
        heads = ["{} references".format(n) if n else "two runs" for n in experiment.references]
        heads = [data, *(["one seed"] if experiment.one_seed else heads)]
        lines += ["| {} |".format(" | ".join(heads)), "|---" * len(heads) + "|"]
        right = [] if experiment.one_seed else [NO_FAULT]
        for fault in (*right, *experiment.faults):
            cells = [found(runs, data, fault, n) for n in experiment.references or [0]]
            lines.append("| {} | {} |".format(fault, " | ".join(cells)))
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Train what is missing, judge, print and write the table."""
    parser = Parser(description="Calibrate the comparison of curves by short runs.")
    parser.add_argument("--dataset_dir", metavar="DIR", help="folder of CIFAR-10, for new runs")
    parser.add_argument(
        "--out", metavar="DIR", default=os.path.join("results", "calibration"),
        help="folder of runs.tsv and table.md [results/calibration]",
    )  # fmt: skip
    args = parser.parse_args()
    try:
        os.makedirs(args.out, exist_ok=True)
        runs = train_missing(os.path.join(args.out, "runs.tsv"), args.dataset_dir)
        text = table(runs)
        write_whole(os.path.join(args.out, "table.md"), text)
    except OSError as error:
        raise UserError("--out {}: {}".format(args.out, error.strerror))
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))

"""What the terminal shows of a run: what it is, and how it ended."""

import os
import textwrap
from typing import Dict, Iterable, Tuple

from tqdm import tqdm

from platforms.platform import Platform
from run_directory.checkpoints import latest_checkpoint
from run_directory.record import CURVES
from run_directory.table import HELD_OUT, TOP_5, Row, Table, summary
from sparsenet.costs import macs, parameters
from sparsenet.errors import note, printable
from training.prepare import Run


def show(text: str) -> None:
    """Print text at once."""
    print(text, flush=True)


HEADER = "    epoch     lr    train   error {:>8}   error  images/s  seconds      left"
LINE = (
    "{of:>9} {learning_rate:>6.4g}  {train_loss:>7.4f} {train_error:>7.2%}  {test_loss:>7.4f} "
    "{test_error:>7.2%}  {images_per_second:>8.0f} {epoch_seconds:>8.1f} {left:>9}"
)


def print_header(tested_on: str) -> None:
    """Print what is above the lines of epochs; tested_on: TEST or HELD_OUT, of table.py."""
    show(HEADER.format(tested_on))


def print_epoch(row: Row, epochs: int, seconds: float) -> None:
    """Print the line of an epoch, below the header.

    seconds: that an epoch takes, its test and checkpoint included, to tell the time left
    """
    epoch = int(row["epoch"])
    left = tqdm.format_interval(seconds * (epochs - epoch))
    show(LINE.format(**row, of="{}/{}".format(epoch, epochs), left=left))


def print_loss_scaling(scale: float, skipped: int, steps: int) -> None:
    """Print, below the line of an epoch, its last loss scale and how many of its steps it cost."""
    show("{:>10}loss scale {:.6g}, {} of {} steps skipped".format("", scale, skipped, steps))


HELD_OUT_REMARK = "tested on training images that are set aside, not on the test set"


def print_start(run: Run) -> None:
    """Print what the run is, before its first epoch."""
    print_notes(run)
    recipe, data, platform = run.recipe, run.data, run.platform
    epochs = "{} epoch{}".format(recipe.epochs, "" if recipe.epochs == 1 else "s")
    if run.first_epoch > 1:
        epochs = "epochs {} to {}".format(run.first_epoch, recipe.epochs)
    kernels = platform.options.get("kernels")
    print_fields(
        [
            (
                "recipe",
                "{}: {}, batch {}, seed {}".format(
                    recipe.name, epochs, recipe.batch_size, run.settings.seed
                ),
            ),
            (
                "data",
                "{}{}: {:,} training and {:,} {} images, {:,} classes".format(
                    recipe.dataset, " (random images)" if run.settings.fake else "",
                    len(data.train.labels), len(data.test.labels), run.settings.tested_on,
                    recipe.config.classes,
                ),
            ),
            *([] if run.settings.hold_out is None else [("", HELD_OUT_REMARK)]),
            (
                "network",
                "{:,} parameters, {:,.1f} million MACs an image".format(
                    parameters(recipe.config), macs(recipe.config) / 1e6
                ),
            ),
            ("device", "{}: {}".format(platform.name, devices_text(platform))),
            *([("", platform.remark)] if platform.remark else []),
            *([("kernels", kernels)] if kernels else []),
            ("precision", platform.precision),
            ("run directory", run.directory),
            *([("resumed from", run.checkpoint)] if run.checkpoint else []),
        ]
    )  # fmt: skip
    show("")


def print_notes(run: Run) -> None:
    """Print what a resumed run's directory lacked."""
    for each in run.notes:
        note(" ".join(each.split()))


def devices_text(platform: Platform) -> str:
    """Return the names of the devices, each with its number over all workers."""
    counts: Dict[str, int] = {}
    for device in platform.devices:
        counts[device] = counts.get(device, 0) + platform.workers.world_size
    return "; ".join(
        name if count == 1 else "{} x {}".format(count, name) for name, count in counts.items()
    )


def print_fields(fields: Iterable[Tuple[str, object]]) -> None:
    """Print names and values in two columns."""
    for name, value in fields:
        line = "{:<16} {}".format(name, printable(str(value)))
        if os.sep not in line:  # a path stays in one piece
            line = textwrap.fill(line, 80, subsequent_indent=" " * 17, break_on_hyphens=False)
        show(line)


def print_summary(run: Run, table: Table) -> None:
    """Print how the run ended."""
    figures = summary(table.rows)
    images, is_held_out = len(run.data.test.labels), table.tested_on == HELD_OUT
    median = figures["test_error_median_of_last_five"]
    of_held_out = " of the held-out images" if is_held_out else ""
    show("")
    print_fields(
        [
            (
                "{} error".format(table.tested_on),
                "{:.2f} % ({} of {} {}images), after epoch {}".format(
                    100 * figures["test_error"],
                    round(figures["test_error"] * images),
                    images,
                    "held-out training " if is_held_out else "",
                    figures["epochs"],
                ),
            ),
            *(
                [("top-5 error", "{:.2f} %{}".format(100 * figures[TOP_5], of_held_out))]
                if figures[TOP_5] is not None
                else []
            ),
            *(
                [("", "{:.2f} % median of the last five epochs".format(100 * median))]
                if median is not None
                else []
            ),
            (
                "speed",
                "{:.0f} images/s on {}".format(figures["images_per_second"], run.platform.name),
            ),
            (
                "seconds",
                "an epoch {epoch_seconds}, the {} {inference_seconds}".format(
                    "held-out images" if is_held_out else "test set", **figures
                ),
            ),
            ("run directory", run.directory),
            ("curves", os.path.join(run.directory, CURVES)),
            ("last checkpoint", latest_checkpoint(run.directory)),
        ]
    )

"""The start of a run: mistakes are found before TensorFlow, which takes seconds to start."""

import datetime
from typing import Any, Callable

from run_directory.record import choose_path
from run_directory.settings import Settings
from training.asked import ends_when_asked
from training.prepare import load_inputs


@ends_when_asked()
def start(settings: Settings, choose_platform: Callable[[], Any], is_alone: bool) -> None:
    """Train as `settings` ask.

    choose_platform: returns the Platform; called once the data are loaded
    is_alone:        no other process trains with this one, and makes the run directory

    Raises UserError before anything is written, and RunFailed afterwards.
    """
    if is_alone and settings.resume is None:
        # Its last part may name the platform, which is not known yet.
        choose_path(settings, "", datetime.datetime.now())
    inputs = load_inputs(settings)
    platform = choose_platform()
    from training.run import train_on

    train_on(inputs, platform)

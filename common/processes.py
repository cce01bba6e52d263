"""Run other programs for what they print."""

import subprocess
from typing import Dict, List, Optional


def output_of(command: List[str], environment: Optional[Dict[str, str]] = None) -> Optional[str]:
    """Return what a program prints, without surrounding whitespace; None if it fails.

    environment: of the program; None for that of this process
    """
    try:
        return subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, env=environment
        ).stdout.decode().strip()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None


def errors_of(command: List[str], environment: Dict[str, str]) -> str:
    """Return what a program writes to stderr, whatever its exit code; "" if it can't be run."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
        )
    except OSError:
        return ""
    return done.stderr.decode(errors="replace")

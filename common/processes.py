"""Other programs, asked for what they print."""

import subprocess
from typing import List, Optional


def output_of(command: List[str]) -> Optional[str]:
    """What a program prints, without the blanks around it; None where it can't run or fails."""
    try:
        return subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
        ).stdout.decode().strip()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None

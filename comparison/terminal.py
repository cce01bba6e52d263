"""Print the comparison to a terminal."""

import shutil
import textwrap
from typing import List, Sequence

from comparison.findings import ABSENT, DIFFERENT, SAME, Part, verdict
from sparsenet.errors import printable, shortened

SHOWN_LINES = {SAME: 3}
SHOWN_LINES_OF_DIFFERENCE = 8
LONGEST_LINE = 2000  # letters, before it is wrapped


def text(parts: Sequence[Part], names: Sequence[str]) -> str:
    """Return the details of each part, the table of the parts, and the verdict."""
    width = max(60, min(100, shutil.get_terminal_size().columns))
    lines = ["{}  {}".format(label, printable(name)) for label, name in zip("AB", names)]
    for part in parts:
        lines += _details(part, width)
    lines += ["", "part         verdict       finding"]
    for part in parts:
        head = "{:<12} {:<13} ".format(part.name, part.verdict)
        lines += textwrap.wrap(
            head + _shown(part.headline),
            width,
            subsequent_indent=" " * len(head),
            break_on_hyphens=False,
        )
    lines += [""] + textwrap.wrap(verdict_text(parts), width)
    return "\n".join(lines)


def _shown(line: str) -> str:
    return shortened(printable(line), LONGEST_LINE)


def _details(part: Part, width: int) -> List[str]:
    if part.verdict == ABSENT:
        return []
    rule = "{}: {}".format(part.name, _shown(part.judged_by))
    lines = [""] + textwrap.wrap(rule, width, subsequent_indent="  ")
    shown = SHOWN_LINES.get(part.verdict, SHOWN_LINES_OF_DIFFERENCE)
    for line in part.lines[:shown] + part.always:
        lines += textwrap.wrap(
            _shown(line),
            width,
            initial_indent="  ",
            subsequent_indent="    ",
            break_on_hyphens=False,
        )
    if len(part.lines) > shown:
        lines.append("  ... {} more with --html or --json".format(len(part.lines) - shown))
    return lines


def verdict_text(parts: Sequence[Part]) -> str:
    """Return `verdict: different; decided by graph; ...`, with the parts that did not decide."""
    found = verdict(parts)
    decided = [part.name for part in parts if part.verdict == found]
    others = [
        "{} {}".format(part.name, part.verdict)
        for part in parts
        if part.verdict not in (SAME, DIFFERENT)
    ]
    words = "same within the thresholds" if found == SAME else "different"
    line = "verdict: {}; decided by {}".format(words, ", ".join(decided))
    return line + ("; " + ", ".join(others) if others else "")

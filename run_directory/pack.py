"""A run directory as one file to be exchanged: what shows a run and continues from it."""

import contextlib
import glob
import os
import tempfile
import zipfile
from typing import Iterator, List, Sequence

from common.archives import DAMAGED
from common.files import written_whole
from common.streams import most_unpacked
from run_directory.checkpoints import checkpoints_of
from run_directory.packages import REQUIREMENTS
from run_directory.record import GRAPH, RECORD
from run_directory.table import find_table
from sparsenet.errors import UserError

ENDING = ".zip"
MOST_FILES = 1000


def packed_files(directory: str) -> List[str]:
    """Return the names of the files that a pack of a run directory holds.

    They are run.json, the table, and what there is of requirements.txt, the graph, and the first
    and the newest checkpoint. Raises UserError without one of the first two.
    """
    names = [RECORD, os.path.basename(find_table(directory))]
    checkpoints = checkpoints_of(directory)
    for prefix in checkpoints[:1] + checkpoints[1:][-1:]:
        found = glob.glob(glob.escape(prefix) + ".*")
        names += sorted(os.path.basename(path) for path in found)
    names += [REQUIREMENTS, GRAPH]
    return [name for name in names if os.path.isfile(os.path.join(directory, name))]


def pack(directory: str, path: str) -> List[str]:
    """Write the files of a pack to a zip file, whole or not at all; return their names."""
    names = packed_files(directory)
    folder = os.path.basename(os.path.abspath(directory))
    with written_whole(path, "wb") as stream, zipfile.ZipFile(
        stream, "w", zipfile.ZIP_DEFLATED
    ) as archive:
        for name in names:
            archive.write(os.path.join(directory, name), "{}/{}".format(folder, name))
    return names


@contextlib.contextmanager
def unpacked(path: str) -> Iterator[str]:
    """Unpack a pack while the body runs; return the path of the run directory.

    Raises UserError for what is no pack.
    """
    with tempfile.TemporaryDirectory() as place:
        try:
            with zipfile.ZipFile(path) as archive:
                members = [each for each in archive.infolist() if not each.is_dir()]
                folder = _folder_of(members, path)
                archive.extractall(place, members)
        except UserError:
            raise
        except DAMAGED as error:
            raise UserError("{} can't be unpacked: {}".format(path, error))
        yield os.path.join(place, folder)


def _folder_of(members: Sequence[zipfile.ZipInfo], path: str) -> str:
    """Return the folder of all members; UserError if they are not what `pack` writes."""
    for member in members:
        folder, _, name = member.filename.partition("/")
        if not name or "/" in name or folder in ("", ".", "..") or ":" in folder:
            raise UserError(
                "{} is no pack of a run: it holds {!r}".format(path, member.filename[:80])
            )
    folders = {member.filename.partition("/")[0] for member in members}
    most = most_unpacked(os.path.getsize(path))
    for is_right, what in [
        (len(folders) == 1, "{} folders".format(len(folders))),
        (len(members) <= MOST_FILES, "{:,} files".format(len(members))),
        (sum(each.file_size for each in members) <= most, "more than {:,} bytes".format(most)),
    ]:
        if not is_right:
            raise UserError("{} is no pack of a run: it holds {}".format(path, what))
    return folders.pop()

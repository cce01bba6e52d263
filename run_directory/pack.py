"""A run directory as one file to be exchanged: what shows a run and continues from it."""

import contextlib
import glob
import os
import tempfile
import zipfile
from typing import Iterator, List

from common.files import written_whole
from run_directory.checkpoints import checkpoints_of
from run_directory.packages import REQUIREMENTS
from run_directory.record import GRAPH, RECORD
from run_directory.table import find_table
from sparsenet.errors import UserError

ENDING = ".zip"
# The files of a run are compressed 30-fold at most: what claims more is no pack.
MOST_COMPRESSED, SMALL = 200, 2**20


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
                folders = {_checked(each, path) for each in members}
                if len(folders) != 1:
                    raise UserError("{} is no pack of a run: {} folders".format(path, len(folders)))
                archive.extractall(place, members)
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError) as error:
            raise UserError("{} can't be unpacked: {}".format(path, error))
        yield os.path.join(place, folders.pop())


def _checked(member: zipfile.ZipInfo, path: str) -> str:
    """Return the folder of a member; UserError if it is not one that `pack` writes."""
    folder, _, name = member.filename.partition("/")
    is_plain = name and "/" not in name and folder not in ("", ".", "..") and ":" not in folder
    is_small = member.file_size <= MOST_COMPRESSED * member.compress_size + SMALL
    if not (is_plain and is_small):
        raise UserError("{} is no pack of a run: it holds {!r}".format(path, member.filename))
    return folder

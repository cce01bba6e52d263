"""Find the official files of a data set: in folders, in archives, in the cache of Keras."""

import glob
import hashlib
import os
import posixpath
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from common.archives import is_archive, read_archive
from common.files import read_file
from sparsenet.errors import UserError, note

MOST_BYTES = 2**32  # of a file: SVHN's extra images take 1.3 GB
ReadFile = Callable[[str], bytes]


class Layout(NamedTuple):
    """An official way to lay out a data set in files.

    folder:      folder that it unpacks to
    archive:     file that it is distributed as, if there is one
    train, test: names of the files, in order
    read:        (bytes, file name, classes) -> set of images
    official:    size in bytes and MD5 of the distributed files, if those are published
    optional:    files that may be absent
    """

    folder: str
    archive: Optional[str]
    train: Tuple[str, ...]
    test: Tuple[str, ...]
    read: Callable[[bytes, str, int], Any]
    official: Dict[str, Tuple[int, str]] = {}
    optional: Tuple[str, ...] = ()

    @property
    def files(self) -> Tuple[str, ...]:
        """Return the names of all files, in order."""
        return self.train + self.test

    def without_optional(self) -> "Layout":
        """Return the layout without the files that may be absent."""
        return self._replace(train=tuple(f for f in self.train if f not in self.optional))


def read(
    name: str, layouts: Sequence[Layout], directory: str, classes: int, verify: bool
) -> Tuple[List, List]:
    """Return the parts of the training and of the test set, of the first source that is whole.

    name: of the data set, for messages

    What is wrong with sources before it is printed. Raises UserError if there is no whole one.
    """
    problem = None
    for source in _sources(name, layouts, directory):
        try:
            parts = _read_source(source, classes, verify)
        except UserError as error:
            problem = problem or error
            continue
        if problem is not None:
            note("{}; {} is read instead".format(problem, source.path))
        return parts
    raise problem or AssertionError("there is no source")


class Source(NamedTuple):
    """A place that holds files of a layout: a folder, or the folder of that name in an archive.

    path: for messages; files: that it holds; read: returns the content of one
    problem: of an archive that can't be read
    """

    path: str
    layout: Layout
    files: Set[str]
    read: ReadFile
    problem: Optional[UserError] = None


def _sources(name: str, layouts: Sequence[Layout], directory: str) -> Iterator[Source]:
    """Yield the places in `directory` that hold files of a data set; it may be an archive itself.

    Raises UserError, at the end, if there is none.
    """
    if not os.path.exists(directory):
        raise UserError(
            "--dataset_dir {} does not exist; accepted: a folder or an archive".format(directory)
        )
    sources = _archived if os.path.isfile(directory) else _below
    found = False
    for source in sources(directory, layouts):
        found = True
        yield source
    if not found:
        accepted = []
        for layout in layouts:
            accepted.append("{} there or in {}/".format(layout.train[0], layout.folder))
            accepted.extend([layout.archive] if layout.archive else [])
        if os.path.isdir(os.path.join(directory, "train")):
            accepted.append("its train/<class>/* with --dataset folder")
        raise UserError(
            "--dataset_dir {} holds no {} files; accepted: {}".format(
                directory, name, ", ".join(accepted)
            )
        )


def _below(directory: str, layouts: Sequence[Layout]) -> Iterator[Source]:
    """Yield folders, then archives, in a directory or in the `datasets` of Keras's cache there."""
    places = [directory, os.path.join(directory, "datasets")]
    for layout in layouts:
        for place in places:
            # Keras 3 unpacks cifar-10-batches-py into cifar-10-batches-py-target.
            within = os.path.join(glob.escape(place), layout.folder + "*", layout.folder)
            for folder in [place, os.path.join(place, layout.folder), *sorted(glob.glob(within))]:
                files = {f for f in layout.files if os.path.isfile(os.path.join(folder, f))}
                if files:
                    yield Source(folder, layout, files, _folder_reader(folder))
    for layout in layouts:
        for place in places:
            for path in _archives_of(layout, place):
                yield from _archived(path, [layout])


def _archives_of(layout: Layout, folder: str) -> List[str]:
    """Return the paths of a layout's archives in a folder: that of the official name, then others.

    Keras names it after the folder that it unpacks to, with `_archive` or `.tar.gz` at the end.
    """
    if layout.archive is None:
        return []
    official = os.path.join(folder, layout.archive)
    starts = layout.archive.partition(".")[0], layout.folder
    others = [
        path
        for start in starts
        for path in sorted(glob.glob(os.path.join(glob.escape(folder), start + "*")))
        if path != official and os.path.isfile(path) and is_archive(path)
    ]
    first = [official] if os.path.isfile(official) else []
    return first + list(dict.fromkeys(others))


def _folder_reader(folder: str) -> ReadFile:
    return lambda file: read_file(os.path.join(folder, file), MOST_BYTES)


def _archived(path: str, layouts: Sequence[Layout]) -> Iterator[Source]:
    """Yield what an archive holds: files in a layout's folder, or in the archive's root.

    Files of the same name elsewhere, such as in a backup of that folder, are others.
    """
    wanted = {
        posixpath.join(folder, file): (layout, file)
        for layout in layouts
        for folder in ("", layout.folder)
        for file in layout.files
    }
    try:
        contents = read_archive(path, wanted.__contains__)
    except UserError as error:
        yield Source(path, layouts[0], set(), _folder_reader(path), error)
        return
    for layout in layouts:
        # In its folder rather than in the root, if it is in both.
        names = sorted((name for name in contents if wanted[name][0] is layout), key=len)
        own = {wanted[name][1]: contents[name] for name in names}
        if own:
            yield Source(path, layout, set(own), own.__getitem__)


def _read_source(source: Source, classes: int, verify: bool) -> Tuple[List, List]:
    """Return the parts of both sets; UserError for what is missing or damaged."""
    if source.problem is not None:
        raise source.problem
    layout = source.layout
    missing = [f for f in layout.files if f not in source.files and f not in layout.optional]
    if missing:
        raise UserError(
            "the data set in {} is not complete: {} is missing".format(source.path, missing[0])
        )
    train, test = (
        [_read_part(source, f, classes, verify) for f in files if f in source.files]
        for files in (layout.train, layout.test)
    )
    return train, test


def _read_part(source: Source, file: str, classes: int, verify: bool):
    path = os.path.join(source.path, file)
    try:
        content = source.read(file)
    except OSError as error:
        raise UserError("{} can't be read: {}".format(path, error.strerror or error))
    size, md5 = source.layout.official.get(file, (None, None))
    if verify and len(content) == size and hashlib.md5(content).hexdigest() != md5:
        raise UserError(
            "{} has the official size but not the official MD5 {}: it is damaged, or needs "
            "--no_verify".format(path, md5)
        )
    return source.layout.read(content, path, classes)

"""What scripts/fuzz.py and tests/test_fuzz.py read: every reader of files, as one table.

An input is a function of a few bytes, a plan: which sample is taken, and what is changed in it. So
hypothesis can look for plans, and shorten one that fails.
"""

import contextlib
import io
import json
import os
import pickle
import shlex
import struct
import tarfile
import zipfile
import zlib
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import numpy as np

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OLD_RUN = os.path.join(CHECKOUT, "tests", "old_runs", "modern")
LARGEST_INPUT = 2**20


class Plan:
    """Bytes that decide what is done; when they are used up, 0 decides."""

    def __init__(self, content: bytes):
        self.content = content
        self.at = 0

    def __bool__(self):
        return self.at < len(self.content)

    def below(self, count: int) -> int:
        """Return a number below `count`, which is at least 1."""
        size = 1 if count <= 2**8 else 2 if count <= 2**16 else 4
        found = int.from_bytes(self.content[self.at : self.at + size], "little")
        self.at += size
        return found % count

    def one_of(self, choices: Sequence[Any]) -> Any:
        """Return one of several things."""
        return choices[self.below(len(choices))]


class Reader(NamedTuple):
    """A reader of files.

    read:    (path) -> anything; UserError for what it does not accept
    name:    of the file that it reads
    samples: returns contents that it accepts, or nearly
    words:   that mean something to it
    build:   (plan) -> content, made from nothing; None if samples are only changed
    is_fast: whether a campaign reads 200,000 inputs
    """

    read: Callable[[str], Any]
    name: str
    samples: Callable[[], List[bytes]]
    words: Sequence[bytes] = ()
    build: Any = None
    is_fast: bool = True


def input_of(reader: Reader, samples: Sequence[bytes], plan: bytes) -> bytes:
    """Return the input that a plan makes of samples."""
    source = Plan(plan)
    if reader.build is not None and source.below(2):
        return reader.build(source)[:LARGEST_INPUT]
    content = bytearray(source.one_of(samples))
    while source and content:
        source.one_of(CHANGES)(content, source, samples, reader.words)
    return bytes(content[:LARGEST_INPUT])


def _place(content: bytearray, source: Plan) -> int:
    """Return a place in the content, in every other case near its beginning."""
    return source.below(min(len(content), 256) if source.below(2) else len(content))


def _flip(content, source, samples, words) -> None:
    place = _place(content, source)
    content[place] ^= 1 << source.below(8)


def _set(content, source, samples, words) -> None:
    place = _place(content, source)
    content[place] = source.below(256)


NUMBERS = (0, 1, -1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**27, 2**31 - 1, 2**31, 2**32 - 1)


def _number(content, source, samples, words) -> None:
    place, number = _place(content, source), source.one_of(NUMBERS)
    size, order = source.one_of((1, 2, 4, 8)), source.one_of(("little", "big"))
    content[place : place + size] = (number % 2 ** (8 * size)).to_bytes(size, order)


def _cut(content, source, samples, words) -> None:
    place = _place(content, source)
    del content[place : place + source.one_of((1, 2, 4, 16, 512, 2**30))]


def _repeat(content, source, samples, words) -> None:
    place = _place(content, source)
    part = content[place : place + source.one_of((1, 4, 64, 512))]
    content[place:place] = part * source.one_of((1, 2, 16, 100))


def _insert(content, source, samples, words) -> None:
    place = _place(content, source)
    content[place:place] = source.one_of(tuple(words) + (b"\0", b"\xff", b" ", b"\n", b"9" * 400))


def _splice(content, source, samples, words) -> None:
    other = source.one_of(samples)
    if other:
        start = source.below(len(other))
        content[_place(content, source) :] = other[start:]


CHANGES = (_flip, _set, _number, _cut, _repeat, _insert, _splice)


# Data sets ---------------------------------------------------------------------------------------


def _cifar_arrays(count: int = 2):
    planes = np.arange(3072 * count).reshape(count, 3072).astype(np.uint8)
    return planes, list(range(count))


def _python_samples() -> List[bytes]:
    planes, labels = _cifar_arrays()
    batches: List[Any] = [{"data": planes, "labels": labels, "filenames": [b"a", "b"]}]
    batches.append({b"data": planes[:, ::-1], b"labels": np.array(labels)})
    return [pickle.dumps(batch, protocol) for batch in batches for protocol in range(5)]


PICKLED = (
    b"(", b".", b"0", b"1", b"]", b"}", b")", b"a", b"e", b"s", b"u", b"l", b"d", b"t", b"\x85",
    b"\x86", b"\x87", b"N", b"K\1", b"M\1\1", b"J\xff\xff\xff\x7f", b"\x8a\x01\x05", b"I9\n",
    b"L9L\n", b"F1\n", b"G" + bytes(8), b"Va\n", b"S'a'\n", b"U\6labels", b"U\4data", b"C\1a",
    b"X\4\0\0\0data", b"q\0", b"q\1", b"h\0", b"h\1", b"r\xff\xff\xff\x07", b"p1\n", b"g1\n",
    b"\x94", b"\x93", b"R", b"b", b"\x81", b"c_codecs\nencode\n", b"Vlatin1\n", b"cos\nsystem\n",
    b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"cnumpy.core.multiarray\n_reconstruct\n",
    b"cnumpy.core.multiarray\nscalar\n", b"cnumpy._core.numeric\n_frombuffer\n", b"U\2u1",
    b"\x80\x02", b"\x95" + bytes(8), b"\x96" + struct.pack("<Q", 3) + b"abc", b"Q", b"P1\n",
)  # fmt: skip


def _pickle(source: Plan) -> bytes:
    parts = []
    while source:
        parts.append(source.one_of(PICKLED) * source.one_of((1, 1, 1, 1, 3, 1000)))
    return b"".join(parts) + b"."


def _binary_samples() -> List[bytes]:
    planes, labels = _cifar_arrays()
    records = np.concatenate([np.array(labels, np.uint8)[:, None], planes], axis=1)
    return [records.tobytes(), b""]


def _content(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


def _cifar(kind: str) -> Callable[[str], Any]:
    def read(path):
        import cifar_data

        return getattr(cifar_data, "_read_" + kind)(_content(path), "a file", 10)

    return read


def _matlab_samples() -> List[bytes]:
    from scipy.io import savemat

    images, samples = np.zeros((32, 32, 3, 1), np.uint8), []
    for compressed in (False, True):
        stream = io.BytesIO()
        arrays = {"X": images, "y": np.array([[1.0]]), "s": "text", "c": np.array([1j])}
        savemat(stream, arrays, do_compression=compressed)
        samples.append(stream.getvalue())
    return samples


MEMBER = "cifar-10-batches-bin/test_batch.bin"


def _tar_samples() -> List[bytes]:
    samples = []
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            stream = io.BytesIO()
            with tarfile.open(fileobj=stream, mode=mode, format=form) as archive:
                for name in (MEMBER, "long/" * 40, "link"):
                    member = tarfile.TarInfo(name)
                    member.type = tarfile.SYMTYPE if name == "link" else tarfile.REGTYPE
                    member.size = 0 if name == "link" else 100
                    archive.addfile(member, io.BytesIO(bytes(100)))
            samples.append(stream.getvalue())
    return samples


def _tar(source: Plan) -> bytes:
    """Return headers with right checksums, of odd fields."""
    blocks: List[bytes] = []
    while source and len(blocks) < 20:
        member = tarfile.TarInfo(source.one_of((MEMBER, "", "/", "../x", "a" * 90)))
        member.type = source.one_of(tuple(bytes([kind]) for kind in b"0\x001234567xgLKSVMNX"))
        content = source.one_of((b"", b"x" * 100, b"11 path=ab\n", b"9 size=1\n", b"0 a=b\n"))
        member.size = source.one_of((len(content), 0, 1, 600, 2**31, 2**33, 2**40))
        blocks.append(member.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512))
    return b"".join(blocks) + bytes(1024 * source.below(2))


def _zip_samples() -> List[bytes]:
    samples = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            archive.writestr(MEMBER, bytes(3073))
            archive.writestr("run/run.json", "{}")
        samples.append(stream.getvalue())
    return samples


def _archive(path: str):
    from common.archives import is_archive, read_archive

    is_archive(path)
    return read_archive(path, lambda name: True)


def _pack_samples() -> List[bytes]:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("run/run.json", "run/loss+perf_cpu.txt"):
            archive.writestr(name, b"text" * 10)
    return [stream.getvalue()]


def _pack(path: str) -> None:
    from run_directory.pack import unpacked

    with unpacked(path):
        pass


# Images ------------------------------------------------------------------------------------------


def _image_samples() -> List[bytes]:
    import cv2

    image = np.random.RandomState(0).randint(0, 256, (12, 9, 3)).astype(np.uint8)
    kinds: List[Any] = [(kind, []) for kind in (".png", ".jpg", ".bmp", ".ppm", ".tif", ".webp")]
    kinds.append((".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]))
    samples = [cv2.imencode(kind, image, flags)[1].tobytes() for kind, flags in kinds]
    samples.append(cv2.imencode(".pgm", image[..., 0])[1].tobytes())
    samples.append(cv2.imencode(".png", image.astype(np.uint16) * 256)[1].tobytes())
    return samples + [b"P3 2 1 255 1 2 3 4 5 6\n", b"P1 # a\n2 2 0 1 1 0\n"]


def _png(source: Plan) -> bytes:
    """Return a PNG of right checksums, of odd fields."""
    sides = (1, 2, 7, 300, 40000, 2**31 - 1, 0)
    head = struct.pack(
        ">IIBBBBB", source.one_of(sides), source.one_of(sides), source.one_of((8, 1, 16, 3)),
        source.one_of((2, 0, 3, 4, 6, 5)), 0, 0, source.below(3),
    )  # fmt: skip
    chunks = [(b"IHDR", head)]
    while source and len(chunks) < 12:
        kind = source.one_of((b"IDAT", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"gAMA", b"x"))
        data = bytes([source.below(256)]) * source.one_of((0, 3, 8, 26, 768, 5000))
        chunks.append((kind, zlib.compress(data) if kind == b"IDAT" else data))
    chunks.append((b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _image(path: str) -> None:
    import folder_data
    import imagenet_data

    imagenet_data.center_crop(imagenet_data.decode_file(path))
    folder_data.read_image(path, 32)


def _class_table(name: str) -> Callable[[str], Any]:
    def read(path):
        import image_folders

        (table,) = [each for each in image_folders.TABLES if each.name == name]
        return image_folders._by_table((table, path), os.path.dirname(path), ("cat", "dog"))

    return read


CLASS_TABLE = [
    b"a.png cat\nb.png 1\n", b"ImageId,PredictionString\na,cat 1 2 3 4\n", b"a\tcat\t1\r\n",
    '"a\nb",cat\n'.encode("utf-16"),
]  # fmt: skip


# Records -----------------------------------------------------------------------------------------

ODD: Sequence[Any] = (
    None, True, -1, 0, 1, 5, 1.5, 2**32, 10**9, 10**30, 10**400, float("nan"), "", "x", "a\0b",
    "\ud800", [], [1, 2], [None], [[1], [2, 3]], {}, {"x": 1}, [[[[]]]], 1e-320, 1e300,
)  # fmt: skip


def _record(source: Plan) -> bytes:
    """Return a run.json with odd values."""
    record = json.loads(_content(os.path.join(OLD_RUN, "run.json")))
    while source:
        section = record
        while True:
            name = source.one_of(sorted(section) + ["new"])
            inner = section.get(name)
            if not isinstance(inner, dict) or not inner or source.below(4) == 0:
                break
            section = inner
        if source.below(5) == 0:
            section.pop(name, None)
        else:
            section[name] = source.one_of(ODD)
        if not record:
            break
    return json.dumps(record).encode()


def _run(path: str) -> None:
    """Read run.json as resuming, evaluating and comparing do."""
    from argparse import Namespace

    from common.flags import add_network_flags
    from comparison.records import differing_fields
    from evaluation import trained_network
    from evaluation.exports import normalized
    from platforms import npu_options
    from run_directory.record import read_record, settings_of

    folder = os.path.dirname(path)
    record = read_record(folder)
    json.dumps([field.name for field in differing_fields(record, {})], allow_nan=False)
    npu_options.recorded(folder)
    settings_of(record, path)
    parser = _Flags()
    add_network_flags(parser)
    flags = dict.fromkeys(parser.names, None)
    args = Namespace(checkpoint=folder, dataset=None, dataset_dir=None, no_verify=False, **flags)
    described = trained_network.describe(args)
    side = described.recipe.config.image_size
    normalized(np.zeros((1, side, side, 3), np.uint8), described.preprocessing or {})


class _Flags:
    """Take down the names of flags, as a parser would."""

    def __init__(self):
        self.names: List[str] = []

    def add_argument(self, *flags, **_):
        self.names.append(flags[-1].lstrip("-"))


def _flags(source: Plan) -> bytes:
    """Return a command line: known flags and odd values."""
    from training.command_line import training_parser

    names = sorted(training_parser()._option_string_actions)
    words = []
    while source:
        words.append(source.one_of(names))
        value = source.one_of(("", "--", "-1", "0", "1", "1e400", "nan", "9" * 40, "x", "~", "1,2",
                               "\u0663", "c10", "digits", "dense", "150:0.1", "none"))  # fmt: skip
        if source.below(2):
            words[-1] += "=" + value
        elif source.below(3):
            words.append(value)
    return " ".join(map(shlex.quote, words)).encode()


COMMANDS = [
    b"--recipe digits --fake", b"--dataset c10 --fake --depth 40 -gr 12", b"-g 0,1 --lr_milestones"
    b" 150:0.1,225:0.01", b"--fetch dense --combine concat --bottleneck 1 --compression 0.5",
    b"--layers 1,2,3 --growth_rate 4 --seed 4 --name a --log_dir b",
]  # fmt: skip


def _command_line(path: str) -> None:
    from training.command_line import parse, parse_npu

    try:
        words = shlex.split(_content(path).decode("utf-8", "surrogateescape"))
    except ValueError:  # a quote that is not closed: no shell would pass it on
        return
    words = [word for word in words if "\0" not in word]
    for parse_all in (parse, parse_npu):
        with contextlib.suppress(SystemExit):  # --help
            parse_all(words)


# Tables, graphs, arrays --------------------------------------------------------------------------


def _file(*names: str) -> Callable[[], List[bytes]]:
    return lambda: [_content(os.path.join(OLD_RUN, name)) for name in names]


def _rows(path: str):
    from run_directory.table import read_rows

    return read_rows(path)


def _curves(path: str):
    from comparison.curve_reading import holds_epochs, read_curves

    holds_epochs(path)
    return read_curves(path)


LOGS = [
    b"epoch,val_loss,val_acc\n1,0.5,0.7\n2,0.4,0.8\n",
    b"Epoch 1/2\nloss: 0.5 - acc: 0.7 - val_loss: 0.4 - val_acc: 0.8\nEpoch 2/2\nloss: 0.1\n",
    b"[1125 01:41 @base.py:275] Start Epoch 1 ...\nval-error-top1: 0.3\n",
]


STATS = [
    b'[{"epoch_num": 1, "global_step": 5, "test_error": 0.5, "test_loss": 1.5}]',
    b'{"val_loss": [0.5, 0.4], "val_accuracy": [0.1, 0.2]}',
]


def _arrays_samples() -> List[bytes]:
    samples = []
    for write in (np.savez, np.savez_compressed):
        stream = io.BytesIO()
        arrays: Dict[str, Any] = {"conv0/W": np.zeros((3, 3), np.float32), "x": np.arange(5)}
        write(stream, **arrays)
        samples.append(stream.getvalue())
    return samples


def _arrays(path: str):
    from sparsenet.arrays import read_npz

    return read_npz(path)


def _graph(path: str):
    """Read a graph and compare it with itself: all that is done with one."""
    from comparison.graph.verdict import compare_graph_files
    from comparison.sources import find

    return compare_graph_files(find(path), find(path))


GRAPH = b"""\
node { name: "a" op: "Placeholder" attr { key: "dtype" value { type: DT_FLOAT } } }
node { name: "b" op: "Identity" input: "a" input: "^c" attr { key: "T" value { type: DT_FLOAT } } }
node { name: "c" op: "Const" attr { key: "value" value { tensor { dtype: DT_FLOAT tensor_shape {
dim { size: 2 } } tensor_content: "\\000\\000\\000\\000" } } } }
versions { producer: 24 }
"""


def _checkpoint(path: str):
    """Read a checkpoint of this index, beside the right data."""
    import shutil

    from run_directory.checkpoints import read_arrays

    prefix = path[: -len(".index")]
    data = ".data-00000-of-00001"
    if not os.path.exists(prefix + data):
        shutil.copy(os.path.join(OLD_RUN, "model-4" + data), prefix + data)
    return read_arrays(prefix)


TEXT = (b"nan", b"inf", b"-", b"1e999", b"\t", b",", b'"', b"#", b"{", b"[", b"epoch", b"\xff\xfe")
TAGS = (b"X", b"y", b"\x0e\0\0\0", b"\x0f\0\0\0", b"\xff\xff\xff\x7f")
MARKERS = (b"\xff\xda", b"\xff\xc0\0\x11\x08", b"IHDR", b"IDAT", b"VP8X", b"II*\0", b"\xff\xd9")

READERS: Dict[str, Reader] = {
    "cifar-python": Reader(_cifar("python"), "data_batch_1", _python_samples, PICKLED, _pickle),
    "cifar-binary": Reader(_cifar("binary"), "test_batch.bin", _binary_samples),
    "svhn": Reader(_cifar("svhn"), "train_32x32.mat", _matlab_samples, TAGS),
    "tar": Reader(_archive, "a.tar.gz", _tar_samples, (b"ustar\0", b"path="), _tar),
    "zip": Reader(_archive, "a.zip", _zip_samples, (b"PK\1\2", b"PK\3\4", b"PK\5\6")),
    "pack": Reader(_pack, "a.zip", _pack_samples, (b"PK\1\2", b"../", b"/")),
    "image": Reader(_image, "a.png", _image_samples, MARKERS, _png),
    "val.txt": Reader(_class_table("{}.txt"), "val.txt", lambda: CLASS_TABLE, TEXT),
    "solution.csv": Reader(_class_table("LOC_{}_solution.csv"), "a.csv", lambda: CLASS_TABLE, TEXT),
    "run.json": Reader(_run, "run.json", _file("run.json"), TEXT, _record),
    "command-line": Reader(_command_line, "flags", lambda: COMMANDS, (b"--", b"="), _flags),
    "table": Reader(_rows, "loss+perf_cpu.txt", _file("loss+perf_cpu.txt"), TEXT),
    "log": Reader(_curves, "a.log", lambda: LOGS, TEXT),
    "csv": Reader(_curves, "a.csv", lambda: LOGS, TEXT),
    "stats.json": Reader(_curves, "stats.json", lambda: STATS, TEXT),
    "npz": Reader(_arrays, "a.npz", _arrays_samples, (b"'<f4'", b"'|O'", b"PK\1\2")),
    "graph": Reader(
        _graph, "graph.pbtxt", lambda: [GRAPH], (b"{", b"}", b"node", b"#"), is_fast=False
    ),
    "checkpoint": Reader(_checkpoint, "model-4.index", _file("model-4.index"), is_fast=False),
}

"""Tables, logs, JSON and arrays that were damaged or crafted: a sentence, or read, in bounds."""

import io
import json
import os
import struct
import zipfile

import numpy as np
import pytest
from conftest import CHECKOUT, assert_refused, run_python

from common import json_text
from comparison import findings, sources
from comparison.checkpoints import compare_checkpoint_files, place_in_network
from comparison.curve_columns import MOST_ROWS
from comparison.curve_reading import read_curves
from comparison.curves import compare_curve_files
from run_directory.checkpoints import named_in, read_arrays
from run_directory.table import COLUMNS, read_rows
from sparsenet.arrays import ArrayFile, read_npz
from sparsenet.errors import UserError, printable, report, shortened

COMPARE = CHECKOUT / "scripts" / "compare.py"
LONG = "9" * 5000  # more digits than Python converts


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return str(path)


# Tables and logs -------------------------------------------------------------------------------


def table(**changed):
    """A table of twelve epochs; changed: a column's values in place of its own."""
    names = ("epoch", "global_step", "learning_rate", "train_loss", "test_loss", "test_error")
    lines = ["\t".join(names)]
    for epoch in range(1, 13):
        row = (epoch, 10 * epoch, 0.1, 1 / epoch, 1.5 / epoch, 0.5)
        lines.append("\t".join(str(changed.get(n, v)) for n, v in zip(names, row)))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "value", ["-inf", "inf", "nan", "-1", "0", "1e308", "1e999", "5e-324", LONG]
)
@pytest.mark.parametrize("column", ["learning_rate", "train_loss", "test_error", "global_step"])
def test_any_number_in_a_table_is_compared(tmp_path, column, value, recwarn):
    paths = [written(tmp_path, "a.csv", table()),
             written(tmp_path, "b.csv", table(**{column: value}))]  # fmt: skip
    for pair in (paths, paths[::-1], paths[1:] * 2):
        part = compare_curve_files(
            *map(sources.find, pair), [], findings.Thresholds(), test_images=None
        )
        json.dumps(findings.plain(part), allow_nan=False)
    assert not list(recwarn)


@pytest.mark.parametrize(
    "text",
    [
        "Epoch {0} (global_step {0}) finished, time:{0}.1.2 seconds.\ntrain_error: 0.5\n".format(
            LONG
        ),
        "Epoch {}/2\nloss: 1\n".format(LONG),
        "epoch,test_error\n1,\0\n",
        "epoch,test_error\n" + "1," * 200000,
        'epoch,test_error\n"' + "1" * 200000,
        "1\n" * (MOST_ROWS + 1),
        "epoch,loss\n" + "".join("{},1\n".format(i) for i in range(MOST_ROWS + 1)),
    ],
    ids=range(7),
)
def test_a_log_without_an_epoch_that_counts_is_refused(tmp_path, text):
    with pytest.raises(UserError, match="holds no epoch|more than 50,000 epochs"):
        read_curves(written(tmp_path, "train.log", text))


def test_versions_in_a_log_are_no_scalars(tmp_path):
    text = (
        "Epoch 1 (global_step 10) finished, time:5 seconds.\ntrain_error: 0.5\n"
        "tensorflow: 1.15.0\nlr: 1.2.3\ntrain_loss: -inf\nval_loss: nan\nx: .\n"
    )
    (row,) = read_curves(written(tmp_path, "log.log", text))
    assert row["train_error"] == 0.5 and row["train_loss"] == -np.inf and "learning_rate" not in row
    assert row["epoch_seconds"] == 5 and np.isnan(row["test_loss"])


def test_a_table_of_ours_has_whole_epochs(tmp_path):
    for value in ("inf", "nan", "-inf", LONG):
        text = "\t".join(COLUMNS) + "\n" + "\t".join([value] * len(COLUMNS)) + "\n"
        with pytest.raises(UserError, match="x.txt"):
            read_rows(written(tmp_path, "x.txt", text))


# JSON ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, words",
    [
        ("[" * 100000, "nested deeper"),
        ("[" * 950 + "]" * 950, "nested deeper"),
        ('{"a":' * 60 + "1" + "}" * 60, "nested deeper"),
        ("[" + "[]," * 400000 + "[]]", "more than"),
        ("9" * 5000, "5,000 digits"),
        ("-" + "9" * 400, "401 digits"),
        ('"\\ud800"', "half of a character"),
        ('{"\\udfff": 1}', "half of a character"),
        ("{", "Expecting"),
        ("", "Expecting"),
    ],
)  # fmt: skip
def test_json_beyond_bounds_is_refused(tmp_path, text, words):
    with pytest.raises(ValueError, match=words):
        json_text.parse(text)
    for name in ("stats.json", "run.json"):
        if text:
            path = written(tmp_path, name, text)
            assert_refused(run_python(COMPARE, path, path), name)


def test_json_within_bounds_is_read():
    text = "[" * 50 + "9" * 100 + "]" * 50
    assert json_text.parse(text) == json.loads(text)
    assert json_text.parse('{"a": [1, 2.5, null, true, NaN, "\\u00e9"]}')["a"][:3] == [1, 2.5, None]
    assert json_text.parse('"caf\\udce9"') == os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize(
    "found",
    [5, "text", None, [1], [{"epoch_num": [1]}], [{"epoch_num": None, "train_loss": {}}],
     {"epoch": 5}, {"epoch": [1], "loss": [[1]]}, [{"epoch_num": 1, "train_loss": True}],
     [{"epoch_num": 10**99, "train_loss": "x"}]],
)  # fmt: skip
def test_json_of_other_types_holds_no_epoch(tmp_path, found):
    with pytest.raises(UserError, match=r"stats\.json"):
        read_curves(written(tmp_path, "stats.json", json.dumps(found)))


# Arrays ----------------------------------------------------------------------------------------


def npy(header, content=b"", version=1):
    text = header.encode("latin-1") + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + content


def of(descr, shape, order="False"):
    return "{{'descr': {}, 'fortran_order': {}, 'shape': {}, }}".format(descr, order, shape)


def zipped(folder, content, name="conv0/W.npy", packing=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packing) as archive:
        archive.writestr(name, content)
    return written(folder, "w.npz", stream.getvalue())


@pytest.mark.parametrize(
    "content, words",
    [
        (npy(of("'<f4'", "(3, 3298534883328)"), b"x" * 8), "promises"),
        (npy(of("'<f4'", "(2,)"), b"x" * 12), "promises"),
        (npy(of("'<U999999999'", "()"), b"x"), "can't be read"),
        (npy(of("'|V0'", "(1000000000000,)")), "promises"),
        (npy(of("'<f4'", "(1" + ", 1" * 99 + ")"), b"x" * 4), "can't be read"),
        (npy(of("'<f4'", "(-1,)"), b"x" * 4), "its header is"),
        (npy(of("'<f3'", "(1,)"), b"x" * 3), "can't be read"),
        (npy(of("'|O'", "(1,)"), b"x"), "its header is"),
        (npy(of("[('a', '<f4')]", "(1,)"), b"x" * 4), "its header is"),
        (npy("(" * 5000), "its header is"),
        (npy("{}", version=2)[:8] + b"\xff\xff\xff\xff", "4,294,967,295 bytes"),
        (npy(of("'<f4'", "(1,)"), b"x" * 4)[:9], "can't be read"),
        (b"\x80\x04N.", "no array of numpy"),
        (b"", "no array of numpy"),
    ],
    ids=range(14),
)
def test_an_array_that_lies_is_refused(tmp_path, content, words):
    with pytest.raises(UserError, match=words):
        read_npz(zipped(tmp_path, content))


def test_bombs_and_other_archives_are_refused(tmp_path):
    large = npy(of("'<f4'", "(10000000,)"), bytes(40000000))
    with pytest.raises(UserError, match="unpacked it would have over"):
        ArrayFile(zipped(tmp_path, large, packing=zipfile.ZIP_DEFLATED))
    for write, words in [
        (lambda: zipped(tmp_path, b"x", "x.txt"), "more than arrays"),
        (lambda: zipped(tmp_path, b"x", packing=zipfile.ZIP_LZMA), "packed in another way"),
        (lambda: written(tmp_path, "x.npz", "text"), "can't be read"),
        (lambda: str(tmp_path), "no file"),
    ]:
        with pytest.raises(UserError, match=words):
            ArrayFile(write())


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(tmp_path, save):
    arrays = {
        "a/W": np.arange(6.0).reshape(2, 3), "fortran": np.arange(6).reshape(2, 3).T,
        "scalar": np.float32(3), "empty": np.zeros((0, 4)), "text": np.array("json"),
        "flags": np.array([True, False]), "complex": np.array([1j]), "big": np.array([1], ">i4"),
    }  # fmt: skip
    save(str(tmp_path / "w.npz"), **arrays)
    found = read_npz(str(tmp_path / "w.npz"))
    assert set(found) == set(arrays)
    for name, value in arrays.items():
        assert found[name].dtype == value.dtype and np.array_equal(found[name], value)


def test_changed_bytes_of_arrays_are_refused_or_read(tmp_path):
    np.savez_compressed(str(tmp_path / "good.npz"), **{"conv0/W": np.arange(50.0)})
    original = (tmp_path / "good.npz").read_bytes()
    for place in range(len(original)):
        changed = bytearray(original)
        changed[place] ^= 0x55
        try:
            read_npz(written(tmp_path, "w.npz", bytes(changed)))
        except UserError as error:
            assert "w.npz" in str(error)


def test_weights_are_what_a_file_of_arrays_holds_unless_it_says_otherwise(tmp_path):
    for name, factor in (("a", 1.0), ("b", 2.0)):
        np.savez(str(tmp_path / (name + ".npz")), **{"conv0/W:0": factor * np.ones(3)})
    np.savez(str(tmp_path / "c.npz"), **{"conv0/W": np.ones(3)})
    a, b, c = (sources.find(str(tmp_path / name)) for name in ("a.npz", "b.npz", "c.npz"))
    assert a.activations is None and list(read_arrays(a.checkpoints[-1])) == ["conv0/W"]
    verdicts = [
        compare_checkpoint_files(a, other, findings.Thresholds(), True, False).verdict
        for other in (b, c)
    ]
    assert verdicts == [findings.DIFFERENT, findings.SAME]
    np.savez(str(tmp_path / "d.npz"), about=np.array("{}"), **{"inference/x": np.ones(3)})
    assert sources.find(str(tmp_path / "d.npz")).activations
    np.savez(str(tmp_path / "twice.npz"), **{"a": np.ones(1), "a:0": np.ones(1)})
    with pytest.raises(UserError, match="twice"):
        read_npz(str(tmp_path / "twice.npz"))


# Names -----------------------------------------------------------------------------------------

ESCAPES = "a\x1b[31m\x07\u202eb\nc\u2028\ud800\x9b"


def test_what_moves_a_cursor_is_escaped(capsys):
    shown = "a\\x1b[31m\\x07\\u202eb\\nc\\u2028\\ud800\\x9b"
    assert printable(ESCAPES) == shown
    assert printable("é 漢 {}$") == "é 漢 {}$"
    report(UserError(ESCAPES), 2)
    assert (
        capsys.readouterr().err
        == "error: " + shown.replace("\\n", " ").replace("\\u2028", " ") + "\n"
    )


def test_long_messages_are_shortened(capsys):
    assert shortened("0123456789" * 10, 25) == "0123456789 ... 0123456789"
    assert shortened("short", 5) == "short"
    report(UserError("x" * 10**6 + "; accepted: y"), 2)
    error = capsys.readouterr().err
    assert len(error) < 2100 and error.endswith("; accepted: y\n")


def test_names_of_variables_reach_no_terminal_as_they_are(tmp_path):
    for name, factor in (("a", 1.0), ("b", 2.0)):
        np.savez(str(tmp_path / (name + ".npz")), **{"x\x1b[2J\u202e": factor * np.ones(3)})
    page = tmp_path / "page.html"
    result = run_python(COMPARE, tmp_path / "a.npz", tmp_path / "b.npz", "--html", page)
    assert result.code == 1
    for text in (result.out, page.read_text(encoding="utf-8")):
        assert "x\\x1b[2J\\u202e" in text
        assert "\x1b" not in text and "\u202e" not in text


@pytest.mark.parametrize("names", [["block" + LONG + "/W"], ["block²/W", "block٣/x"], ["a" + LONG]])
def test_numbers_in_names_may_be_of_any_length(names):
    assert sorted([*names, "conv0/W"], key=place_in_network)
    ordered = ["block10/a", "block2/layer10/x", "block1/a", "block2/layer9/x", "block2/a"]
    ordered.sort(key=place_in_network)
    assert ordered[2:4] == ["block2/layer9/x", "block2/layer10/x"]


def test_a_long_file_of_checkpoints_is_read_once(tmp_path):
    written(tmp_path, "checkpoint", "\n" * 3000000 + 'model_checkpoint_path: "x"\n')
    assert named_in(str(tmp_path)) is None

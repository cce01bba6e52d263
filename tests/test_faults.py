"""What a kill, a loss of power or a full disk leaves of a run, and how it goes on from there."""

import errno
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys

from common.tf_stack import tf

import numpy as np
import pytest
from conftest import (
    CHECKOUT,
    CLEAN_ENVIRONMENT,
    SCHEDULE,
    TINY,
    Result,
    assert_refused,
    launch,
    run_python,
)

import cifar_data
from common import files
from platforms.platform import Platform
from run_directory import checkpoints, table
from run_directory.checkpoints import keep, latest_checkpoint, read_arrays, write_tensorflow
from run_directory.table import NO_RECORD, find_table, read_rows
from sparsenet.arrays import NETWORK_SCOPES, SLOTS
from sparsenet.errors import RunFailed
from sparsenet.plan import variable_shapes
from training import command_line, prepare
from training.not_finite import first_by_statistics, layers_of
from training.run import train

DATA = ".data-00000-of-00001"


@pytest.fixture
def run(finished_run, tmp_path):
    """A copy of a finished run of three epochs of five steps."""
    shutil.copytree(str(finished_run), str(tmp_path / "run"))
    return tmp_path / "run"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def epochs_of(run):
    """Epochs in the table and in stats.json."""
    stats = json.loads((run / "stats.json").read_text())
    rows = read_rows(find_table(str(run)))
    return [row["epoch"] for row in rows], [entry["epoch_num"] for entry in stats]


def assert_ends_as(run, finished_run):
    """A run ended with the results of the uninterrupted one, and all records."""
    ours, theirs = (read_arrays(str(each / "model-15")) for each in (run, finished_run))
    assert set(ours) == set(theirs)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert epochs_of(run) == ([1, 2, 3], [1, 2, 3])
    errors = [
        [row["test_error"] for row in read_rows(find_table(str(each)))]
        for each in (run, finished_run)
    ]
    assert errors[0] == errors[1]
    assert "# after epoch 3" in (run / "loss+perf_cpu.txt").read_text()
    assert (run / "curves.png").exists()


# Killed --------------------------------------------------------------------------------------


def cut_after_the_last_checkpoint(run):
    """Undo what a run writes after its last checkpoint."""
    stats = json.loads((run / "stats.json").read_text())
    (run / "stats.json").write_text(json.dumps(stats[:-1]))
    path = run / "loss+perf_cpu.txt"
    lines = path.read_text().splitlines(True)
    assert lines[-3].startswith("3\t") and lines[-2].startswith("# after epoch 3")
    path.write_text("".join(lines[:-2]))
    (run / "curves.png").unlink()


def test_the_records_of_a_run_that_was_killed_at_its_end_are_finished(finished_run, run):
    cut_after_the_last_checkpoint(run)
    models = {name: data for name, data in contents(run).items() if name.startswith("model")}
    result = launch("--resume", run)
    assert result.code == 0 and "all 3 epochs are done" in result.out, result
    assert "test error" in result.out
    assert_ends_as(run, finished_run)
    assert models.items() <= contents(run).items()
    before = contents(run)
    again = launch("--resume", run)
    assert again.code == 0 and "finished now" not in again.out
    assert before == contents(run)


@pytest.mark.parametrize("lost", ["curves.png", "stats.json", "loss+perf_cpu.txt"])
def test_a_record_that_is_gone_is_written_again(finished_run, run, lost):
    (run / lost).unlink()
    result = launch("--resume", run)
    assert result.code == 0, result
    assert_ends_as(run, finished_run)


LEFT_OVER = ["model-15.data-00000-of-00001.tempstate123", "checkpoint.tmpabc", ".partial-run.json",
             "model-7.index.tempstate9", "checkpoint.tmp77"]  # fmt: skip


def test_what_a_kill_left_half_written_is_removed(run):
    for name in LEFT_OVER:
        (run / name).write_bytes(b"part")
    (run / ("model-5" + DATA)).unlink()  # killed while it dropped an old checkpoint
    (run / "of-the-user.tmp").write_bytes(b"kept")
    assert launch("--resume", run).code == 0
    names = {path.name for path in run.iterdir()}
    assert not names & {*LEFT_OVER, "model-5.index"}
    assert {"of-the-user.tmp", "model-0.index", "model-10.index"} <= names


def test_a_run_that_ended_before_its_first_checkpoint_starts_anew(finished_run, tmp_path):
    """Its name is not blocked: the advice can be followed."""
    run = tmp_path / "run"
    run.mkdir()
    for name in ("run.json", "requirements.txt", "log.log"):
        shutil.copy(str(finished_run / name), str(run))
    (run / "model-0.data-00000-of-00001.tempstate1").write_bytes(b"part")
    flags = [*TINY, *SCHEDULE, "--log_dir", tmp_path, "--name", "run"]
    assert_refused(launch(*flags), "exists", "--resume {}".format(run))
    result = launch("--resume", run)
    assert result.code == 0 and "starts anew" in result.out, result
    assert_ends_as(run, finished_run)


def test_a_run_that_ended_before_its_first_file_leaves_its_name_free(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".partial-run.json").write_text("{")
    result = launch(*TINY, "--max_epoch", "1", "--log_dir", tmp_path, "--name", "run")
    assert result.code == 0, result
    assert not (tmp_path / "run" / ".partial-run.json").exists()


def test_a_run_whose_checkpoints_are_lost_does_not_start_anew(run):
    for path in run.glob("model-*"):
        path.unlink()
    before = contents(run)
    assert_refused(launch("--resume", run, "--max_epoch", "5"), "no checkpoint to resume from")
    assert contents(run) == before


# A loss of power -----------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".index", DATA])
@pytest.mark.parametrize("damage", ["empty", "cut", "zeros", "flipped", "missing"])
def test_a_torn_checkpoint_is_passed_over(finished_run, run, ending, damage):
    path = run / ("model-15" + ending)
    content = path.read_bytes()
    half = len(content) // 2
    torn = {
        "empty": b"",
        "cut": content[:half],
        "zeros": bytes(len(content)),
        "flipped": content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :],
    }
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(torn[damage])
    result = launch("--resume", run)
    assert result.code == 0, result
    notes = [line for line in result.out.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1 and "model-15 can't be read" in notes[0], notes
    assert "passed over for {}".format(run / "model-10") in notes[0]
    assert_ends_as(run, finished_run)


@pytest.mark.parametrize("content", [b"", bytes(80), b'model_checkpoint_path: "mod'])
def test_a_torn_file_of_the_newest_name_is_no_matter(finished_run, run, content):
    (run / "checkpoint").write_bytes(content)
    assert launch("--resume", run, "--max_epoch", "4").code == 0
    assert tf.train.latest_checkpoint(str(run)) == str(run / "model-20")


def test_a_checkpoint_under_the_name_of_another_step_is_passed_over(finished_run, run):
    for ending in (".index", DATA):
        shutil.copy(str(run / ("model-0" + ending)), str(run / ("model-15" + ending)))
    result = launch("--resume", run)
    assert result.code == 0 and "holds global_step" in result.out, result
    assert_ends_as(run, finished_run)


def test_an_old_checkpoint_is_dropped_once_the_new_one_is_on_the_disk(tmp_path, monkeypatch):
    done = []
    sync, remove, replace = os.fsync, os.remove, os.replace

    def note(action, function):
        def noted(handle_or_path, *others):
            path = handle_or_path
            if isinstance(path, int):
                path = os.readlink("/proc/self/fd/{}".format(path))
            done.append((action, os.path.basename(others[0] if others else path)))
            return function(handle_or_path, *others)

        return noted

    for step in range(0, 7 * 5, 5):
        write_tensorflow(str(tmp_path / "model-{}".format(step)), {"global_step": np.int64(step)})
    monkeypatch.setattr(files.os, "fsync", note("sync", sync))
    monkeypatch.setattr(files.os, "remove", note("remove", remove))
    monkeypatch.setattr(files.os, "replace", note("replace", replace))
    keep(str(tmp_path / "model-30"))
    folder = tmp_path.name
    assert done == [
        ("sync", "model-30.index"), ("sync", "model-30" + DATA), ("sync", folder),
        ("sync", ".partial-checkpoint"), ("replace", "checkpoint"), ("sync", folder),
        ("remove", "model-5.index"), ("remove", "model-5" + DATA),
    ]  # fmt: skip
    state = tf.train.get_checkpoint_state(str(tmp_path))
    assert [os.path.basename(path) for path in state.all_model_checkpoint_paths] == [
        "model-{}".format(step) for step in (0, 10, 15, 20, 25, 30)
    ]
    assert latest_checkpoint(str(tmp_path)) == state.model_checkpoint_path


# The table against the checkpoint ------------------------------------------------------------


def rewrite_rows(run, change):
    """Change the list of the lines that are rows."""
    path = run / "loss+perf_cpu.txt"
    lines = path.read_text().splitlines(True)
    rows = [line for line in lines if line[0].isdigit()]
    first = lines.index(rows[0])
    path.write_text("".join(lines[:first] + change(rows) + lines[first + len(rows) :]))


def without_stats_of(run, epoch):
    stats = json.loads((run / "stats.json").read_text())
    kept = [entry for entry in stats if entry["epoch_num"] != epoch]
    (run / "stats.json").write_text(json.dumps(kept))


def changed(row):
    cells = row.split("\t")
    return "\t".join(cells[:5] + ["0.125"] + cells[6:])


@pytest.mark.parametrize(
    "change, note",
    [
        (lambda rows: rows[:1] + rows[2:], "epoch 2: from stats.json"),
        (lambda rows: rows[2:], "epochs 1 to 2: from stats.json"),
        (lambda rows: rows[:2], "epoch 3: from stats.json"),
        (lambda rows: [rows[0], rows[1][:20] + "\n", rows[2]], "epoch 2: from stats.json"),
        (lambda rows: [rows[0], rows[1], rows[1], rows[2]], "epoch 2 more than once"),
        (lambda rows: [rows[0], changed(rows[1]), rows[1], rows[2]], "2: from stats.json"),
        (lambda rows: [rows[0], rows[1].replace("\t10\t", "\t9\t"), rows[2]], "2: from stats"),
        (lambda rows: [rows[0], changed(rows[1]).replace("0.125", "nan"), rows[2]], "2: from"),
    ],
)
def test_rows_that_are_missing_or_doubled_are_filled(finished_run, run, change, note):
    rewrite_rows(run, change)
    result = launch("--resume", run)
    assert result.code == 0 and note in result.out, result
    assert "note: the table and the checkpoint differ" in result.out
    assert without_timing(run) == without_timing(finished_run)
    assert_ends_as(run, finished_run)


def without_timing(run):
    """Return the table but for the median speed, which the digits of a filled row may round."""
    text = pathlib.Path(find_table(str(run))).read_text()
    return [line for line in text.splitlines() if "left out:" not in line]


def test_figures_keep_their_digits(tmp_path):
    """A table has six of them: a resumed run that read it has no more."""
    row = dict.fromkeys(table.COLUMNS, 1 / 3)
    row.update(epoch=1, global_step=5)
    table.write_stats(str(tmp_path), [row])
    read = dict(row, **{name: 0.333333 for name in row if name not in table.WHOLE})
    table.write_stats(str(tmp_path), [dict(read, test_loss=0.25)])
    (entry,) = table.read_stats(str(tmp_path))
    assert (entry["train_loss"], entry["test_loss"]) == (1 / 3, 0.25)


def test_rows_are_filled_from_the_events(finished_run, run):
    rewrite_rows(run, lambda rows: rows[:1] + rows[2:])
    without_stats_of(run, 2)
    result = launch("--resume", run)
    assert result.code == 0 and "epoch 2: from the events" in result.out, result
    found, true = (read_rows(find_table(str(each))) for each in (run, finished_run))
    assert [sorted(row) for row in found] == [sorted(row) for row in true]
    for name in true[1]:
        assert found[1][name] == pytest.approx(true[1][name], rel=1e-5), name
    assert epochs_of(run) == ([1, 2, 3], [1, 2, 3])


@pytest.mark.parametrize("more", [[], ["--max_epoch", "4"]])
def test_an_epoch_that_no_record_has_is_told_and_marked(run, more):
    lost = 3 if more else 2
    rewrite_rows(run, lambda rows: [row for row in rows if row[0] != str(lost)])
    without_stats_of(run, lost)
    for path in run.glob("events*"):
        path.unlink()
    result = launch("--resume", run, *more)
    assert result.code == 0, result
    assert "no record of epoch {}: marked in the table".format(lost) in result.out
    lines = (run / "loss+perf_cpu.txt").read_text().splitlines()
    mark = lines.index("{} epoch {}".format(NO_RECORD, lost))
    assert lines[mark - 1].startswith("{}\t".format(lost - 1))
    assert lines[mark + 1].startswith("{}\t".format(lost + 1))
    expected = [1, 2, 4] if more else [1, 3]
    assert epochs_of(run) == (expected, expected)
    assert not list(run.glob("stats.json.*"))
    again = launch("--resume", run)
    assert "no record of epoch {}".format(lost) in again.out  # told each time


def test_later_checkpoints_go_once_a_run_has_gone_on_from_an_older_one(run):
    """A torn one must not count as the newest, nor take the place of a whole one."""
    for step in (10, 15):
        (run / ("model-{}".format(step) + DATA)).write_bytes(b"")
    result = launch("--resume", run, "--max_epoch", "2")
    assert result.code == 0, result
    assert "resumed from     {}".format(run / "model-5") in result.out
    names = [os.path.basename(each) for each in checkpoints.checkpoints_of(str(run))]
    assert names == ["model-0", "model-5", "model-10"] and not list(run.glob("model-15*"))
    assert latest_checkpoint(str(run)) == tf.train.latest_checkpoint(str(run))


# What the path of a run directory may hold ---------------------------------------------------


@pytest.mark.parametrize("name", ["a[1]", "a[!1]*?", "back\\slash", "50%s{}'\""])
def test_any_name_of_a_run_directory_works(finished_run, tmp_path, name):
    flags = [*TINY, *SCHEDULE, "--max_epoch", "2", "--log_dir", tmp_path / name]
    assert launch(*flags, "--name", name).code == 0
    run = tmp_path / name / name
    result = launch("--resume", run, "--max_epoch", "3")
    assert result.code == 0, result
    assert_ends_as(run, finished_run)
    assert sorted(path.name for path in run.glob("model-*.index"))[0] == "model-0.index"
    scripts = CHECKOUT / "scripts"
    for command in (
        [scripts / "evaluate.py", run],
        [scripts / "freeze_graph.py", run, "--out", tmp_path / "frozen.pb"],
        [scripts / "pack.py", run, "--out", tmp_path / "pack.zip"],
        [scripts / "plot.py", "curves", run, "-o", tmp_path / "curves.png"],
        *([[scripts / "compare.py", run, finished_run]] if sys.version_info >= (3, 10) else []),
    ):
        result = run_python(*command)
        assert result.code == 0, result
    loaded = launch(*TINY, "--max_epoch", "1", "--load", run, "--log_dir", tmp_path / "loaded")
    assert loaded.code == 0, loaded


def test_old_checkpoints_are_dropped_in_any_directory(tmp_path):
    folder = tmp_path / "a[1]*"
    folder.mkdir()
    for step in range(0, 8):
        prefix = str(folder / "model-{}".format(step))
        write_tensorflow(prefix, {"global_step": np.int64(step)})
        keep(prefix)
    names = [os.path.basename(each) for each in checkpoints.checkpoints_of(str(folder))]
    assert names == ["model-{}".format(step) for step in (0, 3, 4, 5, 6, 7)]
    assert len(list(folder.iterdir())) == 2 * 6 + 1


# What --resume may be given ------------------------------------------------------------------


@pytest.mark.parametrize("within", ["", "/", "/model-15", "/model-10.index", "/run.json",
                                    "/model-15" + DATA, "/loss+perf_cpu.txt"])  # fmt: skip
def test_what_lies_in_a_run_directory_names_it(run, within):
    result = launch("--resume", str(run) + within)
    assert result.code == 0 and "all 3 epochs are done" in result.out, result


def test_a_name_in_the_working_directory_names_it(run):
    assert launch("--resume", "model-15", cwd=run).code == 0
    assert_refused(launch("--resume", run / "model-7"), "model-7", "no run directory")


# Another run meanwhile -----------------------------------------------------------------------


@pytest.fixture
def meanwhile(monkeypatch):
    """Return a function that has something done once, while a run reads its data."""

    def do(action):
        load_data = prepare.load_data

        def slowly(settings):
            monkeypatch.setattr(prepare, "load_data", load_data)
            done.append(action())
            return load_data(settings)

        monkeypatch.setattr(prepare, "load_data", slowly)

    done = []
    yield do
    assert len(done) == 1


def test_of_two_resumes_the_later_goes_on_from_the_newest_checkpoint(finished_run, run, meanwhile):
    for path in run.glob("model-1*"):
        path.unlink()  # back to the end of the first epoch
    models = {}

    def resume_too():
        assert launch("--resume", run).code == 0
        models.update(contents(run))

    meanwhile(resume_too)
    result = launch("--resume", run)
    assert result.code == 0 and "all 3 epochs are done" in result.out, result
    assert contents(run) == models
    assert_ends_as(run, finished_run)


def test_a_new_run_leaves_alone_what_another_one_wrote_meanwhile(tmp_path, meanwhile):
    flags = [*TINY, "--max_epoch", "1", "--log_dir", tmp_path, "--name", "run"]
    meanwhile(lambda: launch(*flags))
    result = launch(*flags)
    assert_refused(result, "exists; accepted: another --name")
    assert epochs_of(tmp_path / "run") == ([1], [1])
    assert (tmp_path / "run" / "model-5.index").exists()


def test_a_run_that_was_replaced_meanwhile_is_left_alone(run, tmp_path, meanwhile):
    def replace():
        shutil.rmtree(str(run))
        flags = [*TINY, "--seed", "5", "--max_epoch", "1", "--log_dir", tmp_path, "--name", "run"]
        assert launch(*flags).code == 0

    meanwhile(replace)
    result = launch("--resume", run, "--max_epoch", "4")
    assert_refused(result, "was replaced by another run meanwhile")
    assert epochs_of(run) == ([1], [1])


def test_a_run_that_was_removed_meanwhile_is_refused(run, meanwhile):
    meanwhile(lambda: shutil.rmtree(str(run)))
    assert_refused(launch("--resume", run, "--max_epoch", "4"), str(run))
    assert not run.exists()


# What can't be written or read ---------------------------------------------------------------


def assert_failed(result, *words):
    """One sentence on stderr, and the exit code of a run that failed."""
    assert result.code == 1 and result.err.count("\n") == 1, result
    assert result.err.startswith("error: "), result
    assert all(word in result.err for word in words), result


@pytest.mark.parametrize(
    "name, times, last_good",
    [
        ("run.json", 0, None),
        ("requirements.txt", 0, None),
        ("loss+perf_cpu.txt", 0, None),
        ("graph.pbtxt", 0, "none yet"),
        ("checkpoint", 0, "model-0"),
        ("loss+perf_cpu.txt", 2, "model-5"),
        ("checkpoint", 2, "model-10"),
        ("stats.json", 1, "model-10"),
        ("curves.png", 0, None),
    ],
)
def test_a_full_disk_at_any_file(finished_run, tmp_path, monkeypatch, name, times, last_good):
    """A file that fails once it was written `times` times."""
    sync, written = os.fsync, []

    def full(handle):
        path = os.path.basename(os.readlink("/proc/self/fd/{}".format(handle)))
        written.append(path)
        if path == files.PARTIAL + name and written.count(path) > times:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return sync(handle)

    flags = [*TINY, *SCHEDULE, "--log_dir", tmp_path, "--name", "run"]
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        result = launch(*flags)
    assert_failed(result, "No space left", name, *([last_good] if last_good else []))
    run = tmp_path / "run"
    if name == "run.json":
        assert launch(*flags).code == 0  # its name is free
    else:
        assert launch("--resume", run).code == 0
    assert_ends_as(run, finished_run)


def test_a_full_disk_at_the_data_of_a_checkpoint(finished_run, run):
    """By the limit of a file's size, at which TensorFlow's own writes fail."""
    limit = (run / ("model-0" + DATA)).stat().st_size // 2
    for path in run.glob("model-1*"):
        path.unlink()  # back to the end of the first epoch
    before = {path: path.read_bytes() for path in run.glob("model-*")}
    done = subprocess.run(
        [sys.executable, str(CHECKOUT / "main_gpu.py"), "--resume", str(run)],
        capture_output=True,
        env=CLEAN_ENVIRONMENT,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    result = Result(done.returncode, "", done.stderr.decode())
    assert_failed(result, "File too large", "last good checkpoint: {}".format(run / "model-5"))
    assert all(path.read_bytes() == content for path, content in before.items())
    assert launch("--resume", run).code == 0
    assert_ends_as(run, finished_run)
    assert not list(run.glob("*tempstate*"))


@pytest.mark.parametrize("become", ["nothing", "a file", "another directory"])
def test_a_run_directory_that_is_gone_ends_the_run(tmp_path, monkeypatch, become):
    run, write = tmp_path / "run", table.write_whole

    def write_and_remove(path, text):
        write(path, text)
        if "\n2\t" in text and path.endswith(".txt"):
            os.rename(str(run), str(tmp_path / "moved"))
            if become == "a file":
                run.write_text("")
            elif become == "another directory":
                run.mkdir()

    monkeypatch.setattr(table, "write_whole", write_and_remove)
    flags = [*TINY, *SCHEDULE, "--log_dir", tmp_path, "--name", "run"]
    result = launch(*flags)
    assert_failed(result, str(run))
    monkeypatch.undo()
    assert launch("--resume", tmp_path / "moved").code == 0
    assert epochs_of(tmp_path / "moved") == ([1, 2, 3], [1, 2, 3])


@pytest.mark.parametrize("devices", [1, 2])
def test_data_that_vanish_under_a_run_end_it(tmp_path, monkeypatch, devices):
    """Also where a thread reads them, which would end the queue as if there were no more."""
    read = cifar_data.Dataset.training_batches

    def vanishing(*args):
        for number, batch in enumerate(read(*args)):
            if number == 8:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "data/7.JPEG")
            yield batch

    monkeypatch.setattr(cifar_data.Dataset, "training_batches", vanishing)
    settings = command_line.parse([*TINY, *SCHEDULE, "--log_dir", str(tmp_path), "--name", "run"])

    def platform(_):
        return Platform("cpu", ["a cpu"] * devices, tf.ConfigProto(allow_soft_placement=True))

    with tf.Graph().as_default(), pytest.raises(RunFailed) as failed:
        train(settings, platform)
    assert "data/7.JPEG" in str(failed.value) and str(failed.value).endswith("model-5")
    assert [row["epoch"] for row in read_rows(find_table(str(tmp_path / "run")))] == [1]


# NaN -----------------------------------------------------------------------------------------

POISONED = [  # a variable that is NaN, the loss that shows it, the first layer with such an output
    ("conv0/W", "training", "conv0"),
    ("block2/layer0/conv1/W", "training", "block2/layer0/conv1"),
    ("transition2/conv1/W", "training", "transition2/conv1"),
    ("linear/b", "training", "linear"),
    ("block2/layer0/bn1/mean/EMA", "test", "block2/layer0/bn1"),
]


@pytest.mark.parametrize("variable, loss, layer", POISONED)
def test_the_first_layer_whose_output_is_not_finite_is_named(
    finished_run, tmp_path, variable, loss, layer
):
    weights = tmp_path / "poisoned.npz"
    write_poisoned(finished_run, weights, variable)
    result = launch(*TINY, "--load", weights, "--log_dir", tmp_path / "runs")
    step, epoch = (1, 1) if loss == "training" else (5, 1)
    assert result.code == 1 and result.err.startswith(
        "error: the {} loss is nan at step {} (epoch {}); the first layer whose output is not "
        "finite: {}; ".format(loss, step, epoch, layer)
    ), result


def write_poisoned(run, path, variable):
    """Write the weights of a run, one value of a variable NaN, to a .npz file."""
    weights = read_arrays(str(run / "model-15"))
    names = [name for name in weights if NETWORK_SCOPES.match(name) and not SLOTS.search(name)]
    weights[variable].flat[-1] = np.nan
    np.savez(str(path), **{name: weights[name] for name in names})


def test_a_layer_is_named_where_training_diverges(tmp_path):
    result = launch(*TINY, "--learning_rate", "9e8", "--log_dir", tmp_path)
    layers = layers_of(command_line.parse(TINY).recipe.config)
    named = result.err.split("not finite: ")[1].split(";")[0]
    assert result.code == 1 and named in layers and "/bn" not in named, result


def test_layers_between_two_batch_normalisations():
    """Where the statistics don't tell which of several layers it was, the first one is named."""
    config = command_line.parse([*TINY, "--attention", "se"]).recipe.config
    means = {name: np.zeros(shape) for name, shape in variable_shapes(config).items()}
    bad = dict(means, **{"transition1/bn1/mean/EMA": np.array([0.0, np.inf])})
    assert first_by_statistics(config, bad) == "block1/layer0/conv1"
    assert first_by_statistics(config, means) == "linear"
    assert first_by_statistics(config, means, of_whole_batch=False) is None

"""Runs as a person starts them: what they write, and how they end."""

import contextlib
import fcntl
import json
import os
import pty
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time

from common.tf_stack import tf

import numpy as np
import pytest
from conftest import (
    CHECKOUT,
    CLEAN_ENVIRONMENT,
    SCHEDULE,
    TINY,
    assert_refused,
    launch,
    run_python,
    write_binary_layout,
)

from platforms import gpu
from platforms.platform import Platform
from run_directory.checkpoints import read_arrays
from run_directory.table import COLUMNS, find_table, read_rows
from sparsenet import initial_weights
from sparsenet.errors import RunFailed
from sparsenet.plan import variable_shapes
from sparsenet.published import RECIPES
from training import command_line, prepare
from training.records import reason_of
from training.run import train

pytestmark = pytest.mark.trains


def rows_of(directory):
    return read_rows(find_table(str(directory)))


def results(rows):
    """The columns that a repeated run repeats."""
    timing = ("epoch_seconds", "images_per_second", "inference_seconds")
    return [{name: value for name, value in row.items() if name not in timing} for row in rows]


def arrays(prefix):
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


# The run directory ---------------------------------------------------------------------------


def test_the_run_directory_holds_everything(finished_run):
    files = os.listdir(str(finished_run))
    for file in ["run.json", "graph.pbtxt", "loss+perf_cpu.txt", "stats.json", "log.log",
                 "checkpoint", "curves.png", "model-0.index", "model-15.index"]:  # fmt: skip
        assert file in files, files
    assert any(file.startswith("events.out.tfevents") for file in files)
    assert not any(".partial" in file for file in files)
    assert (finished_run / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_table(finished_run):
    text = (finished_run / "loss+perf_cpu.txt").read_text()
    lines = text.splitlines()
    header = next(line for line in lines if not line.startswith("#"))
    assert header.split("\t") == list(COLUMNS)
    assert lines[-1].startswith("# ") and lines[-2].startswith("# after epoch 3: test_error")
    rows = rows_of(finished_run)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["global_step"] for row in rows] == [5, 10, 15]
    assert [row["learning_rate"] for row in rows] == [0.1, 0.01, 0.001]
    for row in rows:
        assert 0 <= row["test_error"] <= 1 and 0 <= row["train_error"] <= 1
        # 320 test images: the error is a whole number of them.
        assert row["test_error"] * 320 == pytest.approx(round(row["test_error"] * 320), abs=1e-3)
        assert row["epoch_seconds"] * row["images_per_second"] == pytest.approx(320, rel=1e-3)


def test_stats_and_events_say_what_the_table_says(finished_run):
    stats = json.loads((finished_run / "stats.json").read_text())
    assert [entry["epoch_num"] for entry in stats] == [1, 2, 3]
    for entry, row in zip(stats, rows_of(finished_run)):
        for name in COLUMNS[1:]:
            assert entry[name] == pytest.approx(row[name], rel=1e-5), name
    (events,) = finished_run.glob("events.out.tfevents*")
    seen = {}
    for event in tf.train.summary_iterator(str(events)):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                seen.setdefault(value.tag, []).append(value.simple_value)
    assert seen["test_error"] == pytest.approx([row["test_error"] for row in rows_of(finished_run)])


def test_run_json(finished_run):
    record = json.loads((finished_run / "run.json").read_text())
    assert record["platform"] == "cpu" and record["precision"] == "float32"
    assert record["seed"] == 0 and record["steps_per_epoch"] == 5
    assert record["data"]["train"]["images"] == 320
    assert record["preprocessing"]["normalize"] == "channel"
    assert len(record["preprocessing"]["mean"]) == 3
    assert record["versions"]["tensorflow"] == tf.__version__
    assert record["recipe"]["config"]["layers"] == [1, 1, 1]
    assert "--recipe" in record["command"]
    shapes = variable_shapes(command_line.parse(TINY).recipe.config, trainable_only=True)
    assert record["parameters"] == sum(int(np.prod(shape)) for shape in shapes.values())


def test_model_0_is_the_initial_weights(finished_run):
    saved = arrays(finished_run / "model-0")
    config = command_line.parse(TINY).recipe.config
    for name, value in initial_weights.initial_weights(config, seed=0).items():
        assert np.array_equal(saved[name], value), name
    moved = arrays(finished_run / "model-15")
    assert not np.array_equal(moved["conv0/W"], saved["conv0/W"])
    assert not np.array_equal(moved["bn_last/mean/EMA"], saved["bn_last/mean/EMA"])


def test_the_graph_is_a_metagraph_that_can_be_imported(finished_run):
    # On any machine: no device is written into the graph.
    with tf.Graph().as_default() as graph, tf.Session() as session:
        saver = tf.train.import_meta_graph(read_metagraph(finished_run / "graph.pbtxt"))
        saver.restore(session, str(finished_run / "model-15"))
        assert graph.get_tensor_by_name("linear/output:0").shape.as_list() == [64, 10]


def read_metagraph(path):
    from google.protobuf import text_format

    return text_format.Parse(path.read_text(), tf.MetaGraphDef())


def test_the_graph_has_no_queue(finished_run):
    ops = {node.op for node in read_metagraph(finished_run / "graph.pbtxt").graph_def.node}
    assert "Conv2D" in ops
    assert not [op for op in ops if "Queue" in op or "Dequeue" in op or "Iterator" in op]


def test_the_loss_falls(finished_run):
    rows = rows_of(finished_run)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_reported_test_error_is_that_of_the_checkpoint(finished_run):
    """All 320 test images count, though batches of 64 were asked for with 40 left over."""
    from tensorpack import OfflinePredictor, PredictConfig, SaverRestore

    from sparsenet_model import CROSS_ENTROPY, INCORRECT, SparseNet

    settings = command_line.parse(TINY)
    data = prepare.load_data(settings)
    record = json.loads((finished_run / "run.json").read_text())
    model = SparseNet(
        settings.recipe.config,
        normalization=record["preprocessing"],
        batch_size=len(data.test.labels),
    )
    predict = OfflinePredictor(
        PredictConfig(
            model=model,
            session_init=SaverRestore(str(finished_run / "model-15")),
            input_names=["image", "label"],
            output_names=[CROSS_ENTROPY, INCORRECT],
        )
    )
    losses, incorrect = predict(*data.test)
    last = rows_of(finished_run)[-1]
    assert incorrect.mean(dtype=np.float64) == pytest.approx(last["test_error"], abs=1e-9)
    assert losses.mean(dtype=np.float64) == pytest.approx(last["test_loss"], rel=1e-5)


def test_the_batch_size_does_not_change_what_the_test_set_says(finished_run, tmp_path):
    """A remainder of 40, of 0 and a batch that is larger than the set; no training between."""
    errors = []
    for batch_size in (70, 320):
        result = launch(*TINY, "--load", finished_run, "--learning_rate", "1e-30", "--max_epoch",
                        "1", "--batch_size", batch_size, "--log_dir", tmp_path, "--name",
                        batch_size, "--steps_per_epoch", "1")  # fmt: skip
        assert result.code == 0, result
        loaded = arrays(tmp_path / str(batch_size) / "model-0")
        assert np.array_equal(loaded["linear/W"], arrays(finished_run / "model-15")["linear/W"])
        errors.append(rows_of(tmp_path / str(batch_size))[0]["test_error"])
    # One step moves the moving statistics a little; the weights stay.
    assert errors[0] == pytest.approx(errors[1], abs=0.05)


# Continuing ----------------------------------------------------------------------------------


def start(*arguments, ignored=(), **streams):
    def listen():
        # Whoever runs the tests in the background may have had Ctrl-C ignored.
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN if each in ignored else signal.SIG_DFL)

    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    command = [sys.executable, str(CHECKOUT / "main_gpu.py")] + [str(a) for a in arguments]
    return subprocess.Popen(command, preexec_fn=listen, env=CLEAN_ENVIRONMENT, **streams)


def wait_for_row(process, table, epoch):
    while process.poll() is None:
        if table.exists() and "\n{}\t".format(epoch) in table.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(process.communicate())


LONGER = [*TINY, "--dropout", "0.2", "--max_epoch", "12", "--drop_1", "2", "--drop_2", "4"]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A run of twelve epochs that nothing stopped."""
    root = tmp_path_factory.mktemp("whole")
    assert launch(*LONGER, "--log_dir", root, "--name", "run").code == 0
    return root / "run"


@pytest.mark.parametrize(
    "number, code, said",
    [
        (signal.SIGINT, 130, "error: interrupted\n"),
        (signal.SIGTERM, 143, "error: terminated\n"),
        (signal.SIGHUP, 129, "error: hung up\n"),
        (signal.SIGKILL, -9, ""),
    ],
)
def test_a_continued_run_is_the_uninterrupted_one(whole_run, tmp_path, number, code, said):
    process = start(*LONGER, "--log_dir", tmp_path, "--name", "cut")
    wait_for_row(process, tmp_path / "cut" / "loss+perf_cpu.txt", 2)
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, err.decode()) == (code, said), out
    if number != signal.SIGKILL:
        assert "--resume" in out.decode()
        assert (tmp_path / "cut" / "curves.png").exists()
    resumed = launch("--resume", tmp_path / "cut")
    assert resumed.code == 0, resumed
    assert results(rows_of(tmp_path / "cut")) == results(rows_of(whole_run))
    cut, whole = (arrays(run / "model-60") for run in (tmp_path / "cut", whole_run))
    assert set(cut) == set(whole)
    for name in cut:
        assert np.array_equal(cut[name], whole[name]), name
    stats = json.loads((tmp_path / "cut" / "stats.json").read_text())
    assert [entry["epoch_num"] for entry in stats] == list(range(1, 13))
    record = json.loads((tmp_path / "cut" / "run.json").read_text())
    assert len(record["resumed"]) == 1
    models = sorted(path.name for path in (tmp_path / "cut").glob("model-*.index"))
    assert len(models) == 6 and "model-0.index" in models  # the first and the newest five


def test_a_finished_run_can_be_extended(finished_run, tmp_path):
    shutil.copytree(str(finished_run), str(tmp_path / "run"))
    done = launch("--resume", tmp_path / "run")
    assert done.code == 0 and "all 3 epochs are done" in done.out
    more = launch("--resume", tmp_path / "run", "--max-epoch", "4")
    assert more.code == 0, more
    assert [row["epoch"] for row in rows_of(tmp_path / "run")] == [1, 2, 3, 4]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["recipe"]["epochs"] == 4


def test_what_can_not_be_continued(finished_run, tmp_path):
    assert_refused(launch("--resume", tmp_path / "nothing"), "nothing", "run.json")
    assert_refused(launch("--resume", finished_run, "--depth", "40"), "--depth", "--max_epoch")
    for flag in ("--seed", "--weight_decay", "--dropout", "--bottleneck"):
        assert_refused(launch("--resume", finished_run, flag, "0"), flag)
    broken = tmp_path / "broken"
    shutil.copytree(str(finished_run), str(broken))
    for path in broken.glob("model-*"):
        path.unlink()
    assert_refused(launch("--resume", broken, "--max_epoch", "5"), "no checkpoint")
    for text, word in [
        ("{", "run.json"),
        ("{}", "settings"),
        ("[" * 100000, "run.json"),
        (edited(finished_run, "settings", "seed", "abc"), "`seed` is abc"),
        (edited(finished_run, "recipe", "epochs", 2.5), "`epochs` is 2.5"),
        (edited(finished_run, "recipe", "lr_milestones", [[1, 0]]), "lr_milestones"),
    ]:
        (broken / "run.json").write_text(text)
        assert_refused(launch("--resume", broken), word)


def edited(run, section, field, value):
    """run.json with one field changed."""
    record = json.loads((run / "run.json").read_text())
    record[section][field] = value
    return json.dumps(record)


@pytest.mark.parametrize("damage", ["truncated", "garbage", "other network"])
def test_a_damaged_checkpoint_is_not_loaded(finished_run, tmp_path, damage):
    """What was asked for by its name is not replaced by another one."""
    run = tmp_path / "run"
    shutil.copytree(str(finished_run), str(run))
    data, flags = run / "model-15.data-00000-of-00001", []
    if damage == "truncated":
        data.write_bytes(data.read_bytes()[:1000])
    elif damage == "garbage":
        (run / "model-15.index").write_bytes(os.urandom(300))
    else:
        flags = ["--growth_rate", "13"]
    result = launch(*TINY, *flags, "--load", run, "--log_dir", tmp_path / "new")
    assert_refused(result, "model-15")
    assert not (tmp_path / "new").exists()


def test_another_network_than_that_of_the_checkpoint_is_not_continued(finished_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(str(finished_run), str(run))
    record = json.loads((run / "run.json").read_text())
    record["recipe"]["config"]["growth_rate"][2] = 13
    (run / "run.json").write_text(json.dumps(record))
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    result = launch("--resume", run, "--max_epoch", "5")
    assert_refused(result, "model-15", "block3/layer0/conv1/W")
    assert before == {path.name: path.read_bytes() for path in run.iterdir()}


def test_a_run_that_is_being_written_is_left_alone(tmp_path):
    flags = TINY + ["--max_epoch", "500", "--drop_1", "400", "--drop_2", "450"]
    process = start(*flags, "--log_dir", tmp_path, "--name", "run")
    try:
        wait_for_row(process, tmp_path / "run" / "loss+perf_cpu.txt", 1)
        assert_refused(launch("--resume", tmp_path / "run"), "being written")
    finally:
        process.kill()
        process.communicate()


def test_a_loaded_checkpoint_is_not_needed_to_continue(finished_run, tmp_path):
    shutil.copytree(str(finished_run), str(tmp_path / "source"))
    flags = TINY + ["--max_epoch", "1", "--log_dir", tmp_path, "--name", "run"]
    assert launch(*flags, "--load", tmp_path / "source").code == 0
    shutil.rmtree(str(tmp_path / "source"))
    assert launch("--resume", tmp_path / "run", "--max_epoch", "2").code == 0


def test_new_head_takes_all_but_the_classifier(finished_run, tmp_path):
    """Other data with other classes: the digits' weights, and 100 random classes."""
    flags = [*TINY, "--dataset", "c100", "--fake", "--max_epoch", "1", "--seed", "7"]
    result = launch(*flags, "--load", finished_run, cwd=tmp_path)
    assert_refused(result, "2 of", "linear/W is [60, 10], wanted [60, 100]")
    result = launch(*flags, "--load", finished_run, "--new_head", "--name", "tuned", "--log_dir",
                    tmp_path)  # fmt: skip
    assert result.code == 0, result
    source = read_arrays(str(finished_run / "model-15"))
    start = read_arrays(str(tmp_path / "tuned" / "model-0"))
    head = initial_weights.initial_value("linear/W", (60, 100), seed=7)
    assert np.array_equal(start["linear/W"], head) and not start["linear/b"].any()
    taken = [name for name in start if name.endswith(("/W", "gamma", "beta", "/EMA"))]
    assert all(np.array_equal(start[n], source[n]) for n in taken if n != "linear/W")
    assert json.loads((tmp_path / "tuned" / "run.json").read_text())["settings"]["new_head"]
    # Another network is refused all the same, and the flag alone says nothing.
    deeper = launch(*flags, "--depth", "10", "--load", finished_run, "--new_head", cwd=tmp_path)
    assert_refused(deeper, "block1/layer1/conv1/W is absent, wanted")
    assert_refused(launch(*flags, "--new_head", cwd=tmp_path), "--new_head", "--load")


@pytest.mark.parametrize(
    "redirection", [">&-", "2>&-", "<&-", "<&- >&- 2>&-", "| head -1", "| true", ">/dev/full"]
)
def test_closed_and_failing_streams(finished_run, tmp_path, redirection):
    """The run goes on whatever becomes of the terminal, and nothing is printed into its files."""
    words = [sys.executable, CHECKOUT / "main_gpu.py", *TINY, *SCHEDULE, "--log_dir", tmp_path]
    launcher = " ".join(shlex.quote(str(word)) for word in [*words, "--name", "run"])
    command = "{} {}; exit ${{PIPESTATUS[0]}}".format(launcher, redirection)
    done = subprocess.run(["bash", "-c", command], capture_output=True, env=CLEAN_ENVIRONMENT)
    assert (done.returncode, done.stderr) == (0, b""), done
    ours, theirs = (arrays(run / "model-15") for run in (tmp_path / "run", finished_run))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert results(rows_of(tmp_path / "run")) == results(rows_of(finished_run))
    assert "Training has finished!" in (tmp_path / "run" / "log.log").read_text()


def start_on_terminal(*arguments, ignored=()):
    """Start a run in a session of its own on a terminal; return it and the terminal's other end."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    take = "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    code = take + "os.execv(sys.argv[1], sys.argv[1:])"
    words = [sys.executable, "-c", code, sys.executable, CHECKOUT / "main_gpu.py", *arguments]

    def listen():
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)

    process = subprocess.Popen(
        [str(each) for each in words],
        stdin=slave, stdout=slave, stderr=slave, preexec_fn=listen, env=CLEAN_ENVIRONMENT,
    )  # fmt: skip
    os.close(slave)
    return process, master


@pytest.mark.parametrize("ignored, code", [((), 129), ((signal.SIGHUP,), 0)])
def test_a_terminal_that_is_closed(tmp_path, ignored, code):
    """It hangs up, which ends the run, unless that is ignored, as under nohup."""
    run = tmp_path / "run"
    process, master = start_on_terminal(
        *LONGER, "--log_dir", tmp_path, "--name", "run", ignored=ignored
    )
    wait_for_row(process, run / "loss+perf_cpu.txt", 2)
    os.close(master)
    assert process.wait() == code
    assert (run / "curves.png").exists()
    if code == 0:
        assert [row["epoch"] for row in rows_of(run)] == list(range(1, 13))


def test_a_hangup_is_ignored_under_nohup(tmp_path):
    process = start(*LONGER, "--log_dir", tmp_path, "--name", "run", ignored=(signal.SIGHUP,))
    wait_for_row(process, tmp_path / "run" / "loss+perf_cpu.txt", 2)
    process.send_signal(signal.SIGHUP)
    assert process.communicate()[1] == b"" and process.returncode == 0


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_ends_at_once(first, second):
    code = """
import signal, time
for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)
from training.asked import ends_when_asked
with ends_when_asked():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt as stop:
        print(stop.number, flush=True)
        time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=str(CHECKOUT)
    )
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(first)
    assert int(process.stdout.readline()) == first
    process.send_signal(second)
    assert process.wait() == -second
    process.stdout.close()


def test_what_is_done_together_is_not_interrupted():
    code = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_DFL)
from training.asked import ends_when_asked, together
with ends_when_asked():
    try:
        with together():
            with together():
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.01)
            print("whole")
        print("not said")
    except KeyboardInterrupt as stop:
        print(stop.number)
with ends_when_asked(), together():
    print("forgotten")
"""
    result = run_python("-c", code)
    assert result.out.split() == ["whole", str(int(signal.SIGTERM)), "forgotten"], result


def assert_refused_after_notes(result, *words):
    """As assert_refused, where the data were found, and reported, before."""
    assert_refused(result._replace(out=""), *words)


def test_continuing_with_other_data_is_refused(tmp_path):
    write_binary_layout(tmp_path / "data", count=8)
    write_binary_layout(tmp_path / "other", count=9)
    flags = ["--dataset", "c10", "--depth", "7", "--growth_rate", "4", "--batch_size", "8",
             "--max_epoch", "1", "--log_dir", tmp_path, "--name", "run"]  # fmt: skip
    assert launch(*flags, "--dataset_dir", tmp_path / "data").code == 0
    result = launch("--resume", tmp_path / "run", "--max_epoch", "2", "--dataset_dir",
                    tmp_path / "other")  # fmt: skip
    assert_refused_after_notes(result, "not those")
    assert launch("--resume", tmp_path / "run", "--max_epoch", "2").code == 0


# How a run ends badly ------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    result = launch(*TINY, "--learning_rate", "9e8", "--log_dir", tmp_path, "--name", "run")
    assert result.code == 1
    assert result.err.count("\n") == 1 and result.err.startswith("error: the training loss is ")
    assert "at step " in result.err and "model-0" in result.err
    assert all(np.isfinite(value).all() for value in arrays(tmp_path / "run" / "model-0").values())
    assert [path.name for path in (tmp_path / "run").glob("model-*.index")] == ["model-0.index"]


def test_a_checkpoint_that_can_not_be_written_ends_the_run(tmp_path, monkeypatch):
    settings = command_line.parse(TINY + ["--log_dir", str(tmp_path), "--name", "run"])

    def no_space(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tf.train.Saver, "save", no_space)
    with tf.Graph().as_default(), pytest.raises(RunFailed, match="No space left"):
        train(settings, one_cpu)


@pytest.mark.parametrize(
    "text",
    [
        "disk; No space left on device\n\t [[node save]]",
        "Graph execution error:\n\nDetected at node 's' defined at (most recent call last):\n"
        "    File \"a.py\", line 1, in <module>\nNode: 's'\n"
        "disk; No space left on device\n\t [[{{node s}}]]\nOriginal stack trace for 's':\n",
    ],
)
def test_the_reason_is_told_and_not_the_place(text):
    assert reason_of(tf.errors.ResourceExhaustedError(None, None, text)) == (
        "disk; No space left on device"
    )


def one_cpu(settings):
    return Platform("cpu", ["a cpu"], tf.ConfigProto(allow_soft_placement=True))


def two_devices(settings):
    """Two devices that soft placement puts on the CPU: the wiring of several GPUs."""
    return Platform("cpu", ["one", "two"], tf.ConfigProto(allow_soft_placement=True))


def test_several_devices_share_each_batch(tmp_path, capsys):
    settings = command_line.parse(TINY + ["--max_epoch", "3", "--dropout", "0.1", "--log_dir",
                                          str(tmp_path), "--name", "run"])  # fmt: skip
    with tf.Graph().as_default() as graph:
        train(settings, two_devices)
        towers = [op for op in graph.get_operations() if op.name.endswith("cross_entropy")]
        shapes = {op.name: op.outputs[0].shape.as_list() for op in towers}
    assert shapes["tower0/cross_entropy"] == shapes["tower1/cross_entropy"] == [32]
    rows = rows_of(tmp_path / "run")
    assert [row["global_step"] for row in rows] == [5, 10, 15]
    # Errors are means over both halves of 5 batches of 64.
    for row in rows:
        assert row["train_error"] * 320 == pytest.approx(round(row["train_error"] * 320), abs=1e-3)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]


def test_a_batch_that_devices_can_not_share_is_refused(tmp_path):
    settings = command_line.parse(TINY + ["--batch_size", "63", "--log_dir", str(tmp_path)])
    with pytest.raises(Exception, match="--batch_size 63; accepted: a multiple of 2"):
        train(settings, two_devices)
    assert list(tmp_path.iterdir()) == []


# What is refused before anything is written --------------------------------------------------


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--batch_size", "321"], ["321", "1 to 320"]),
        (["--steps_per_epoch", "6"], ["6", "1 to 5"]),
        (["--gpu", "7"], ["7", "absent"]),
        (["--dataset", "c10"], ["--dataset_dir"]),
        (["--dataset", "c10", "--dataset_dir", "nowhere"], ["nowhere"]),
        (["--load", "nowhere/model-3"], ["nowhere/model-3"]),
        (["--log_dir", "/proc/nowhere"], ["/proc"]),
    ],
)
def test_refused(tmp_path, flags, words):
    if flags[0] == "--log_dir" and not os.path.isdir("/proc"):
        pytest.skip("no /proc here")
    assert_refused(launch(*TINY, *flags, cwd=tmp_path), *words)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_run_directory_is_refused(finished_run):
    before = sorted(path.name for path in finished_run.iterdir())
    result = launch(*TINY, "--log_dir", finished_run.parent, "--name", finished_run.name)
    assert_refused(result, str(finished_run), "--resume", "--name")
    assert sorted(path.name for path in finished_run.iterdir()) == before


def test_a_checkpoint_that_does_not_fit_is_listed(finished_run, tmp_path):
    result = launch(*TINY, "--growth_rate", "13", "--load", finished_run, cwd=tmp_path)
    assert_refused(result, "conv0/W is [3, 3, 3, 24], wanted [3, 3, 3, 26]", "; ...")
    assert len(result.err) < 400
    result = launch(*TINY, "--depth", "10", "--load", finished_run, cwd=tmp_path)
    assert_refused(result, "block1/layer1/conv1/W is absent, wanted")
    # A network with fewer layers would find all it wants.
    fewer = ["--fetch", "plain", "--layers", "1,1"]
    deeper = ["--fetch", "plain", "--layers", "2,2"]
    result = launch(
        *TINY[:2], *deeper, "--subset", "320", "--max_epoch", "1", "--log_dir", tmp_path,
        "--name", "deeper",
    )  # fmt: skip
    assert result.code == 0, result
    result = launch(*TINY[:2], *fewer, "--load", tmp_path / "deeper", cwd=tmp_path)
    assert_refused(result, "block1/layer1/conv1/W is there, wanted absent")
    damaged = tmp_path / "damaged"
    shutil.copytree(str(finished_run), str(damaged))
    (damaged / "model-15.index").write_bytes(b"damaged")
    result = launch(*TINY, "--load", damaged / "model-15", cwd=tmp_path)
    assert_refused(result, "model-15")


# What a run shows ----------------------------------------------------------------------------


def test_plain_lines_where_there_is_no_terminal(tmp_path):
    result = launch(*TINY, *SCHEDULE, "--log_dir", tmp_path, "--name", "run")
    assert result.code == 0 and result.err == "", result
    assert "\r" not in result.out and "\x1b" not in result.out
    opening, epochs, closing = result.out.split("\n\n")
    lines = epochs.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["1/3", "2/3", "3/3"]
    assert all(len(line) <= 80 for line in lines)
    assert len(opening.splitlines()) < 8
    for words in ["sparsenet-7-12", "320 training", "10 classes", "17,026 parameters",
                  "6.6 million MACs", "cpu: ", "float32", str(tmp_path / "run")]:  # fmt: skip
        assert words in opening
    for words in ["test error", str(tmp_path / "run"), "curves.png", "model-15"]:
        assert words in closing


def test_a_run_says_why_it_is_not_on_a_gpu(tmp_path):
    """With a driver, as far as anybody can tell, and a TensorFlow that sees no GPU."""
    if tf.config.experimental.list_physical_devices("GPU"):
        pytest.skip("there is a GPU here")
    driver = tmp_path / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text("#!/bin/sh\necho 'GPU 0: a stand-in'\n")
    driver.chmod(0o755)
    path = "{}:{}".format(driver.parent, os.environ["PATH"])
    flags = TINY + ["--max_epoch", "1", "--log_dir", tmp_path]
    result = launch(*flags, env={"PATH": path})
    assert result.code == 0, result
    (line,) = [line for line in result.out.splitlines() if "on the CPU: " in line]
    assert "lib" in line and ".so" in line and len(line) <= 80


def test_why_it_is_not_a_gpu(monkeypatch):
    monkeypatch.setattr(gpu, "has_nvidia_driver", lambda: False)
    assert gpu.why_not_a_gpu() is None
    monkeypatch.setattr(gpu, "has_nvidia_driver", lambda: True)
    for log, reason in [
        ("", "on the CPU: TensorFlow sees no GPU"),
        ("W dso_loader.cc:55] Could not load dynamic library 'libcudart.so.10.0'; dlerror: x\n",
         "on the CPU: TensorFlow can't load libcudart.so.10.0"),
        ("Could not load dynamic library 'libcudart.so.10.0'; dlerror: x\n"
         "Could not load dynamic library 'libcublas.so.10.0'; dlerror: y\n"
         "Could not load dynamic library 'libcudnn.so.7'; dlerror: z\n",
         "on the CPU: TensorFlow can't load libcudart.so.10.0 and 2 more"),
    ]:  # fmt: skip
        monkeypatch.setattr(gpu, "errors_of", lambda command, environment, log=log: log)
        assert gpu.why_not_a_gpu() == reason
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert gpu.why_not_a_gpu() == "on the CPU: CUDA_VISIBLE_DEVICES hides the GPUs"


def test_a_progress_bar_on_a_terminal(tmp_path):
    process, master = start_on_terminal(*TINY, "--max_epoch", "1", "--log_dir", tmp_path)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux reports that the other side has closed
        while True:
            part = os.read(master, 65536)
            if not part:
                break
            shown += part
    os.close(master)
    assert process.wait() == 0, shown
    assert b"epoch 1/1:" in shown and b"images/s" in shown and b"<" in shown  # elapsed<left


def test_fake_images_and_automatic_names(tmp_path):
    for _ in range(2):
        result = launch("--fake", "--subset", "64", "--batch_size", "32", "--depth",
                        "7", "--growth_rate", "4", "--max_epoch", "1",
                        "--log_dir", tmp_path)  # fmt: skip
        assert result.code == 0, result
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 2
    assert all(name.startswith("sparsenet-7-4-c10-cpu-20") for name in names)


def test_real_images_train(cifar_subset, tmp_path):
    """The loss falls on real photographs, in the binary layout."""
    result = launch("--dataset", "c10", "--dataset_dir", cifar_subset, "--depth", "10",
                    "--growth_rate", "8", "--max_epoch", "2", "--log_dir", tmp_path, "--name",
                    "run")  # fmt: skip
    assert result.code == 0, result
    assert "2000 training images" in result.out and "1000 test images" in result.out
    rows = rows_of(tmp_path / "run")
    assert rows[1]["train_loss"] < rows[0]["train_loss"] < 2.4
    assert rows[1]["global_step"] == 62


def test_recipes_default_to_the_papers_schedule():
    settings = command_line.parse(["--fake"])
    assert settings.recipe == RECIPES["sparsenet-100-24"]
    assert settings.recipe.epochs == 300 and settings.recipe.batch_size == 64

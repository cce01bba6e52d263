"""What the comparison reads that other people, codes and programs wrote."""

import codecs
import contextlib
import io
import os
import shutil

from common.tf_stack import tf

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow.python.framework import function

from comparison import findings, sources
from comparison.checkpoints import compare_checkpoint_files
from comparison.curve_reading import align, read_curves, read_noted
from comparison.curves import compare_curve_files
from comparison.graph.verdict import compare_graph_files
from run_directory.checkpoints import find_checkpoint, is_whole
from sparsenet.errors import UserError
from training import screen

# Tables and logs ---------------------------------------------------------------------------------

ERRORS = [0.5, 0.25]
ROWS = [{"epoch": 1, "test_error": 0.5}, {"epoch": 2, "test_error": 0.25}]


def written(folder, text, name="table.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return str(path)


@pytest.mark.parametrize(
    "encoding, mark", [("utf-8", codecs.BOM_UTF8), ("utf-16", b""), ("utf-16-le", b"")]
)
@pytest.mark.parametrize(
    "text",
    [
        "epoch\ttest_error\n1\t0.5\n2\t0.25\n",
        "epoch;test_error\n1;0,5\n2;0,25\n",
        "sep=;\r\nepoch;test_error\r\n1;0.5\r\n2;0.25\r\n",
        '"Epoch","Test Error"\n"1","0.5"\n"2","0.25"\n',
        "# a run\n# epoch test_error\n1 0.5\n2 0.25\n",
        "epoch | test err (%)\n1 | 50\n2 | 25\n",
        "epoch,val_acc\n1/2,50%\n2/2,75%\n",
    ],
)
def test_tables_of_any_encoding_and_separator(tmp_path, text, encoding, mark):
    path = tmp_path / "table.csv"
    path.write_bytes(mark + text.encode(encoding))
    assert read_curves(str(path)) == ROWS


@pytest.mark.parametrize(
    "name, values",
    [
        ("val_acc", (0.5, 0.75)), ("val_accuracy", (0.5, 0.75)), ("Test Accuracy", (50, 75)),
        ("val_top1", (50, 75)), ("top1", (50, 75)), ("acc@1", (50, 75)), ("prec1", (50, 75)),
        ("val_sparse_categorical_accuracy", (0.5, 0.75)), ("valAcc", (0.5, 0.75)),
        ("test_error", (50, 25)), ("val-error-top1", (0.5, 0.25)), ("validation_error", (50, 25)),
        ("val_err1", (50, 25)), ("top1_err", (50, 25)),
    ],
)  # fmt: skip
def test_columns_by_the_names_of_the_field(tmp_path, name, values):
    text = "epoch,{},val_top5\n1,{},0.9\n2,{},0.95\n".format(name, *values)
    found = read_noted(written(tmp_path, text))
    assert found.rows == ROWS
    is_converted = values != (0.5, 0.25)
    assert bool(found.notes) == is_converted
    assert ("percent" in " ".join(found.notes)) == (max(values) > 1)


def test_a_history_of_keras_counts_from_0(tmp_path):
    text = (
        "epoch,accuracy,learning_rate,loss,val_accuracy,val_loss\n"
        "0,0.25,0.1,1.5,0.5,1.25\n1,0.5,0.1,1.0,NA,1.0\n2,0.5,0.01,,0.75,\n"
    )
    found = read_noted(written(tmp_path, text))
    assert found.rows == [
        {"epoch": 1, "learning_rate": 0.1, "train_error": 0.75, "train_loss": 1.5,
         "test_error": 0.5, "test_loss": 1.25},
        {"epoch": 2, "learning_rate": 0.1, "train_error": 0.5, "train_loss": 1.0, "test_loss": 1.0},
        {"epoch": 3, "learning_rate": 0.01, "train_error": 0.5, "test_error": 0.25},
    ]  # fmt: skip
    assert "counts epochs from 0: shifted to 1" in found.notes


def test_an_epoch_0_before_training_stays(tmp_path):
    text = "epoch,global_step,test_error\n0,0,0.9\n1,782,0.5\n"
    assert [row["epoch"] for row in read_curves(written(tmp_path, text))] == [0, 1]


def test_rows_of_one_epoch_are_merged(tmp_path):
    """Lightning writes training and validation in lines of their own."""
    text = "epoch,step,train_loss,val_loss\n0,781,1.5,\n0,781,,1.25\n1,1563,1.0,\n1,1563,,0.75\n"
    first, second = read_curves(written(tmp_path, text))
    assert first == {"epoch": 1, "global_step": 782, "train_loss": 1.5, "test_loss": 1.25}
    assert second["test_loss"] == 0.75


def test_epochs_are_aligned_by_their_steps():
    def rows(first, step, count=3):
        return [{"epoch": first + i, "global_step": step * (i + 1)} for i in range(count)]

    for a, b, side in ((rows(0, 782), rows(1, 782), "A"), (rows(1, 782), rows(0, 782), "B")):
        *tables, notes = align(a, b)
        assert [[row["epoch"] for row in table] for table in tables] == [[1, 2, 3]] * 2
        assert notes[0].startswith(side)
    # Epochs of other lengths meet at some steps, and are not those of each other.
    assert align(rows(1, 3), rows(1, 2))[2] == []
    assert align(rows(1, 2), rows(1, 4))[2] == []


def test_what_was_converted_is_shown(tmp_path):
    a = written(tmp_path, "epoch,test_error\n1,50\n2,25\n", "a.csv")
    b = written(tmp_path, "epoch,val_acc\n0,0.5\n1,0.75\n", "b.csv")
    part = compare_curve_files(sources.find(a), sources.find(b), [], findings.Thresholds(), None)
    assert part.verdict == findings.SAME, part.headline
    shown = " ".join(part.always)
    assert "A: `test_error` is in percent" in shown
    assert "B: `val_acc` is an accuracy" in shown and "B: counts epochs from 0" in shown


def printed(row):
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        screen.print_header("test")
        screen.print_epoch(row, 300, 61.0)
    return stream.getvalue()


def test_what_our_launchers_print_is_read(tmp_path):
    row = {
        "epoch": 7,
        "learning_rate": 0.1,
        "train_loss": 1.25,
        "train_error": 0.5,
        "test_loss": 1.5,
        "test_error": 0.25,
        "images_per_second": 640,
        "epoch_seconds": 61.0,
    }
    text = "recipe           sparsenet\n\n" + printed(row) + "\ntest error       25.00 %\n"
    (tmp_path / "logs").mkdir()
    path = written(tmp_path / "logs", text, "train_0.log")
    assert read_curves(path) == [row]
    assert sources.find(str(tmp_path / "logs")).curves == path


def test_losses_of_modelzoo_are_read(tmp_path):
    path = written(tmp_path, "1.5\n1.25\n", "train_SparseNet_bs64_1p_acc_loss.txt")
    found = read_noted(path)
    assert found.rows == [{"epoch": 1, "train_loss": 1.5}, {"epoch": 2, "train_loss": 1.25}]
    assert "train_loss" in found.notes[0]
    assert sources.find(str(tmp_path)).curves == path


def test_a_log_of_keras_is_read(tmp_path):
    text = (
        "Epoch 1/2\n10/782 [....] - loss: 2.3 - acc: 0.1\r782/782 [====] - 61s 78ms/step - "
        "loss: 1.5 - acc: 0.5 - val_loss: 1.25 - val_acc: 0.75\nEpoch 2/2\n782/782 - loss: 1.0\n"
    )
    first, second = read_curves(written(tmp_path, text, "keras.log"))
    assert first == {"epoch": 1, "train_loss": 1.5, "train_error": 0.5, "test_loss": 1.25,
                     "test_error": 0.25}  # fmt: skip
    assert second == {"epoch": 2, "train_loss": 1.0}


def test_a_record_and_a_graph_of_windows_are_read(tmp_path):
    record = written(tmp_path, "\ufeff{\r\n}", "run.json")
    assert sources.find(record).record == {}
    plain = write_graph(tmp_path / "plain.pbtxt", layers)
    marked = written(tmp_path, "\ufeff" + plain.read_text().replace("\n", "\r\n"), "b.pbtxt")
    assert graph_part(plain, marked).verdict == findings.SAME


@pytest.mark.parametrize("text", ["", "epoch,name\n1,x\n", "\0\0\0", "epoch,test_error\nx,y\n"])
def test_a_table_without_an_epoch_is_refused(tmp_path, text):
    with pytest.raises(UserError, match="holds no epoch"):
        read_curves(written(tmp_path, text))


# Folders -----------------------------------------------------------------------------------------


def write_named(prefix, value=1.0):
    """A checkpoint of TensorFlow 1."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.get_variable("conv0/W", initializer=np.full(3, value, np.float32),
                                   use_resource=False)  # fmt: skip
        session.run(variable.initializer)
        tf.train.Saver([variable]).save(session, str(prefix), write_meta_graph=False)


def write_by_objects(prefix, value=1.0, scope="conv0"):
    """A checkpoint of TensorFlow 2, with a slot of an optimizer and a counter."""
    with tf.Graph().as_default(), tf.Session() as session:
        with tf.variable_scope(scope):
            variable = tf.get_variable("W", initializer=np.full(3, value, np.float32))
        optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
        optimizer.minimize(tf.reduce_sum(variable))
        session.run(tf.global_variables_initializer())
        saver = tf.train.Checkpoint(model=variable, optimizer=optimizer)
        saver.save(str(prefix), session=session)


def checkpoint_part(a, b):
    a, b = sources.find(str(a)), sources.find(str(b))
    return compare_checkpoint_files(a, b, findings.Thresholds(), alone=True, same_stack=False)


def test_an_object_based_checkpoint_is_compared_by_the_names_of_its_variables(tmp_path):
    write_by_objects(tmp_path / "a" / "ckpt")
    write_by_objects(tmp_path / "b" / "ckpt", 2.0)
    write_by_objects(tmp_path / "renumbered" / "ckpt", scope="conv0_1")
    write_named(tmp_path / "named" / "model-1")
    assert checkpoint_part(tmp_path / "a", tmp_path / "a").verdict == findings.SAME
    part = checkpoint_part(tmp_path / "a", tmp_path / "b")
    assert part.data["failures"]["1"] == ["conv0/W"]
    kinds = {v.name: v.kind for v in part.data["comparisons"][0].variables}
    assert kinds.pop("conv0/W") == "weights"
    assert set(kinds.values()) == {"slots", "other"}, kinds
    assert checkpoint_part(tmp_path / "a", tmp_path / "renumbered").verdict == findings.SAME
    part = checkpoint_part(tmp_path / "a", tmp_path / "named")
    assert part.verdict == findings.SAME
    assert "conv0/W" in part.headline


def save_model(folder, value):
    with tf.Graph().as_default(), tf.Session() as session:
        image = tf.placeholder(tf.float32, [3], "image")
        variable = tf.get_variable("conv0/W", initializer=np.zeros(3, np.float32))
        result = tf.multiply(image, variable, name="result")
        initial = variable.initializer.inputs[1]
        session.run(variable.initializer, {initial: np.full(3, value, np.float32)})
        tf.saved_model.simple_save(session, str(folder), {"image": image}, {"result": result})


def test_a_saved_model_is_compared_by_its_graph_and_variables(tmp_path):
    save_model(tmp_path / "a", 1.0)
    save_model(tmp_path / "b", 2.0)
    source = sources.find(str(tmp_path / "a"))
    assert compare_graph_files(source, sources.find(str(tmp_path / "b"))).verdict == findings.SAME
    assert checkpoint_part(tmp_path / "a", tmp_path / "a").verdict == findings.SAME
    part = checkpoint_part(tmp_path / "a", tmp_path / "b")
    assert list(part.data["failures"].values()) == [["conv0/W"]]


def test_checkpoints_are_found_in_a_folder_of_the_run(tmp_path):
    write_named(tmp_path / "checkpoint_gpu" / "model-5")
    assert list(sources.find(str(tmp_path)).checkpoints) == [5]
    write_named(tmp_path / "checkpoint_npu" / "model-5")
    with pytest.raises(UserError, match="checkpoint_gpu, checkpoint_npu; accepted: one of them"):
        sources.find(str(tmp_path))


@pytest.mark.parametrize(
    "name, step", [("model-15", 15), ("model.ckpt-15", 15), ("cp-0005.ckpt", 5), ("w.05", 5),
                   ("variables", sources.UNKNOWN_STEP), ("resnet50", sources.UNKNOWN_STEP)],
)  # fmt: skip
def test_the_step_in_a_name(name, step):
    assert sources.step_of(os.path.join("run-3", name)) == step


@pytest.mark.parametrize("old", ["/gone/run/", "C:\\\\runs\\\\old\\\\", "../old/", ""])
def test_a_moved_checkpoint_is_the_one_beside_its_state_file(tmp_path, old):
    write_named(tmp_path / "best")
    write_named(tmp_path / "newest")
    state = 'model_checkpoint_path: "{0}best"\nall_model_checkpoint_paths: "{0}newest"\n'
    (tmp_path / "checkpoint").write_text(state.format(old))
    assert find_checkpoint(str(tmp_path)) == str(tmp_path / "best")
    assert sources.find(str(tmp_path)).checkpoints == {sources.UNKNOWN_STEP: str(tmp_path / "best")}


def test_a_checkpoint_counts_with_all_of_its_shards(tmp_path):
    write_named(tmp_path / "model-5")
    data = tmp_path / "model-5.data-00000-of-00001"
    shutil.copy(str(data), str(tmp_path / "model-5.data-00000-of-00002"))
    data.unlink()
    assert not is_whole(str(tmp_path / "model-5"))
    (tmp_path / "model-5.data-00001-of-00002").write_bytes(b"")
    assert is_whole(str(tmp_path / "model-5"))


# Graphs ------------------------------------------------------------------------------------------


def write_graph(path, build, shapes=True):
    with tf.Graph().as_default() as graph:
        build()
        path.write_text(text_format.MessageToString(graph.as_graph_def(add_shapes=shapes)))
    return path


def graph_part(a, b):
    return compare_graph_files(sources.find(str(a)), sources.find(str(b)))


def layers(join=lambda a, b: [b, a]):
    """Three layers, the last of which reads what `join` gives of the outputs before."""

    def convolution(name, x, channels):
        with tf.variable_scope(name):
            width = int(x.shape[3])
            scale = tf.get_variable("gamma", [width], use_resource=False)
            x = tf.nn.relu(x * scale, name="relu")
            kernel = tf.get_variable("W", [3, 3, width, channels], use_resource=False)
            return tf.nn.conv2d(x, kernel, strides=1, padding="SAME", name="conv")

    first = convolution("a", tf.placeholder(tf.float32, [4, 8, 8, 3], "images"), 5)
    joined = tf.concat(join(first, convolution("b", first, 4)), 3, name="joined")
    cost = tf.reduce_sum(tf.square(convolution("c", joined, 2)))
    tf.train.MomentumOptimizer(0.1, 0.9).minimize(cost)


@pytest.mark.parametrize("join", [lambda a, b: [b], lambda a, b: [b, a, a]])
def test_the_cause_is_named_before_the_shapes_that_follow_from_it(tmp_path, join):
    a = write_graph(tmp_path / "a.pbtxt", layers)
    b = write_graph(tmp_path / "b.pbtxt", lambda: layers(join))
    for pair in ((a, b), (b, a)):
        differences = graph_part(*pair).data["differences"]
        assert differences[0].op == "ConcatV2", differences[0]
        assert "c/W" in [each.name for each in differences]  # whose shape follows


def test_an_unknown_op_keeps_the_shapes_of_the_others(tmp_path):
    a = write_graph(tmp_path / "a.pbtxt", layers)
    b = write_graph(tmp_path / "b.pbtxt", layers, shapes=False)
    text = b.read_text()
    b.write_text(text.replace('name: "b/relu"\n  op: "Relu"', 'name: "b/relu"\n  op: "FastRelu"'))
    (changed,) = graph_part(a, b).data["differences"]
    assert (changed.op, changed.name) == ("Relu -> FastRelu", "b/relu")


def test_an_unknown_op_that_changes_the_shape_leaves_the_graph_readable(tmp_path):
    def build():
        x = tf.nn.max_pool2d(tf.placeholder(tf.float32, [4, 8, 8, 3], "images"), 2, 2, "SAME")
        tf.reshape(x, [4, 48], name="flat")

    path = write_graph(tmp_path / "a.pbtxt", build, shapes=False)
    path.write_text(path.read_text().replace('op: "MaxPool"', 'op: "PoolOfTomorrow"'))
    assert graph_part(path, path).verdict == findings.SAME


def test_attributes_of_a_later_version_are_ignored_at_their_default(tmp_path):
    def build():
        images, ones = tf.placeholder(tf.float32, [2, 4, 4, 3]), tf.ones([3])
        tf.raw_ops.FusedBatchNormV3(x=images, scale=ones, offset=ones, mean=ones, variance=ones,
                                    is_training=False)  # fmt: skip

    def with_factor(factor):
        graph = tf.GraphDef()
        text_format.Parse(plain.read_text(), graph)
        for node in graph.node:
            if node.op == "FusedBatchNormV3":
                node.attr["exponential_avg_factor"].f = factor
        path = tmp_path / "{}.pbtxt".format(factor)
        path.write_text(text_format.MessageToString(graph))
        return path

    plain = write_graph(tmp_path / "plain.pbtxt", build)
    assert graph_part(plain, with_factor(1.0)).verdict == findings.SAME
    assert graph_part(plain, with_factor(0.5)).verdict == findings.DIFFERENT


def gradient_of_mean(axis, keepdims, is_old):
    """The gradient of a mean over a batch of unknown size, as TensorFlow 1.15 or 2 builds it."""
    x = tf.placeholder(tf.float32, [None, 8], "x")
    tf.reduce_mean(x, axis, keepdims=keepdims, name="mean")
    weights = tf.get_variable("w", [], use_resource=False)
    kept_shape = [None, 1] if axis == 1 else [1, 8]
    upstream = tf.placeholder(tf.float32, kept_shape if keepdims else kept_shape[1 - axis :][:1])
    with tf.name_scope("gradients/mean_grad"):
        shape = tf.shape(x)
        kept = tf.dynamic_stitch([[0, 1], [axis]], [shape, [1]])
        if is_old:
            divisor = tf.reduce_prod(shape) // (8 if axis == 0 else tf.maximum(8 // 8, 1))
            spread = tf.tile(tf.reshape(upstream, kept), shape // tf.maximum(kept, 1))
        else:
            divisor = tf.reduce_prod(tf.gather(shape, [axis]))
            spread = upstream if keepdims else tf.reshape(upstream, kept)
            spread = tf.broadcast_to(spread, shape)
        gradient = spread / tf.cast(divisor, tf.float32)
    tf.raw_ops.ApplyGradientDescent(var=weights, alpha=0.1, delta=tf.reduce_sum(gradient))


@pytest.mark.parametrize("keepdims", [True, False])
def test_gradients_of_means_over_an_unknown_batch(tmp_path, keepdims):
    old, new = (
        [write_graph(tmp_path / "{}{}.pbtxt".format(is_old, axis),
                     lambda o=is_old, a=axis: gradient_of_mean(a, keepdims, o))
         for axis in (0, 1)] for is_old in (True, False)
    )  # fmt: skip
    assert [graph_part(*pair).verdict for pair in zip(old, new)] == [findings.SAME] * 2
    assert graph_part(old[0], new[1]).verdict == findings.DIFFERENT


def test_functions_that_save_are_ignored_and_others_compared(tmp_path):
    """As in a SavedModel of TensorFlow 2; names of functions carry numbers."""

    def build(number, factor, path):
        @function.Defun(tf.float32, func_name="inner_{}".format(number))
        def inner(x):
            return factor * x

        @function.Defun(tf.float32, func_name="outer_{}".format(number))
        def outer(x):
            return inner(x)

        @function.Defun(tf.float32, func_name="save_{}".format(number))
        def save(x):
            tf.raw_ops.SaveV2(prefix=path, tensor_names=["x"], shape_and_slices=[""], tensors=[x])
            return x

        x = tf.placeholder(tf.float32, [2], "x")
        for each in (outer, save):
            tf.raw_ops.PartitionedCall(args=[x], Tout=[tf.float32], f=each)

    one, same, other = (
        write_graph(tmp_path / "{}.pbtxt".format(i), lambda a=arguments: build(*a))
        for i, arguments in enumerate([(1, 2.0, "a"), (7, 2.0, "b"), (1, 3.0, "a")])
    )
    assert graph_part(one, same).verdict == findings.SAME
    assert graph_part(one, other).verdict == findings.DIFFERENT

"""TensorFlow's checkpoints, read without it: the same values, and damage in one sentence."""

import os
import struct

from common.tf_stack import tf

import numpy as np
import pytest
from conftest import CHECKOUT

from common.crc32c import LANE, crc32c, masked
from run_directory import bundle
from run_directory.checkpoints import read_arrays
from sparsenet.errors import UserError

VALUE = np.arange(6, dtype="<f4").reshape(2, 3)
FLOAT = 1


# A writer that takes every liberty, with right checksums ------------------------------------------


def varint(number):
    number &= (1 << 64) - 1
    content = bytearray()
    while number >= 0x80:
        content.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(content + bytes([number]))


def field(number, value):
    """A field of a message: a number, a message or, as a tuple, one of four bytes."""
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, tuple):
        return varint(number << 3 | 5) + struct.pack("<I", *value)
    return varint(number << 3) + varint(value)


def entry(shape=(2, 3), type_=FLOAT, shard=0, offset=0, size=24, crc=None, more=b""):
    dimensions = b"".join(field(2, field(1, each)) for each in shape)
    crc = masked(crc32c(VALUE.tobytes())) if crc is None else crc
    numbers = [(1, type_), (3, shard), (4, offset), (5, size), (6, (crc,))]
    return b"".join(field(*each) for each in numbers) + field(2, dimensions) + more


def block(pairs, shared=0, restarts=(0,)):
    content = b"".join(
        varint(shared if i else 0) + varint(len(key)) + varint(len(value)) + key + value
        for i, (key, value) in enumerate(pairs)
    )
    return content + b"".join(struct.pack("<I", each) for each in (*restarts, len(restarts)))


def with_trailer(content, kind=0):
    return content + bytes([kind]) + struct.pack("<I", masked(crc32c(content + bytes([kind]))))


def table(data, last=b"\xff", handles=None, kind=0):
    """The table of one block of data; handles: (start, size) of each block in place of its own."""
    content = with_trailer(data, kind)
    handles = handles or [(0, len(data))]
    index = block([(last + bytes([i]), varint(a) + varint(n)) for i, (a, n) in enumerate(handles)])
    footer = varint(0) + varint(0) + varint(len(content)) + varint(len(index))
    return content + with_trailer(index) + footer.ljust(40, b"\0") + bundle.MAGIC


HEADER = (b"", field(1, 1))


DATA = VALUE.tobytes()


def written(folder, index, data=DATA):
    (folder / "model-1.index").write_bytes(index)
    (folder / "model-1.data-00000-of-00001").write_bytes(data)
    return str(folder / "model-1")


def with_entry(**changes):
    return table(block([HEADER, (b"w", entry(**changes))]))


# Read -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, LANE - 1, LANE, 5 * LANE + 3])
def test_the_checksum_is_that_of_the_definition(size):
    content = np.random.RandomState(size).bytes(size)
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    assert crc32c(content) == crc ^ 0xFFFFFFFF
    assert crc32c(content[size // 2 :], crc32c(content[: size // 2])) == crc32c(content)
    assert crc32c(b"123456789") == 0xE3069283


def test_the_values_are_those_that_tensorflow_reads(tmp_path):
    """In parts, as strings, without elements, and of a type that numpy has not."""

    def variable(name, shape, parts=1, axis=0, dtype=tf.float32):
        tf.get_variable(
            name, shape, dtype, tf.random_uniform_initializer(0, 100, dtype=dtype),
            partitioner=tf.fixed_size_partitioner(parts, axis=axis), use_resource=False,
        )  # fmt: skip

    with tf.Graph().as_default(), tf.Session() as session:
        variable("rows", [1000, 3], 3)
        variable("columns", [2, 70000], 3, 1, tf.int32)
        variable("half", [4], dtype=tf.float16)
        variable("brain", [4], dtype=tf.bfloat16)
        for name, value in [
            ("text", np.array([b"a\0", b"", b"long" * 100], object)),
            ("flags", np.array([True, False])),
            ("empty", np.zeros((0, 4), np.float32)),
            ("scalar", np.int64(-5)),
        ]:
            tf.get_variable(name, initializer=value, use_resource=False)
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(tmp_path / "model-1"))
    found = read_arrays(str(tmp_path / "model-1"))
    reader = tf.train.load_checkpoint(str(tmp_path / "model-1"))
    assert set(found) == set(reader.get_variable_to_shape_map())
    for name, value in found.items():
        expected = np.asarray(reader.get_tensor(name))
        assert value.dtype == expected.dtype and np.array_equal(value, expected), name


def test_the_crafted_form_is_a_whole_one(tmp_path):
    """So that what the next test refuses is refused for its fault alone."""
    prefix = written(tmp_path, with_entry())
    assert np.array_equal(read_arrays(prefix)["w"], VALUE)
    assert np.array_equal(tf.train.load_checkpoint(prefix).get_tensor("w"), VALUE)


TWO = [HEADER, (b"v", entry()), (b"w", entry())]
LONG = b"n" * (bundle.LONGEST_KEY + 1)
SLICED = field(7, field(1, field(1, 0) + field(2, 2)) + field(1, b""))


@pytest.mark.parametrize(
    "index, words",
    [
        (with_entry(shape=(2, -3)), "has no shape"),
        (with_entry(shape=(1 << 40, 1 << 40)), "elements in 24 bytes"),
        (with_entry(shape=(0, 1 << 62), size=0, crc=masked(0)), "its shape is"),
        (with_entry(shape=(1,) * 100 + (6,)), "its shape is"),
        (with_entry(type_=77), "type 77"),
        (with_entry(type_=20), "type 20"),  # a resource
        (with_entry(type_=101), "type 101"),  # a reference
        (with_entry(shard=1), "in no file"),
        (with_entry(shard=-1), "in no file"),
        (with_entry(offset=8), "cut short"),
        (with_entry(offset=-8), "overlap"),
        (with_entry(size=-24), "no size"),
        (with_entry(size=1 << 62), "cut short"),
        (with_entry(crc=1), "fail their checksum"),
        (with_entry(type_=7), "its data fail their checksum"),
        (with_entry(type_=7, shape=(1 << 40,)), "strings in 24 bytes"),
        (with_entry(more=SLICED), "a part of it is absent"),
        (table(block([HEADER, (b"w", b"\xff" * 11)])), "has no end"),
        (table(block([HEADER, (b"w", b"\x12\x7f")])), "cut short"),
        (table(block([(b"w", entry())])), "no header"),
        (table(block([(b"", field(1, 0)), (b"w", entry())])), "0 files of data"),
        (table(block([(b"", field(1, 1) + field(2, 1)), (b"w", entry())])), "another order"),
        (table(block(TWO)), "overlap"),
        (table(block(TWO[::-1])), "not in order"),
        (table(block([HEADER, (b"\xff", entry())]), last=b"\xff\xff"), "UTF-8"),
        (table(block([HEADER, (LONG, entry())])), "a name is over"),
        (table(block([HEADER, (b"w", entry())], shared=9)), "an entry is cut short"),
        (table(block([HEADER, (b"w", entry())], restarts=(3,))), "a block is damaged"),
        (table(block([HEADER, (b"w", entry())], restarts=(0, 1))), "a block is damaged"),
        (table(block([HEADER]), handles=[(0, 1 << 40)]), "a block is cut short"),
        (table(block([HEADER]), handles=[(0, len(block([HEADER])))] * 2), "overlap"),
        (table(block([HEADER, (b"w", entry())]), kind=1), "compressed"),
        (with_entry()[1:], "cut short"),
        (b"\0" * 100, "no index"),
        (b"", "no index"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)  # fmt: skip
def test_an_index_that_lies_is_refused(tmp_path, index, words):
    with pytest.raises(UserError, match="model-1 can't be read: .*" + words):
        read_arrays(written(tmp_path, index))


def test_no_changed_byte_goes_unseen(tmp_path):
    """All bytes but those of the footer's padding and of the checksum itself are covered."""
    index, data = with_entry(), DATA
    for place in [*range(0, len(index) - bundle.FOOTER), *range(-8, 0)]:
        changed = bytearray(index)
        changed[place] ^= 1
        with pytest.raises(UserError):
            read_arrays(written(tmp_path, bytes(changed)))
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(UserError):
            read_arrays(written(tmp_path, index, bytes(changed)))
    with pytest.raises(UserError, match="cut short"):
        read_arrays(written(tmp_path, index, data[:-1]))


def test_a_whole_checkpoint_passes_all_checks():
    for stack in ("modern", "legacy"):
        bundle.read(os.path.join(str(CHECKOUT), "tests", "old_runs", stack, "model-4"))

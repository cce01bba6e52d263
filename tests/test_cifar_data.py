import bz2
import contextlib
import gzip
import io
import lzma
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from conftest import (
    CHECKOUT,
    SHARED_DATA,
    assert_refused,
    random_set,
    run_python,
    write_binary_layout,
    write_python_layout,
)
from scipy.io import loadmat, savemat

import cifar_data
from cifar_data import Augmentation, ImageSet
from common import safe_pickle, streams, tar
from common.archives import read_archive
from run_directory.settings import settings_from_dict, settings_to_dict
from sparsenet.errors import UserError
from training.command_line import parse
from training.prepare import load_data

BLACK = Augmentation(4, (0, 0, 0), mirror=True)


def images_of(planes):
    return planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


# Layouts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 4, pickle.HIGHEST_PROTOCOL])
def test_python_layout(tmp_path, protocol, capsys):
    planes, labels = write_python_layout(tmp_path / "cifar-10-batches-py", protocol=protocol)
    data = cifar_data.load("c10", str(tmp_path))
    assert np.array_equal(data.train.images[:20], images_of(planes))
    assert np.array_equal(data.train.labels[:20], labels)
    assert data.train.images.shape == (100, 32, 32, 3)
    assert data.test.images.shape == (20, 32, 32, 3)
    assert data.train.images.dtype == np.uint8 and data.train.labels.dtype == np.int32
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and "100 training images" in said[0] and "20 test images" in said[1]


def test_a_batch_as_python_2_wrote_the_official_ones():
    pixels = bytes(range(256)) * 12
    content = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\n"
        b"q\x04K\x00\x85U\x01b\x87Rq\x05(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01"
        b"\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x00\x0c\x00\x00"
        + pixels
        + b"tbU\x06labelsq\x08]q\x09K\x03aU\x09filenamesq\x0a]q\x0bU\x05a.pngq\x0cau."
    )
    found = cifar_data._read_python(content, "data_batch_1", 10)
    planes = np.frombuffer(pixels, np.uint8)[None]
    assert np.array_equal(found.images, images_of(planes)) and found.labels.tolist() == [3]


def test_all_layouts_of_the_same_images_are_the_same(tmp_path):
    write_python_layout(tmp_path / "a" / "cifar-10-batches-py")
    write_binary_layout(tmp_path / "b" / "cifar-10-batches-bin")
    for kind, source in [("python", "a/cifar-10-batches-py"), ("binary", "b/cifar-10-batches-bin")]:
        target = tmp_path / kind
        target.mkdir()
        with tarfile.open(str(target / "cifar-10-{}.tar.gz".format(kind)), "w:gz") as archive:
            archive.add(str(tmp_path / source), arcname=os.path.basename(source))
    places = ["a", "a/cifar-10-batches-py", "b", "b/cifar-10-batches-bin", "python", "binary",
              "binary/cifar-10-binary.tar.gz"]  # fmt: skip
    loaded = [cifar_data.load("c10", str(tmp_path / place)) for place in places]
    for other in loaded[1:]:
        for split in ("train", "test"):
            for part in ("images", "labels"):
                assert np.array_equal(
                    getattr(getattr(loaded[0], split), part), getattr(getattr(other, split), part)
                )


def test_cifar100_reads_fine_labels(tmp_path):
    planes, fine = random_set(200, 100, 0)
    coarse = fine // 5
    python, binary = tmp_path / "cifar-100-python", tmp_path / "cifar-100-binary"
    python.mkdir()
    binary.mkdir()
    for name in ("train", "test"):
        batch = {"data": planes, "fine_labels": fine.tolist(), "coarse_labels": coarse.tolist()}
        (python / name).write_bytes(pickle.dumps(batch, 2))
        records = np.concatenate([coarse[:, None], fine[:, None], planes], axis=1)
        (binary / (name + ".bin")).write_bytes(records.astype(np.uint8).tobytes())
    for folder in (python, binary):
        data = cifar_data.load("c100", str(folder))
        assert np.array_equal(data.train.labels, fine)
        assert np.array_equal(data.test.images, images_of(planes))
        assert data.classes == 100


def write_svhn(folder, name, count, first_label=1):
    stream = np.random.RandomState(count)
    labels = (np.arange(count) + first_label - 1) % 10 + 1
    images = stream.randint(0, 256, (32, 32, 3, count)).astype(np.uint8)
    savemat(str(folder / name), {"X": images, "y": labels.astype(np.uint8)[:, None]})
    return images.transpose(3, 0, 1, 2), labels % 10


def test_svhn_with_and_without_extra(tmp_path):
    train, labels = write_svhn(tmp_path, "train_32x32.mat", 30)
    write_svhn(tmp_path, "test_32x32.mat", 10)
    data = cifar_data.load("svhn", str(tmp_path))
    assert np.array_equal(data.train.images, train)
    assert np.array_equal(data.train.labels, labels)  # 10 is the digit zero
    assert not data.mirror
    extra, _ = write_svhn(tmp_path, "extra_32x32.mat", 40)
    assert np.array_equal(cifar_data.load("svhn", str(tmp_path)).train.images[30:], extra)


def test_real_svhn_digits(tmp_path):
    source = SHARED_DATA / "svhn_train_32x32_first1083.mat"
    if not source.exists():
        pytest.skip("the SVHN digits are not here: {}".format(source.name))
    for name in ("train_32x32.mat", "test_32x32.mat"):
        shutil.copy(str(source), str(tmp_path / name))
    data = cifar_data.load("svhn", str(tmp_path))
    assert data.train.images.shape == (1083, 32, 32, 3)
    assert set(data.train.labels) == set(range(10))


def test_real_cifar_subset(cifar_subset):
    data = cifar_data.load("c10", str(cifar_subset))
    assert np.bincount(data.train.labels).tolist() == [200] * 10
    assert np.bincount(data.test.labels).tolist() == [100] * 10


def test_digits_are_the_same_everywhere():
    data = cifar_data.load("digits", None)
    assert len(data.train.labels) == 1437 and len(data.test.labels) == 360
    # Stratified: each class has its share of the test set, to the nearest image.
    shares = np.bincount(data.test.labels) / np.bincount(
        np.concatenate([data.train.labels, data.test.labels])
    )
    assert abs(shares - 360 / 1797).max() < 0.004
    # The split of the other stack, which has another scikit-learn.
    assert data.test.fingerprint()["sha256"].startswith(DIGITS_TEST_SHA256)


DIGITS_TEST_SHA256 = "0468ad2fa8dfe13a46cf7f016b13e4a3"


# Bad data --------------------------------------------------------------------------------------


def refused(folder, *words, name="c10"):
    with pytest.raises(UserError) as error:
        cifar_data.load(name, str(folder))
    for word in words:
        assert word in str(error.value), error.value


def test_missing_and_empty_directories(tmp_path):
    refused(tmp_path / "nowhere", "nowhere", "does not exist")
    refused(tmp_path, str(tmp_path), "data_batch_1")
    refused(tmp_path, "train_32x32.mat", name="svhn")
    with pytest.raises(UserError, match="--dataset_dir"):
        cifar_data.load("c10", None)


@pytest.mark.parametrize("file", ["data_batch_3", "test_batch"])
def test_a_missing_file_is_named(tmp_path, file):
    write_python_layout(tmp_path)
    (tmp_path / file).unlink()
    refused(tmp_path, file, "missing")


@pytest.mark.parametrize("cut", [1, 3072])
def test_truncated_binary_file(tmp_path, cut):
    write_binary_layout(tmp_path)
    path = tmp_path / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-cut])
    refused(tmp_path, "data_batch_2.bin", "3073")


def test_empty_binary_file(tmp_path):
    write_binary_layout(tmp_path)
    (tmp_path / "test_batch.bin").write_bytes(b"")
    refused(tmp_path, "test_batch.bin", "0 bytes")


def test_label_out_of_range(tmp_path):
    write_binary_layout(tmp_path / "bin")
    path = tmp_path / "bin" / "data_batch_1.bin"
    content = bytearray(path.read_bytes())
    content[3073 * 4] = 10
    path.write_bytes(bytes(content))
    refused(tmp_path / "bin", "data_batch_1.bin", "image 4 has label 10", "0 to 9")
    write_python_layout(tmp_path / "py")
    batch = {"data": np.zeros((3, 3072), np.uint8), "labels": [0, -1, 2]}
    (tmp_path / "py" / "test_batch").write_bytes(pickle.dumps(batch, 2))
    refused(tmp_path / "py", "test_batch", "image 1 has label -1")


@pytest.mark.parametrize(
    "batch, word",
    [
        ({"labels": [0]}, "data"),
        ({"data": np.zeros((1, 3072), np.uint8)}, "labels"),
        ({"data": np.zeros((1, 3071), np.uint8), "labels": [0]}, "3072"),
        ({"data": np.zeros((1, 3072), np.float32), "labels": [0]}, "whole numbers"),
        ({"data": np.zeros((1, 3072), np.uint16), "labels": [0]}, "uint8"),
        ({"data": np.zeros((1, 3072), object), "labels": [0]}, "whole numbers"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "labels"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["cat"]}, "labels"),
        ({"data": np.zeros((0, 3072), np.uint8), "labels": []}, "data"),
        ([1, 2], "python layout"),
    ],
)
def test_python_files_with_other_content(tmp_path, batch, word):
    write_python_layout(tmp_path)
    (tmp_path / "data_batch_5").write_bytes(pickle.dumps(batch, 2))
    refused(tmp_path, "data_batch_5", word)


@pytest.mark.parametrize("keep", [0, 1, 100, 3000])
def test_truncated_python_file(tmp_path, keep):
    write_python_layout(tmp_path)
    path = tmp_path / "data_batch_4"
    path.write_bytes(path.read_bytes()[:keep])
    refused(tmp_path, "data_batch_4")


class Intruder:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_crafted_pickle_does_not_run_code(tmp_path):
    write_python_layout(tmp_path)
    marker = tmp_path / "intruder-was-here"
    batch = {"data": Intruder("touch '{}'".format(marker)), "labels": [0]}
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(batch, 2))
    refused(tmp_path, "data_batch_1", "system")
    assert not marker.exists()


def test_a_pickle_can_not_forge_an_array_of_pointers(tmp_path):
    """numpy's own dtype.__setstate__ would take eight bytes of the file for an object."""
    write_python_layout(tmp_path)
    forged = (
        b"\x80\x02}(U\x04dataK\x00U\x06labels"
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02V8K\x00K\x01tR"
        b"(K\x03U\x01|N(U\x01ft}U\x01f(cnumpy\ndtype\n(U\x01OK\x00K\x01tRK\x00tsK\x08K\x01K\x00tb"
        b"U\x08AAAAAAAAtRu."
    )
    (tmp_path / "data_batch_1").write_bytes(forged)
    refused(tmp_path, "data_batch_1", "V8")


def laughs(depth=30):
    """Return the operations that make lists within each other, of 10 ** depth numbers."""
    return b"](" + b"K\1" * 10 + b"eq\0" + (b"0](" + b"h\0" * 10 + b"eq\0") * (depth - 1)


COLLIDING = b"".join(b"\x8a\x08" + struct.pack("<q", i * (2**61 - 1)) + b"N" for i in range(4))
# What a pickle asks for -> its content, and what is said of it.
GREEDY_PICKLES = {
    "a memo of 2^27 entries": (b"Nr\xff\xff\xff\x07.", "a NoneType"),
    "data of 10^30 numbers": (b"(Vlabels\n]Vdata\n" + laughs() + b"d.", "`data` is float64"),
    "a type of 10^30 numbers": (
        b"cnumpy\ndtype\n(" + laughs() + b"tR.",
        "a list, which is no",
    ),
    "a code of 10^30 numbers": (b"c_codecs\nencode\n(Va\n" + laughs() + b"tR.", "another encoding"),
    "many objects": (b"(" + b"}" * 3000 + b"d.", "too many objects"),
    "many digits": (b"I" + b"9" * 10**6 + b"\n.", "no number"),
    "many digits of old": (b"L" + b"9" * 10**6 + b"L\n.", "no number"),
    "a memo at 10^30": (b"Np" + b"9" * 30 + b"\n.", "no number"),
    "keys that collide": (b"(" + COLLIDING + b"d.", "other keys than names"),
    "a key that is a number": (b"}K\1K\2s.", "other keys than names"),
    "entries of a list": (b"](K\1K\2u.", "entries of a list"),
    "the same bytes again": (
        b"(V" + b"a" * 500 + b"\nq\0" + b"c_codecs\nencode\n(h\0Vlatin1\ntR" * 100 + b"l.",
        "again and again",
    ),
    "other code": (b"c_codecs\nencode\n}V__defaults__\nNsb.", "the state of a method"),
    "many levels": (b"]" + b"\x85" * 500 + b".", "a tuple"),
    "marks": (b"(" * 500 + b".", "damaged"),
}


@pytest.mark.parametrize("name", GREEDY_PICKLES)
def test_a_pickle_takes_no_more_than_its_file_has(name, monkeypatch):
    """Each of these, or one like it, took minutes or gigabytes."""
    monkeypatch.setattr(safe_pickle, "MOST_READS", 2000)
    content, word = GREEDY_PICKLES[name]
    with pytest.raises(UserError, match="data_batch_1.*({})".format(word)):
        cifar_data._read_python(content, "data_batch_1", 10)


@pytest.mark.skipif(pickle.HIGHEST_PROTOCOL < 5, reason="Python 3.7 knows no such array")
def test_a_writeable_array_of_the_newest_pickles_is_of_the_size_that_there_is():
    planes, labels = random_set(20, 10, 0)
    content = pickle.dumps({"data": planes, "labels": labels}, pickle.HIGHEST_PROTOCOL)
    assert np.array_equal(cifar_data._read_python(content, "a", 10).images, images_of(planes))
    size = struct.pack("<Q", planes.nbytes)
    assert content.count(size) == 1
    with pytest.raises(UserError, match="holds|damaged"):
        cifar_data._read_python(content.replace(size, struct.pack("<Q", 2**40)), "a", 10)


# Archives of CIFAR-10 that are none -------------------------------------------------------------


def tar_member(name, content=b"", **fields):
    """Return a member of a tar; fields: of its header, in place of those it has."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    return member.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


BATCH = "cifar-10-batches-bin/data_batch_1.bin"


STRANGE_ARCHIVES = {
    "2 GiB": (tar_member(BATCH, size=2**31), "cut off"),
    "1 TiB": (tar_member(BATCH, size=2**40), "cut off"),
    "sparse": (tar_member(BATCH, type=tarfile.GNUTYPE_SPARSE), "sparse"),
    "link": (tar_member(BATCH, type=tarfile.SYMTYPE, linkname="/etc/passwd"), "no c10 files"),
    "hard link": (tar_member(BATCH, type=tarfile.LNKTYPE, linkname="/etc/passwd"), "no c10 files"),
    "device": (tar_member(BATCH, type=tarfile.CHRTYPE, devmajor=1, devminor=5), "no c10 files"),
    "pipe": (tar_member(BATCH, type=tarfile.FIFOTYPE), "no c10 files"),
    "absolute": (tar_member("/" + BATCH, bytes(3073)), "no c10 files"),
    "above": (tar_member("../" + BATCH, bytes(3073)), "no c10 files"),
    "digits": (tar_member("x", b"9" * 2**20 + b" a=b\n", type=tarfile.XHDTYPE), "damaged"),
    "long field": (tar_member("x", b"13 path=a\n", type=tarfile.XHDTYPE), "damaged"),
    "empty field": (tar_member("x", b"0 path=a\n", type=tarfile.XHDTYPE), "damaged"),
    "many": (tar_member("other") * 11, "more than 10 members"),
    "cut": (tar_member(BATCH, bytes(100))[:-500], "cut off"),
    "checksum": (b"\1" + tar_member(BATCH, bytes(3073)), "no tar"),
    "nothing": (bytes(1024), "no c10 files"),
    "empty": (b"", "empty"),
}


@pytest.mark.parametrize("name", STRANGE_ARCHIVES)
def test_an_archive_of_other_things_is_refused(tmp_path, name, monkeypatch):
    monkeypatch.setattr(tar, "MOST_MEMBERS", 10)
    content, word = STRANGE_ARCHIVES[name]
    (tmp_path / "cifar.tar").write_bytes(content)
    with pytest.raises(UserError, match="cifar.tar.*({})".format(word)):
        cifar_data.load("c10", str(tmp_path / "cifar.tar"))


@pytest.mark.parametrize("name", [BATCH, "other"])
@pytest.mark.parametrize("opener", [gzip.open, bz2.open, lzma.open])
def test_an_archive_that_unpacks_to_far_more_than_it_is(tmp_path, opener, name, monkeypatch):
    monkeypatch.setattr(streams, "SMALL", 2**22)
    path = tmp_path / "cifar-10-binary.tar.gz"
    with opener(str(path), "wb") as stream:
        stream.write(tar_member(name, size=2**30) + bytes(5 * 2**20))
    assert path.stat().st_size < 2**15
    with pytest.raises(UserError, match="more than 4,194,304 bytes"):
        cifar_data.load("c10", str(path))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_file_that_unpacks_to_far_more_than_it_is(tmp_path, method, monkeypatch):
    monkeypatch.setattr(streams, "SMALL", 2**22)
    with zipfile.ZipFile(str(tmp_path / "c10.zip"), "w", method) as archive:
        archive.writestr(BATCH, bytes(5 * 2**20))
    with pytest.raises(UserError, match="c10.zip.*more than 4,194,304 bytes"):
        cifar_data.load("c10", str(tmp_path / "c10.zip"))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_tar_is_read(tmp_path, format):
    """With names that need a prefix, or a header of their own, and sizes beyond octal digits."""
    names = ["a" * 60 + "/" + "b" * 80, "dir/ä" + "c" * 70, "plain", "empty"]
    if format != tarfile.USTAR_FORMAT:
        names.append("long/" * 60 + "name")
    with tarfile.open(str(tmp_path / "a.tar"), "w", format=format) as archive:
        for index, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = 600 * (name != "empty"), 1.5
            archive.addfile(member, io.BytesIO(bytes([index]) * member.size))
    found = read_archive(str(tmp_path / "a.tar"), lambda name: True)
    assert found == {
        name: bytes([index]) * 600 * (name != "empty") for index, name in enumerate(names)
    }


@pytest.mark.parametrize("kind", ["w:gz", "w:xz", "w:bz2"])
@pytest.mark.parametrize("damage", ["byte", "end"])
def test_a_damaged_archive_is_found_though_its_files_look_whole(tmp_path, kind, damage):
    write_binary_layout(tmp_path / "cifar-10-batches-bin")
    archive = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(str(archive), kind) as stream:
        stream.add(str(tmp_path / "cifar-10-batches-bin"), arcname="cifar-10-batches-bin")
    content = bytearray(archive.read_bytes())
    cifar_data.load("c10", str(archive))
    if damage == "end":
        del content[-3:]
    else:
        content[len(content) // 2] ^= 1
    archive.write_bytes(bytes(content))
    refused(archive, "cifar-10-binary.tar.gz")


def test_truncated_archive(tmp_path):
    write_binary_layout(tmp_path / "cifar-10-batches-bin")
    archive = tmp_path / "out" / "cifar-10-binary.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(str(archive), "w:gz") as stream:
        stream.add(str(tmp_path / "cifar-10-batches-bin"), arcname="cifar-10-batches-bin")
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    refused(tmp_path / "out", "cifar-10-binary.tar.gz")
    archive.write_bytes(b"not an archive")
    refused(tmp_path / "out", "cifar-10-binary.tar.gz")


def test_svhn_of_another_kind(tmp_path):
    write_svhn(tmp_path, "test_32x32.mat", 10)
    (tmp_path / "train_32x32.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    refused(tmp_path, "train_32x32.mat", name="svhn")
    savemat(str(tmp_path / "train_32x32.mat"), {"X": np.zeros((3, 3), np.uint8), "y": [[1]]})
    refused(tmp_path, "train_32x32.mat", "32, 32, 3", name="svhn")
    images = np.zeros((32, 32, 3, 2), np.uint8)
    savemat(str(tmp_path / "train_32x32.mat"), {"X": images, "y": [[1], [11]]})
    refused(tmp_path, "image 1 has label 11", "1 to 10", name="svhn")


def svhn_bytes(count=3, compressed=False):
    stream = io.BytesIO()
    images = np.arange(3072 * count).reshape(32, 32, 3, count).astype(np.uint8)
    labels = np.arange(1, count + 1, dtype=np.uint8)[:, None]
    savemat(stream, {"X": images, "y": labels}, do_compression=compressed)
    return images, stream.getvalue()


def read_svhn(content):
    return cifar_data._read_svhn(bytes(content), "train_32x32.mat", 10)


def big_endian(images, labels):
    """Return a file as a machine of the other order writes it, with names and labels in short."""

    def element(kind, data, order=">"):
        return struct.pack(order + "II", kind, len(data)) + data + bytes(-len(data) % 8)

    content = b"MATLAB 5.0 MAT-file".ljust(124) + b"\1\0MI"
    for name, array in ((b"X", images), (b"y", labels)):
        parts = [element(6, struct.pack(">II", 9, 0))]
        parts.append(element(5, struct.pack(">{}i".format(array.ndim), *array.shape)))
        parts.append(struct.pack(">HH4s", len(name), 1, name))
        parts.append(element(2, array.tobytes("F")))
        content += element(14, b"".join(parts))
    return content


def test_files_of_matlab_are_read_as_scipy_reads_them():
    for compressed in (False, True):
        images, content = svhn_bytes(3, compressed)
        assert np.array_equal(loadmat(io.BytesIO(content))["X"], images)
        found = read_svhn(content)
        assert np.array_equal(found.images, images.transpose(3, 0, 1, 2))
        assert found.labels.tolist() == [1, 2, 3] and found.labels.dtype == np.int32
    found = read_svhn(big_endian(images, np.array([[1], [10], [3]], np.uint8)))
    assert np.array_equal(found.images, images.transpose(3, 0, 1, 2))
    assert found.labels.tolist() == [1, 0, 3]


def test_no_changed_bit_of_a_matlab_file_ends_the_process():
    """scipy's reader ends it with the type of an element that is another, or none."""
    for compressed in (False, True):
        content = svhn_bytes(1, compressed)[1]
        pixels = slice(200, -160) if not compressed else slice(400, len(content))
        for place in sorted(set(range(len(content))) - set(range(len(content))[pixels])):
            for bit in range(8):
                changed = bytearray(content)
                changed[place] ^= 1 << bit
                with contextlib.suppress(UserError):
                    assert len(read_svhn(changed).labels) == 1
    content = bytearray(svhn_bytes(1)[1])
    content[184:188] = bytes(4)
    with pytest.raises(UserError, match="train_32x32.mat.*kind 0, no numbers"):
        read_svhn(content)


# What is changed in a file -> how, and what is said of it.
DAMAGES = {
    "end": (lambda content: content[:-8], "cut off"),
    "middle": (lambda content: content[:150], "cut off"),
    "HDF5": (lambda content: b"\x89HDF\r\n\x1a\n" + content, "7.3"),
    "7.3": (lambda content: b"MATLAB 7.3".ljust(512) + b"\x89HDF\r\n\x1a\n", "7.3"),
    "version 4": (lambda content: bytes(20) + b"X\0" + content, "version 5"),
    "version 2": (lambda content: content[:124] + b"\0\2IM" + content[128:], "version 5"),
    "empty": (lambda content: b"", "version 5"),
    "no array": (lambda content: content[:128], "no 'X'"),
    "other numbers": (lambda content: big_endian(np.zeros((2, 2)), np.zeros(1)), "need others"),
    "zip": (lambda content: content[:128] + struct.pack("<II", 15, 8) + bytes(8), "damaged"),
    "size": (lambda content: zipped_element(b"\x0e\0\0\0\xff\xff\xff\x7f"), "cut off"),
    "bomb": (lambda content: zipped_element(bytes(2**22 + 1)), "more than 4,194,304 bytes"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_of_matlab(name, monkeypatch):
    monkeypatch.setattr(streams, "SMALL", 2**22)
    change, word = DAMAGES[name]
    with pytest.raises(UserError, match="is not an SVHN file.*{}".format(word)):
        read_svhn(change(svhn_bytes()[1]))


def zipped_element(content):
    """Return a file of one element that is compressed."""
    packed = zlib.compress(content)
    return svhn_bytes()[1][:128] + struct.pack("<II", 15, len(packed)) + packed


def test_labels_that_are_no_whole_numbers():
    for label in (1.5, float("nan"), float("inf"), -1.0):
        stream = io.BytesIO()
        savemat(stream, {"X": np.zeros((32, 32, 3, 1), np.uint8), "y": np.array([[label]])})
        with pytest.raises(UserError, match="image 0 has label {}; accepted".format(label)):
            read_svhn(stream.getvalue())


def test_official_size_needs_the_official_md5(tmp_path, monkeypatch):
    """With the table's size and MD5 set to those of a small file: one changed byte is found."""
    import hashlib

    write_python_layout(tmp_path)
    path = tmp_path / "data_batch_1"
    content = path.read_bytes()
    layout = cifar_data.LAYOUTS["c10"][0]
    official = {"data_batch_1": (len(content), hashlib.md5(content).hexdigest())}
    changed = (layout._replace(official=official),)
    monkeypatch.setitem(cifar_data.LAYOUTS, "c10", changed)
    cifar_data.load("c10", str(tmp_path))
    path.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    refused(tmp_path, "data_batch_1", "MD5", "--no_verify")
    cifar_data.load("c10", str(tmp_path), verify=False)


# Normalisation -------------------------------------------------------------------------------


def pictures(images, test=None):
    sets = [
        ImageSet(i, np.zeros(len(i), np.int32)) for i in (images, images if test is None else test)
    ]
    return cifar_data.Dataset("c10", sets[0], sets[1], mirror=True)


def test_channel_constants_are_mean_and_deviation():
    images = np.random.RandomState(0).randint(0, 256, (50, 32, 32, 3)).astype(np.uint8)
    constants = cifar_data.normalization_constants(pictures(images), "channel")
    assert np.allclose(constants["mean"], images.mean(axis=(0, 1, 2), dtype=np.float64))
    assert np.allclose(constants["std"], images.std(axis=(0, 1, 2), dtype=np.float64))


def test_pixel_mean_constants():
    images = np.random.RandomState(0).randint(0, 256, (50, 32, 32, 3)).astype(np.uint8)
    constants = cifar_data.normalization_constants(pictures(images), "pixel_mean")
    assert np.allclose(constants["mean"], images.mean(axis=0, dtype=np.float64))
    assert constants["std"] == 255


def test_constants_of_the_public_codes_are_over_both_sets():
    """(x - mean) / 255 for ascend, (x - mean) / 128 - 1 for official."""
    stream = np.random.RandomState(0)
    train = stream.randint(0, 256, (30, 32, 32, 3)).astype(np.uint8)
    test = stream.randint(0, 128, (10, 32, 32, 3)).astype(np.uint8)
    mean = np.concatenate([train, test]).mean(axis=0, dtype=np.float64)
    image = train[0].astype(np.float64)
    for normalize, expected in [
        ("ascend", (image - mean) / 255),
        ("official", (image - mean) / 128 - 1),
        ("unit", image / 255),
    ]:
        constants = cifar_data.normalization_constants(pictures(train, test), normalize)
        assert np.allclose((image - np.array(constants["mean"])) / constants["std"], expected)


def test_the_border_can_have_the_mean_colour():
    data = pictures(np.full((4, 32, 32, 3), [10, 20, 30], np.uint8))
    pad_value = data.preprocessing("channel", "mean")["pad_value"]
    assert pad_value == [10, 20, 30]
    batches = data.training_batches(4, 0, 1, 1, data.preprocessing("channel", "mean"))
    assert (next(batches).images == [10, 20, 30]).all()
    assert data.preprocessing("channel", "black")["pad_value"] == [0, 0, 0]


def test_a_colour_without_spread_is_not_divided_by_zero():
    images = np.full((2, 32, 32, 3), 7, np.uint8)
    assert cifar_data.normalization_constants(pictures(images), "channel")["std"] == [1.0] * 3


# Batches -------------------------------------------------------------------------------------


def coordinates_set(count):
    """Images whose pixels tell where they came from: (index, row, column), none of them black."""
    images = np.zeros((count, 32, 32, 3), np.uint8)
    images[..., 0] = np.arange(count)[:, None, None] + 1
    images[..., 1] = np.arange(32)[None, :, None] + 1
    images[..., 2] = np.arange(32)[None, None, :] + 1
    return ImageSet(images, np.arange(count, dtype=np.int32))


def test_every_image_is_a_crop_of_its_padded_original():
    data = coordinates_set(100)
    seen, offsets, mirrors = [], set(), 0
    for batch in cifar_data.training_epoch(data, 10, seed=3, epoch=1, augmentation=BLACK):
        for image, label in zip(batch.images, batch.labels):
            seen.append(int(label))
            padded = np.pad(data.images[label], ((4, 4), (4, 4), (0, 0)), "constant")
            matches = [
                (row, column, flip)
                for row in range(9)
                for column in range(9)
                for flip in (1, -1)
                if np.array_equal(image, padded[row : row + 32, column : column + 32][:, ::flip])
            ]
            assert len(matches) == 1
            offsets.add(matches[0][:2])
            mirrors += matches[0][2] == -1
    assert sorted(seen) == list(range(100))
    assert seen != sorted(seen)
    assert len(offsets) > 40
    assert 25 < mirrors < 75


def test_without_mirror_no_image_is_mirrored():
    data = coordinates_set(40)
    for batch in cifar_data.training_epoch(
        data, 10, seed=0, epoch=1, augmentation=BLACK._replace(mirror=False)
    ):
        columns = batch.images[:, 16, :, 2].astype(int)
        inside = columns[:, 4:28]
        assert (np.diff(inside, axis=1) == 1).all()


def test_batches_depend_on_seed_epoch_and_index_alone():
    data = coordinates_set(50)

    def stream(seed, first_epoch, count):
        pair = cifar_data.Dataset("c10", data, data, mirror=True)
        batches = pair.training_batches(8, seed, 5, first_epoch, BLACK._asdict())
        return np.stack([next(batches).images for _ in range(count)])

    whole = stream(0, 1, 15)
    assert np.array_equal(whole, stream(0, 1, 15))
    assert np.array_equal(whole[5:], stream(0, 2, 10))  # five steps an epoch
    assert not np.array_equal(whole, stream(1, 1, 15))
    assert not np.array_equal(whole[:5], whole[5:10])


def test_batches_are_their_own_copies():
    data = coordinates_set(20)
    batches = list(cifar_data.training_epoch(data, 5, 0, 1, BLACK))
    again = list(cifar_data.training_epoch(data, 5, 0, 1, BLACK))
    for one, other in zip(batches, again):
        assert np.array_equal(one.images, other.images)
        assert one.images.flags.c_contiguous


def test_the_same_batches_on_every_stack():
    batch = next(
        cifar_data.training_epoch(coordinates_set(50), 8, seed=5, epoch=7, augmentation=BLACK)
    )
    assert batch.labels.tolist() == BATCH_LABELS


BATCH_LABELS = [26, 40, 28, 2, 44, 38, 5, 30]


@pytest.mark.parametrize("count, batch", [(10, 5), (10, 4), (3, 8)])
def test_test_batches_hold_every_image_once(count, batch):
    data = coordinates_set(count)
    labels = []
    for (images, batch_labels), valid in cifar_data.in_order(data, batch):
        assert images.shape == (batch, 32, 32, 3) and batch_labels.shape == (batch,)
        assert np.array_equal(images[:valid], data.images[batch_labels[:valid]])
        labels.extend(batch_labels[:valid])
    assert labels == list(range(count))


# The speed test ------------------------------------------------------------------------------


def test_speed_test_prints_images_per_second(tmp_path):
    write_binary_layout(tmp_path)
    result = run_python(CHECKOUT / "cifar_data.py", "--dataset_dir", tmp_path, "--batch-size", "10")
    assert result.code == 0, result
    assert "images/s" in result.out.splitlines()[-1]


def test_speed_test_refuses_what_it_can_not_read(tmp_path):
    program = CHECKOUT / "cifar_data.py"
    assert_refused(run_python(program, "--dataset_dir", tmp_path / "nowhere"), "nowhere")
    write_binary_layout(tmp_path)
    result = run_python(program, "--dataset_dir", tmp_path, "--batch_size", "101")
    assert result.code == 2 and "101" in result.err


# Archives and places -----------------------------------------------------------------------------


def same_images(a, b):
    return a.describe() == b.describe()


def make_tar(path, *folders):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(str(path), "w:gz") as archive:
        for folder, name in folders:
            archive.add(str(folder), arcname=name)
    return path


@pytest.fixture
def official(tmp_path):
    """A small CIFAR-10 in the folder of the python layout, and what is read from it."""
    folder = tmp_path / "official" / "cifar-10-batches-py"
    write_python_layout(folder)
    return folder, cifar_data.load("c10", str(folder))


@pytest.mark.parametrize("name", ["cifar-10-batches-py.tar.gz", "c10.tgz", "download"])
def test_an_archive_is_opened_whatever_it_is_called(tmp_path, official, name):
    path = make_tar(tmp_path / name, (official[0], official[0].name))
    assert same_images(cifar_data.load("c10", str(path)), official[1])
    zipped = shutil.make_archive(str(tmp_path / "zipped"), "zip", str(official[0].parent))
    assert same_images(cifar_data.load("c10", zipped), official[1])
    refused(path, "holds no c100 files", name="c100")


@pytest.mark.parametrize(
    "folder",
    [
        "datasets/cifar-10-batches-py-target/cifar-10-batches-py",  # Keras 3
        "datasets/cifar-10-batches-py",  # Keras 2
        "data/cifar-10-batches-py",
    ],
)
@pytest.mark.parametrize("below", [True, False])
def test_the_cache_of_keras_is_found(tmp_path, official, folder, below):
    shutil.copytree(str(official[0]), str(tmp_path / "cache" / folder))
    place = tmp_path / "cache" / folder.split("/")[0]
    if below and place.name == "datasets":
        place = place.parent
    assert same_images(cifar_data.load("c10", str(place)), official[1])


@pytest.mark.parametrize(
    "archive",
    ["cifar-10-python.tar.gz", "cifar-10-batches-py-target_archive", "cifar-10-python.tgz"],
)
@pytest.mark.parametrize("damage", ["absent", "cut"])
def test_a_half_unpacked_folder_is_passed_over(tmp_path, official, archive, damage, capsys):
    whole = make_tar(tmp_path / "data" / archive, (official[0], official[0].name))
    half = tmp_path / "data" / official[0].name
    shutil.copytree(str(official[0]), str(half))
    if damage == "absent":
        (half / "data_batch_1").unlink()
    else:
        content = (half / "test_batch").read_bytes()
        (half / "test_batch").write_bytes(content[: len(content) // 2])
    file = "data_batch_1" if damage == "absent" else "test_batch"
    capsys.readouterr()
    assert same_images(cifar_data.load("c10", str(tmp_path / "data")), official[1])
    said = capsys.readouterr().out.splitlines()[0]
    assert file in said and said.endswith("; {} is read instead".format(whole)), said
    whole.unlink()
    refused(tmp_path / "data", str(half), file)
    whole.write_bytes(b"no archive")
    refused(tmp_path / "data", str(half), file)


def test_a_member_is_known_by_its_path(tmp_path, official):
    """A backup of other images comes after the official folder, and before it."""
    other = tmp_path / "other"
    write_python_layout(other, count=8)
    place = (official[0], official[0].name)
    backups = [(other, "backup"), (other, "old/cifar-10-batches-py")]
    for number, folders in enumerate([[place] + backups, backups + [place]]):
        path = make_tar(tmp_path / "{}.tar.gz".format(number), *folders)
        assert same_images(cifar_data.load("c10", str(path)), official[1])
    refused(make_tar(tmp_path / "backup.tar.gz", *backups), "holds no c10 files")
    flat = make_tar(tmp_path / "flat.tar.gz", (official[0], "."))
    assert same_images(cifar_data.load("c10", str(flat)), official[1])


def test_svhn_without_its_extra_images(tmp_path):
    _, labels = write_svhn(tmp_path, "train_32x32.mat", 30)
    write_svhn(tmp_path, "test_32x32.mat", 10)
    (tmp_path / "extra_32x32.mat").write_bytes(b"is not read")
    data = cifar_data.load("svhn", str(tmp_path), extra=False)
    assert np.array_equal(data.train.labels, labels) and len(data.test.labels) == 10
    settings = parse(["--dataset", "svhn", "--dataset_dir", str(tmp_path), "--no_extra"])
    assert not settings_from_dict(settings_to_dict(settings), settings.recipe).extra
    assert same_images(load_data(settings), data)
    with pytest.raises(UserError, match="--no_extra; accepted: with --dataset svhn"):
        parse(["--dataset", "c10", "--fake", "--no_extra"])


def test_fake_images_are_the_bytes_of_their_seed():
    """As numpy draws them, whose way is slower: runs of older versions saw the same."""
    data = cifar_data.fake("digits", 3)
    drawn = np.random.RandomState(3).bytes(1437 * 3072)
    assert data.train.images.tobytes() == drawn
    assert data.train.images.shape == (1437, 32, 32, 3)


@pytest.mark.parametrize("count", [1, 256, 700])
def test_statistics_are_those_of_whole_numbers(count):
    images = np.random.RandomState(0).randint(0, 256, (count, 32, 32, 3)).astype(np.uint8)
    images[: count // 2] = 255  # the largest sums
    means, deviations = cifar_data.channel_statistics(images)
    for channel in range(3):
        values = images[..., channel].astype(np.int64)
        mean = int(values.sum()) / float(values.size)
        assert means[channel] == mean
        assert deviations[channel] == (int((values**2).sum()) / float(values.size) - mean**2) ** 0.5

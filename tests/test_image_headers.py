"""The sizes that headers of images claim, and what is done with images that claim too much."""

import io
import os
import socket
import struct
import zlib

import cv2
import numpy as np
import pytest
from conftest import CHECKOUT, assert_refused, run_python
from PIL import Image

import folder_data
import imagenet_data
from common import image_headers
from common.image_headers import size_of
from sparsenet.errors import UserError

KINDS = (".png", ".jpg", ".bmp", ".ppm", ".pgm", ".tif", ".webp")


def encoded(kind, width, height, dtype=np.uint8, flags=()):
    image = np.random.RandomState(0).randint(0, 256, (height, width, 3)).astype(dtype)
    image = image[..., 0] if kind == ".pgm" else image
    return cv2.imencode(kind, image, list(flags))[1].tobytes()


def pillow(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_is_the_one_that_is_decoded(kind):
    for width, height in ((1, 1), (7, 300), (300, 7), (64, 64)):
        content = encoded(kind, width, height)
        assert size_of(content)[:2] == (width, height)
        assert imagenet_data.decode(content).shape == (height, width, 3)


@pytest.mark.parametrize(
    "kind, options",
    [
        ("JPEG", {"progressive": True}),
        ("JPEG", {"exif": b"Exif\0\0" + b"\xff\xc0\0\x11\x08\xff\xff\xff\xff" * 3}),
        ("JPEG", {"comment": b"\xff\xda" * 30}),
        ("PNG", {"interlace": True}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"lossless": True, "exact": True, "exif": b"Exif\0\0II*\0"}),
        ("TIFF", {"compression": "tiff_deflate"}),
        ("TIFF", {"compression": "tiff_lzw", "tiffinfo": {278: 1}}),
        ("BMP", {}),
        ("PPM", {}),
    ],
)
def test_the_images_of_another_writer(kind, options):
    if kind == "WEBP" and cv2.__version__ < "4.6":
        pytest.skip("its WebP is older")
    image = Image.fromarray(np.full((40, 30, 3), (200, 100, 50), np.uint8))
    content = pillow(image, kind, **options)
    assert size_of(content)[:2] == (30, 40)
    found = imagenet_data.decode(content).astype(int)
    assert np.abs(found - (200, 100, 50)).max() <= 4


@pytest.mark.parametrize(
    "mode, kind, expected",
    [
        ("P", "PNG", (200, 100, 50)),
        ("P", "BMP", (200, 100, 50)),
        ("P", "TIFF", (200, 100, 50)),
        ("L", "PNG", (124, 124, 124)),
        ("LA", "PNG", (124, 124, 124)),
        ("RGBA", "PNG", (200, 100, 50)),
        ("RGBA", "WEBP", (200, 100, 50)),
        ("1", "PNG", None),
        ("I;16", "PNG", (78, 78, 78)),
        ("I;16", "TIFF", (78, 78, 78)),
        ("CMYK", "JPEG", (200, 100, 50)),
    ],
)
def test_images_of_every_colour_model_are_read_right(mode, kind, expected):
    image = Image.fromarray(np.full((16, 16, 3), (200, 100, 50), np.uint8))
    if mode == "I;16":
        image = Image.fromarray(np.full((16, 16), 20000, np.uint16))
    elif mode == "P":
        image = image.quantize(4)
    else:
        image = image.convert(mode)
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
    found = imagenet_data.decode(pillow(image, kind, **options)).astype(int)
    assert found.shape == (16, 16, 3)
    if expected is None:
        assert set(np.unique(found)) == {0, 255}
    else:
        assert np.abs(found - expected).max() <= 4


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_of_an_animation_or_a_stack_the_first_image_is_read_or_none(kind):
    first, second = (Image.new("RGB", (20, 10), colour) for colour in ("red", "blue"))
    content = pillow(first, kind, save_all=True, append_images=[second], lossless=True)
    try:
        found = imagenet_data.decode(content)
    except ValueError as error:
        assert "damaged, or no image" in str(error)
    else:
        assert found.shape == (10, 20, 3)
        assert np.abs(found.astype(int) - (255, 0, 0)).max() <= 2


def patched(content, at, form, *values):
    changed = bytearray(content)
    struct.pack_into(form, changed, at, *values)
    return bytes(changed)


def tiff(tags):
    """The header of a TIFF of 16 x 16 pixels and what tags say instead."""
    tags = {256: 16, 257: 16, **tags}
    entries = [struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags)]
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(99)


JPEG = encoded(".jpg", 16, 16)
SOF = JPEG.index(b"\xff\xc0")
LARGE = {
    "png": patched(encoded(".png", 16, 16), 16, ">II", 40000, 40000),
    "jpg": patched(JPEG, SOF + 5, ">HH", 65000, 65000),
    "progressive": patched(JPEG, SOF, ">HHBHH", 0xFFC2, 17, 8, 6000, 6000),
    "bmp": patched(encoded(".bmp", 16, 16), 18, "<ii", 40000, -40000),
    "old bmp": b"BM" + bytes(12) + struct.pack("<IHH", 12, 60000, 60000) + bytes(99),
    "ppm": b"P6 # an image\n40000\n# of\n40000 255\n" + bytes(99),
    "pbm": b"P4\n100000 100000\n" + bytes(99),
    "tif": tiff({256: 40000, 257: 40000, 278: 1}),
    "lossy webp": b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\xff\x3f\xff\x3f" + bytes(9),
    "lossless webp": b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f\xff\xff\xff\xff" + bytes(99),
    "large webp": b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\0" * 2 + bytes(99),
}


@pytest.mark.parametrize("kind", LARGE)
def test_what_claims_too_many_pixels_is_not_decoded(kind, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(ValueError, match=r"too large to be decoded, \d+x\d+ pixels; accepted: at"):
        imagenet_data.decode(LARGE[kind])


STRANGE = {
    "tiles": tiff({322: 60000, 323: 60000}),
    "tile": tiff({322: 60000}),
    "strips": tiff({257: 2**22, 278: 1}),
    "samples": tiff({277: 60000, 257: 5000}),
    "no width": tiff({256: 0}),
    "no tags": b"II*\0\xff\xff\xff\xff",
    "big tiff": b"II+\0" + bytes(99),
    "gif": b"GIF89a" + bytes(99),
    "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99),
    "hdr": b"#?RADIANCE\n\n-Y 99999 +X 99999\n",
    "exr": b"v/1\1" + bytes(99),
    "sun raster": b"\x59\xa6\x6a\x95" + bytes(99),
    "pam": b"P7\nWIDTH 99999\nHEIGHT 99999\nDEPTH 3\nMAXVAL 255\nENDHDR\n",
    "pfm": b"PF 99999 99999 -1\n",
    "other chunk": patched(encoded(".png", 16, 16), 12, "4s", b"IDAT"),
    "no frame": JPEG[:SOF] + b"\xff\xd9",
    "scan first": JPEG[:SOF] + b"\xff\xda" + JPEG[SOF:],
    "digits": b"P6 " + b"9" * 1000 + b" 1 255\n",
    "comments": b"P6" + b"#\n" * 10**5,
    "webp": b"RIFF\0\0\0\0WEBPVP9 " + bytes(99),
    "nothing": b"",
}


@pytest.mark.parametrize("kind", STRANGE)
def test_what_is_no_image_of_a_known_kind_is_not_decoded(kind, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(ValueError, match="damaged, or no image"):
        imagenet_data.decode(STRANGE[kind])
    for start in image_headers.FORMATS:
        with pytest.raises(ValueError, match="damaged, or no image"):
            imagenet_data.decode(start)


def test_a_jpeg_of_very_many_scans_is_not_decoded(monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", None)
    content = patched(JPEG, SOF + 5, ">HH", 8000, 8000)
    with pytest.raises(ValueError, match="18 scans of 8000x8000 pixels"):
        imagenet_data.decode(content[:-2] + content[content.index(b"\xff\xda") : -2] * 17)


def long_png(width, height):
    rows = zlib.compress(bytes((width + 1) * height))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", rows),
              (b"IEND", b"")]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def test_a_very_long_image_is_cut_before_it_is_scaled(tmp_path, monkeypatch):
    """Scaled as a whole, 1 x 20,000 pixels become 256 x 5,120,000."""
    scaled = []
    resize = cv2.resize

    def spy(image, size, **options):
        scaled.append(size)
        return resize(image, size, **options)

    monkeypatch.setattr(cv2, "resize", spy)
    for width, height in ((1, 20000), (20000, 1), (3, 20000)):
        path = tmp_path / "long.png"
        path.write_bytes(long_png(width, height))
        image = imagenet_data.decode_file(str(path))
        assert imagenet_data.center_crop(image).shape == (224, 224, 3)
        crop = imagenet_data.random_crop(image, np.random.RandomState(0))
        assert crop.shape == (224, 224, 3)
        with pytest.raises(UserError, match="long.png: {}x{} pixels".format(width, height)):
            folder_data.read_image(str(path), 32)
    assert all(max(size) <= 16 * 256 + 256 for size in scaled)


def test_what_is_scaled_of_an_image_up_to_16_times_as_long_is_the_whole():
    image = np.random.RandomState(0).randint(0, 256, (30, 480, 3)).astype(np.uint8)
    whole = cv2.resize(image, (16 * 256, 256))
    start = (16 * 256 - 224) // 2
    assert np.array_equal(
        imagenet_data.center_crop(image), whole[16 : 16 + 224, start : start + 224]
    )
    longer = np.concatenate([image[:, :100], image, image[:, :100]], axis=1)
    assert np.array_equal(imagenet_data.center_crop(longer), imagenet_data.center_crop(image))


def put_pipe(path):
    os.mkfifo(str(path))


def put_folder(path):
    path.mkdir()


def put_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def put_device(path):
    path.symlink_to("/dev/zero")


def put_huge(path):
    with open(str(path), "wb") as stream:
        stream.truncate(2**40)


def put_unreadable(path):
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    "put", [put_pipe, put_folder, put_socket, put_device, put_huge, put_unreadable]
)
def test_what_is_no_file_is_not_waited_for(tmp_path, put, monkeypatch):
    monkeypatch.chdir(str(tmp_path))  # the name of a socket may not be long
    put(tmp_path.__class__("a.JPEG"))
    with pytest.raises(UserError, match="a.JPEG: "):
        imagenet_data.decode_file("a.JPEG")


def test_predict_passes_over_all_of_these_with_a_line_each(tmp_path):
    run = CHECKOUT / "tests" / "old_runs" / "modern"
    for kind in ("png", "jpg", "tif", "lossy webp"):
        (tmp_path / "a {0}.{0}".format(kind.split()[-1])).write_bytes(LARGE[kind])
    (tmp_path / "b.png").write_bytes(long_png(1, 20000))
    put_pipe(tmp_path / "c.png")
    put_device(tmp_path / "d.png")
    (tmp_path / "e.png").write_bytes(encoded(".png", 16, 16))
    result = run_python(CHECKOUT / "scripts" / "predict.py", run, tmp_path)
    assert result.code == 2, result
    assert len(result.err.splitlines()) == 7
    assert all(line.startswith("error: " + str(tmp_path)) for line in result.err.splitlines())
    assert result.out.splitlines()[0] == str(tmp_path / "e.png")
    assert_refused(
        run_python(CHECKOUT / "scripts" / "predict.py", run, tmp_path / "c.png"), "c.png"
    )

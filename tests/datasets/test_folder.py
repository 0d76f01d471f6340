"""Folders of photographs as they are found: any mode, any size, turned, damaged, misnamed, and folders that are no classes."""

from __future__ import annotations

import os
import random
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from runtrue.datasets import DataError, Skipped, arrays, folder, load, pictures

SIDE = 16


def photo(seed: int = 0, width: int = 40, height: int = 30) -> Image.Image:
    """A smooth picture of its own colours."""
    drawn = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(drawn).resize((width, height), Image.Resampling.BICUBIC)


def put(path: Path, count: int, first: int = 0) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        photo(zlib.crc32(path.name.encode()) + number).save(path / f"{number:02}.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six cats and four dogs."""
    put(tmp_path / "photos" / "dog", 4)
    put(tmp_path / "photos" / "cat", 6)
    return tmp_path / "photos"


def read(at: Path, **how: Any) -> Any:
    return load(f"folder:{at}", **{"size": SIDE, **how})


# -- what is read


def test_class_folders_become_classes_in_the_order_of_the_alphabet(photos: Path) -> None:
    data = read(photos, val_fraction=0.25)
    assert (data.name, data.classes, data.channels, data.size) == ("photos", ("cat", "dog"), 3, (SIDE, SIDE))
    assert torch.bincount(data.train.labels).tolist() == [4, 3]  # of 6 cats 1.5 are a quarter: 2
    assert torch.bincount(data.val.labels).tolist() == [2, 1]
    assert (data.train.images.dtype, data.train.labels.dtype) == (torch.uint8, torch.int64)
    assert data.skipped == () and data.origin == str(photos)
    assert data.train.images.is_contiguous()
    again, other = read(photos, val_fraction=0.25), read(photos, val_fraction=0.25, seed=1)
    assert torch.equal(again.train.images, data.train.images)
    assert not torch.equal(other.train.images, data.train.images)
    assert load(f"folder:{photos}").size == (folder.SIDE, folder.SIDE)


def test_each_image_has_the_label_of_its_folder(photos: Path) -> None:
    data = read(photos)
    expected = {
        pictures.decoded(path, SIDE).transpose(2, 0, 1).tobytes(): number
        for number, name in enumerate(("cat", "dog"))
        for path in (photos / name).iterdir()
    }
    for split in (data.train, data.val):
        for image, label in zip(split.images, split.labels, strict=True):
            assert expected.pop(image.numpy().tobytes()) == label
    assert not expected


def test_files_lie_deeper_and_hidden_ones_do_not_count(photos: Path) -> None:
    put(photos / "cat" / "2019" / "may", 2, first=20)
    for name in (".DS_Store", "._00.png", "Thumbs.db", "desktop.ini"):
        (photos / "dog" / name).write_text("x")
    put(photos / "cat" / ".thumbnails", 3)
    put(photos / ".git", 1)
    (photos / "readme.txt").write_text("x")
    data = read(photos)
    assert torch.bincount(torch.cat([data.train.labels, data.val.labels])).tolist() == [8, 4]
    assert data.skipped == ()


@pytest.mark.parametrize(
    ("train", "val"), [("train", "val"), ("Train", "Validation"), ("training", "test"), ("train", "valid")]
)
def test_splits_that_are_there_are_kept(train: str, val: str, tmp_path: Path) -> None:
    for split, count in ((train, 3), (val, 1)):
        for name in ("cat", "dog"):
            put(tmp_path / split / name, count, first=10 * count)
    data = read(tmp_path)
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1] and data.val.labels.tolist() == [0, 1]


def test_validation_goes_before_test_and_train_alone_is_divided(tmp_path: Path) -> None:
    for split, count in (("train", 5), ("val", 2), ("test", 3)):
        for name in ("cat", "dog"):
            put(tmp_path / split / name, count)
    assert len(read(tmp_path).val) == 4
    for split in ("val", "test"):
        for file in (tmp_path / split).rglob("*.png"):
            file.unlink()
        for place in ("cat", "dog", ""):
            (tmp_path / split / place).rmdir()
    data = read(tmp_path)
    assert (len(data.train), len(data.val)) == (8, 2)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("bus", "train", "test"):
        put(tmp_path / name, 3)
    assert read(tmp_path).classes == ("bus", "test", "train")
    put(tmp_path / "train" / "steam", 2)
    assert read(tmp_path).classes == ("bus", "test", "train")


# -- one picture


def decoded(image: Image.Image, path: Path, side: int = SIDE, **how: Any) -> Any:
    image.save(path, **how)
    return pictures.decoded(path, side)


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "expected"),
    [
        ("1", 1, "png", (255, 255, 255)),
        ("L", 77, "png", (77, 77, 77)),
        ("L", 77, "jpg", (77, 77, 77)),
        ("RGB", (10, 20, 30), "bmp", (10, 20, 30)),
        ("RGB", (10, 20, 30), "webp", (10, 20, 30)),
        ("RGB", (10, 20, 30), "tiff", (10, 20, 30)),
        ("RGB", (10, 20, 30), "gif", (10, 20, 30)),
        ("RGB", (10, 20, 30), "ppm", (10, 20, 30)),
        ("RGBA", (200, 100, 0, 0), "png", (255, 255, 255)),
        ("RGBA", (200, 100, 0, 255), "png", (200, 100, 0)),
        ("RGBA", (255, 0, 55, 51), "png", (255, 204, 215)),  # a fifth of the colour, four fifths of white
        ("LA", (55, 51), "png", (215, 215, 215)),
        ("CMYK", (0, 255, 255, 0), "jpg", (254, 0, 0)),
        ("CMYK", (0, 255, 255, 0), "tiff", (255, 0, 0)),
        ("YCbCr", (76, 85, 255), "jpg", (254, 0, 0)),
        ("I;16", 32_896, "png", (128, 128, 128)),
        ("I;16", 65_535, "tiff", (255, 255, 255)),
        ("I", 65_535, "tiff", (255, 255, 255)),
        ("F", 0.5, "tiff", (128, 128, 128)),
        ("F", 128.4, "tiff", (128, 128, 128)),
    ],
)
def test_every_mode_becomes_rgb(mode: str, colour: Any, suffix: str, expected: tuple[int, ...], tmp_path: Path) -> None:
    pixels = decoded(Image.new(mode, (20, 30), colour), tmp_path / f"x.{suffix}")
    assert pixels.shape == (SIDE, SIDE, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - expected).max() <= (3 if suffix in ("jpg", "webp") else 1)


def test_palettes_with_and_without_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 30, 90, 150])
    assert (decoded(image, tmp_path / "x.png") == (30, 90, 150)).all()
    assert (decoded(image, tmp_path / "y.png", transparency=1) == 255).all()
    assert (decoded(image, tmp_path / "z.gif", transparency=1) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_pictures_are_turned_as_the_camera_says(orientation: int, suffix: str, tmp_path: Path) -> None:
    image = photo(3, 32, 32)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decoded(image, tmp_path / f"x.{suffix}", 32, exif=exif, **({"quality": 95} if suffix == "jpg" else {}))
    with Image.open(tmp_path / f"x.{suffix}") as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    assert np.abs(pixels.astype(int) - expected.astype(int)).max() <= 1
    assert orientation == 1 or np.abs(pixels.astype(int) - np.asarray(image)).max() > 30


def test_the_middle_is_kept_in_proportion(tmp_path: Path) -> None:
    image = Image.new("RGB", (120, 40), "red")
    image.paste("lime", (40, 0, 80, 40))
    image.paste("blue", (50, 10, 70, 30))
    pixels = decoded(image, tmp_path / "wide.png", 40)
    np.testing.assert_array_equal(pixels, np.asarray(image)[:, 40:80])
    upright = decoded(image.transpose(Image.Transpose.ROTATE_90), tmp_path / "tall.png", 20)
    assert (upright[6:14, 6:14] == (0, 0, 255)).all() and (upright[1:4] == (0, 255, 0)).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 2), (500, 400)])
def test_any_size_becomes_the_one_that_was_asked_for(size: tuple[int, int], tmp_path: Path) -> None:
    pixels = decoded(Image.new("RGB", size, (9, 99, 199)), tmp_path / "x.png")
    assert (pixels == (9, 99, 199)).all()


def test_a_large_jpeg_is_close_to_what_full_decoding_gives(tmp_path: Path) -> None:
    photo(5, 640, 480).save(tmp_path / "x.jpg", quality=95)
    with Image.open(tmp_path / "x.jpg") as stored:
        full = stored.crop((80, 0, 560, 480)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    assert np.abs(pictures.decoded(tmp_path / "x.jpg", SIDE).astype(int) - np.asarray(full)).max() <= 6


# -- files that are left out


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def saved(image: Image.Image, path: Path, **how: Any) -> bytes:
    image.save(path, **how)
    content = path.read_bytes()
    path.unlink()
    return content


def test_what_cannot_be_read_is_listed_and_the_rest_goes_on(photos: Path) -> None:
    jpeg = saved(photo(1, 200, 200), photos / "x.jpg")
    png = saved(photo(2, 200, 200), photos / "x.png")
    broken = bytearray(png)
    broken[200:260] = bytes(60)
    cases: dict[str, tuple[bytes, str]] = {
        "cut.jpg": (jpeg[: len(jpeg) // 2], "damaged: image file is truncated"),
        "cut.png": (png[: len(png) // 2], "damaged: "),
        "broken.png": (bytes(broken), "damaged: "),
        "empty.png": (b"", "empty: 0 bytes"),
        "text.jpg": (b"not a picture\n", "no image of a known format"),
        "page.png": (b"<!DOCTYPE html><html>404</html>", "no image of a known format"),
        "notes.txt": (b"hello", "no image of a known format"),
        "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image of a known format"),
        "bomb.png": (png_that_claims(12_000, 12_000), "12,000 × 12,000 pixels, and the limit is 89,478,485: make it smaller"),
        "large bomb.png": (png_that_claims(60_000, 60_000), "damaged: Image size (3600000000 pixels) exceeds limit of"),
        "nothing.png": (png_that_claims(0, 5), "no image of a known format"),
        "nan.tiff": (saved(Image.new("F", (5, 5), float("nan")), photos / "x.tiff"), "NaN or infinity among its pixels"),
        "range.tiff": (saved(Image.new("F", (5, 5), -3.0), photos / "x.tiff"), "pixels: levels from -3 to -3, expected 0 to 255"),
        "deep.tiff": (saved(Image.new("I", (5, 5), 70_000), photos / "x.tiff"), "levels from 70000 to 70000, expected 0"),
    }  # fmt: skip
    for name, (content, _) in cases.items():
        (photos / "cat" / name).write_bytes(content)
    data = read(photos)
    told = {Path(one.path).name: one.reason for one in data.skipped}
    assert set(told) == set(cases)
    for name, (_, reason) in cases.items():
        assert told[name].startswith(reason), (name, told[name])
    assert len(data.train) + len(data.val) == 10
    said = data.describe().splitlines()
    assert said[2] == "14 files skipped:"
    assert said[3] == f"  {photos / 'cat' / 'notes.txt'} and 4 more: no image of a known format"


def test_a_photograph_with_damaged_exif_data_is_still_a_photograph(photos: Path) -> None:
    content = saved(photo(1), photos / "x.jpg", exif=b"Exif\0\0MM\0*\0\0\0\xff garbage")
    (photos / "cat" / "odd.jpg").write_bytes(content)
    assert read(photos).skipped == ()


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_and_other_files(photos: Path, tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", 3)
    (photos / "elk").symlink_to(tmp_path / "elsewhere")
    (photos / "cat" / "linked.png").symlink_to(tmp_path / "elsewhere" / "00.png")
    (photos / "cat" / "gone.png").symlink_to(tmp_path / "nothing")
    (photos / "cat" / "loop").symlink_to(photos / "cat")
    os.mkfifo(photos / "cat" / "pipe.png")
    data = read(photos)
    assert torch.bincount(torch.cat([data.train.labels, data.val.labels])).tolist() == [7, 4, 3]
    assert {(Path(one.path).name, one.reason) for one in data.skipped} == {
        ("gone.png", "cannot be read: No such file or directory"),
        ("pipe.png", "no regular file"),
    }


def test_files_and_folders_that_must_not_be_read(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rights do not bind every user who runs the tests, so the refusal is played."""
    opened, scanned = Image.open, os.scandir

    def refuse(path: Any, *rest: Any, **how: Any) -> Any:
        if Path(path).name == "00.png":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *rest, **how)

    def refuse_folder(path: Any) -> Any:
        if Path(path).name == "private":
            raise PermissionError(13, "Permission denied", str(path))
        return scanned(path)

    (photos / "cat" / "private").mkdir()
    monkeypatch.setattr(Image, "open", refuse)
    monkeypatch.setattr(os, "scandir", refuse_folder)
    data = read(photos)
    assert data.skipped == (
        Skipped(str(photos / "cat" / "private"), "cannot be listed: Permission denied"),
        Skipped(str(photos / "cat" / "00.png"), "cannot be read: Permission denied"),
        Skipped(str(photos / "dog" / "00.png"), "cannot be read: Permission denied"),
    )


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "webp", "tiff", "bmp"])
def test_random_damage_never_ends_the_run(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{suffix}"
    content = saved(photo(1, 60, 50), path)
    drawn = random.Random(suffix)
    paths = []
    for number in range(60):
        changed = bytearray(content)
        for _ in range(drawn.choice([1, 5, 50])):
            changed[drawn.randrange(min(len(changed), drawn.choice([40, 10**9])))] = drawn.randrange(256)
        paths.append(tmp_path / f"{number}.{suffix}")
        paths[-1].write_bytes(changed[: drawn.randrange(len(changed))] if number % 5 == 0 else changed)
    pixels, good, skipped = pictures.read(paths, SIDE)
    assert len(pixels) == len(good) == 60 - len(skipped)
    assert all(one.reason for one in skipped)


def test_pillows_warnings_stay_inside(photos: Path, recwarn: pytest.WarningsRecorder) -> None:
    (photos / "cat" / "bomb.png").write_bytes(png_that_claims(12_000, 12_000))
    (photos / "cat" / "odd.jpg").write_bytes(saved(photo(1), photos / "x.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff"))
    read(photos)
    assert [str(one.message) for one in recwarn] == []


# -- folders that cannot be used


def test_folders_that_are_no_classes(photos: Path, tmp_path: Path) -> None:
    def says(at: Path) -> str:
        with pytest.raises(DataError) as caught:
            read(at)
        return str(caught.value)

    wanted = f"expected one folder for each class, as in {photos / 'cat' / 'cat'} and {photos / 'cat' / 'dog'}"
    assert says(photos / "cat") == f"{photos / 'cat'} has no folder of a class, but 6 files: {wanted}"
    assert says(tmp_path) == f"{tmp_path} has one folder, photos: did you mean folder:{photos}?"
    assert "cannot be read as a folder of class folders: No such file or directory" in says(tmp_path / "none")
    assert "cannot be read as a folder of class folders: Not a directory" in says(photos / "cat" / "00.png")
    for file in (photos / "dog").iterdir():
        file.unlink()
    assert says(photos).startswith(f"{photos}: no image that can be read in dog: add images, or take the folder away")
    (photos / "dog" / "zero.jpg").touch()
    assert f"in dog (1 file skipped, the first is {photos / 'dog' / 'zero.jpg'}: empty: 0 bytes)" in says(photos)
    (photos / "dog" / "zero.jpg").unlink()
    (photos / "dog").rmdir()
    assert "has one folder, cat, and with one class there is nothing to tell apart: expected one folder for" in says(
        photos
    )


def test_a_class_of_one_image_cannot_be_divided(photos: Path) -> None:
    put(photos / "elk", 1)
    with pytest.raises(
        DataError, match="class 'elk' has 1 image, and needs at least 2, one to train with and one to val"
    ):
        read(photos)
    put(photos / "elk", 1, first=5)
    assert torch.bincount(read(photos, val_fraction=0.01).val.labels).tolist() == [1, 1, 1]
    assert torch.bincount(read(photos, val_fraction=0.99).train.labels).tolist() == [1, 1, 1]


def test_splits_that_do_not_fit(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        put(tmp_path / "train" / name, 2)
    put(tmp_path / "val" / "cat", 1)
    assert read(tmp_path).val.labels.tolist() == [0]
    put(tmp_path / "val" / "elk", 1)
    with pytest.raises(DataError, match="elk is no class of the training folder, whose classes are cat, dog"):
        read(tmp_path)
    (tmp_path / "val" / "elk" / "00.png").unlink()
    (tmp_path / "val" / "elk").rmdir()
    (tmp_path / "val" / "cat" / "00.png").write_bytes(b"")
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'val'}: no image that can be read (1 file skipped")):
        read(tmp_path)


def test_more_than_the_limit_is_not_read(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "LIMIT", 10 * 3 * SIDE * SIDE - 1)
    with pytest.raises(
        DataError, match=r"10 images of 3 × 16 × 16 need 0\.0 GiB of memory, and the limit is .* take a smaller"
    ):
        read(photos)
    monkeypatch.setattr(arrays, "LIMIT", 10 * 3 * SIDE * SIDE)
    assert len(read(photos).train) == 8


def test_without_pillow(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(DataError, match="photographs are read by Pillow, which is not installed: pip install pillow"):
        read(photos)

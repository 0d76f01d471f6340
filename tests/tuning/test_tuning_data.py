"""Photographs as they come: any kind of file, damaged ones, copies on both sides, uneven classes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tuning_pictures import COLOURS, folder_of, picture  # type: ignore[import-not-found]

from runtrue.datasets import DataError
from runtrue.tuning import data
from runtrue.tuning.settings import Settings

Image = pytest.importorskip("PIL.Image")


def read(place: Path, **settings: Any) -> Any:
    return data.read(Settings().changed(data=str(place), **settings), 32)


def test_files_of_every_kind_and_damaged_ones(tmp_path: Path) -> None:
    place = folder_of(tmp_path / "photos", 6)
    picture(COLOURS["red"], 90).convert("L").save(place / "red" / "grey.png")
    picture(COLOURS["red"], 91).convert("P").save(place / "red" / "palette.gif")
    picture(COLOURS["red"], 92).convert("RGBA").save(place / "red" / "alpha.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(COLOURS["red"], 93).save(place / "red" / "turned.jpg", exif=turned)
    (place / "red" / "cut.png").write_bytes((place / "red" / "0.png").read_bytes()[:300])
    (place / "red" / "empty.jpg").write_bytes(b"")
    images = read(place)
    assert len(images.train) + len(images.val) == 18 + 4
    assert {Path(one.path).name for one in images.skipped} == {"cut.png", "empty.jpg"}
    assert all(one.reason for one in images.skipped)
    assert len(images.train.paths) == len(images.train) and len(images.val.paths) == len(images.val)
    for split in (images.train, images.val):
        assert [images.classes[i] for i in split.labels.tolist()] == [path.parent.name for path in split.paths]


def test_the_files_of_a_split_are_its_pictures(coloured: Path) -> None:
    images = read(coloured)
    with Image.open(images.val.paths[3]) as file:
        found = np.asarray(file.convert("RGB")).mean((0, 1))
    assert torch.allclose(images.val.images[3].float().mean((1, 2)), torch.tensor(found).float(), atol=6)
    again, other = read(coloured), read(coloured, seed=1)
    assert again.val.paths == images.val.paths != other.val.paths
    assert torch.bincount(images.val.labels).tolist() == [2, 2, 2]


def test_copies_on_both_sides_are_named(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("val", 2)):
        folder_of(tmp_path / part, count)
    for path in (tmp_path / "val").rglob("*.png"):
        path.unlink()
    for name in COLOURS:
        picture(COLOURS[name], 70).save(tmp_path / "val" / name / "own.png")
    assert list(data.overlap(read(tmp_path))) == []
    shutil.copy(tmp_path / "train" / "red" / "3.png", tmp_path / "val" / "red" / "again.png")
    shutil.copy(tmp_path / "train" / "green" / "1.png", tmp_path / "val" / "red" / "wrong.png")
    (found,) = data.overlap(read(tmp_path))
    assert (found.cause, found.severity) == ("train-val-overlap", "warning")
    assert found.evidence == {"copies": 2, "of": 5, "limit": 0, "otherwise labelled": 1}
    assert "again.png is red/3.png" in found.message and "too high by up to 40.0%" in found.message


def test_uneven_classes_are_weighed_and_told() -> None:
    labels, names = torch.tensor([0] * 12 + [1] * 3 + [2] * 3), ("cat", "dog", "owl")
    found = data.weights_of(labels, 3, Settings())
    assert found is not None and found.tolist() == pytest.approx([0.5, 2.0, 2.0])
    assert float(found[labels].sum()) == pytest.approx(len(labels)), "the loss keeps its scale"
    assert "an image of dog counts 4 times as much as one of cat" in data.weighing(labels, names, found)
    assert data.weights_of(labels, 3, Settings(class_weights="none")) is None
    even = torch.tensor([0] * 5 + [1] * 4 + [2] * 3)
    assert data.weights_of(even, 3, Settings()) is None
    assert data.weighing(even, names, None) == "all classes count alike (cat has 5 images, owl 3)"


@pytest.mark.parametrize(
    ("where", "said"), [("", "say where the photographs are"), ("nowhere", "there is no folder nowhere")]
)
def test_no_data(where: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        data.read(Settings().changed(data=where), 32)


def test_a_table(tmp_path: Path, coloured: Path) -> None:
    lines = [f"{path},{path.parent.name}" for path in sorted(coloured.rglob("*.png"))]
    (tmp_path / "all.csv").write_text("path,label\n" + "\n".join(lines))
    for where in (f"csv:{tmp_path / 'all.csv'}", str(tmp_path / "all.csv")):
        images = data.read(Settings().changed(data=where), 32)
        assert images.classes == tuple(COLOURS) and len(images.train) + len(images.val) == 36


def test_cut_out_pictures_are_seen_whole(tmp_path: Path, coloured: Path) -> None:
    assert data.framing(Settings().changed(data=str(coloured))) == "crop"
    for name, colour in COLOURS.items():
        (tmp_path / name).mkdir()
        for number in range(4):
            sheet = Image.new("RGBA", (60, 30), (0, 0, 0, 0))
            sheet.paste(picture(colour, number, (50, 10)), (5, 10))
            sheet.save(tmp_path / name / f"{number}.png")
    asked = Settings().changed(data=str(tmp_path))
    assert data.framing(asked) == "whole" and data.framing(asked.changed(framing="crop")) == "crop"
    (image,) = data.read(asked, 30, "whole").val.images[:1]
    ink = (image < 250).any(0)
    assert ink.any(0).float().mean() > 0.75 and ink.any(1).float().mean() < 0.3, (
        "all of its width, and white above and below"
    )

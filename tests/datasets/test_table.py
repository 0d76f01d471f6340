"""Images from a table: columns, splits, what is left out, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtrue.datasets import DataError, load

COLOURS = {"cat": 20, "dog": 220}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, grey in COLOURS.items():
        for i in range(5):
            Image.fromarray(np.full((20, 20, 3), grey + i, np.uint8)).save(tmp_path / f"{name}{i}.png")
    return tmp_path


def table(photos: Path, head: str, rows: list[str], name: str = "table.csv") -> str:
    (photos / name).write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return f"csv:{photos / name}"


def all_of(names: dict[str, int] = COLOURS, form: str = "{name}{i}.png,{name}") -> list[str]:
    return [form.format(name=name, i=i) for name in names for i in range(5)]


@pytest.mark.parametrize(
    ("head", "form"),
    [
        ("path,label", "{name}{i}.png,{name}"),
        ("Label;File", "{name};{name}{i}.png"), ("image\ttarget", "{name}{i}.png\t{name}"),
        ("who,filename,class", "me,{name}{i}.png,{name}"), ("\ufeffpath,label", '"{name}{i}.png","{name}"'),
    ],
)  # fmt: skip
def test_columns_are_found_by_their_names(head: str, form: str, photos: Path) -> None:
    found = load(table(photos, head, all_of(form=form)), size=16)
    assert found.classes == ("cat", "dog") and (len(found.train), len(found.val)) == (8, 2) and found.size == (16, 16)
    for split in (found.train, found.val):
        assert all((image.float().mean() > 100) == bool(label) for image, label in zip(split.images, split.labels))


def test_a_split_column_parts_them(photos: Path) -> None:
    rows = [f"{row},{'val' if '4.png' in row else 'Train'}" for row in all_of()]
    found = load(table(photos, "path,label,split", rows))
    assert (len(found.train), len(found.val)) == (8, 2) and {int(x.float().mean()) for x in found.val.images} == {
        24,
        224,
    }
    with pytest.raises(DataError, match="the split column has 1, 2: expected train and one of val"):
        load(table(photos, "path,label,split", [f"{row},{1 + i % 2}" for i, row in enumerate(all_of())]))
    with pytest.raises(DataError, match="no training image of dog"):
        load(table(photos, "path,label,split", [f"{row},{'val' if 'dog' in row else 'train'}" for row in all_of()]))


def test_rows_and_images_that_cannot_be_used_are_left_out_and_listed(photos: Path) -> None:
    (photos / "bad.png").write_bytes(b"no image")
    found = load(table(photos, "path,label", [*all_of(), "bad.png,cat", "none.png,dog", "cat0.png,", "", "lonely"]))
    assert len(found.train) + len(found.val) == 10
    assert sorted(one.reason for one in found.skipped) == [
        "cannot be read: No such file or directory", "no image of a known format", "no path, or no label", "no path, or no label",
    ]  # fmt: skip
    assert any("line 14" in one.path for one in found.skipped)


def test_numbers_are_in_the_order_of_their_size(photos: Path) -> None:
    rows = [f"cat{i}.png,10" for i in range(5)] + [f"dog{i}.png,9" for i in range(5)]
    assert load(table(photos, "path,label", rows)).classes == ("9", "10")


@pytest.mark.parametrize(
    ("head", "rows", "said"),
    [
        ("path,colour", ["a,b"], "has no column of labels (label, class, target"),
        ("where,label", ["a,b"], "has no column of paths"),
        ("path,label", [], "has 1 line: expected names of columns"), ("path,label", ["cat0.png,cat"], "1 class in 1 row"),
        ("path,label", ["x.png,cat", "y.png,dog"], "no image that can be read of cat, dog (2 files skipped"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_used(head: str, rows: list[str], said: str, photos: Path) -> None:
    with pytest.raises(DataError) as caught:
        load(table(photos, head, rows))
    assert said in str(caught.value) and "table.csv" in str(caught.value)


def test_what_is_no_table(photos: Path) -> None:
    (photos / "bytes.csv").write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(DataError, match="is no table of text"):
        load(f"csv:{photos / 'bytes.csv'}")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        load(f"csv:{photos / 'none.csv'}")
    with pytest.raises(DataError, match=r"Did you mean csv:"):
        load(str(photos / "table.csv"))

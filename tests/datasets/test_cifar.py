"""CIFAR in both layouts, written here as it is distributed; pickles are read without running anything in them."""

from __future__ import annotations

import io
import pickle
import re
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from runtrue.datasets import DataError, load
from runtrue.datasets.unpickling import ArraysOnly, loads

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
TINY = 20


def rows(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (TINY, 3072), dtype=np.uint8)


class Python2(pickle._Pickler):
    """Writes byte strings as Python 2 did, which is how CIFAR was pickled, and NumPy's modules by the names of that time."""

    dispatch: ClassVar[Any] = dict(pickle._Pickler.dispatch)

    def string(self, value: Any) -> None:
        content = value.encode("latin1") if isinstance(value, str) else value
        self.write(b"T" + struct.pack("<i", len(content)) + content)  # type: ignore[attr-defined]
        self.memoize(value)  # type: ignore[attr-defined]

    dispatch[bytes] = dispatch[str] = string


def python2(value: Any) -> bytes:
    stream = io.BytesIO()
    Python2(stream, protocol=2).dump(value)
    return stream.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


WRITERS: dict[str, Callable[[Any], bytes]] = {
    "Python 2": python2,
    **{f"protocol {number}": partial(pickle.dumps, protocol=number) for number in range(6)},
}


def write_cifar10(root: Path, dumps: Callable[[Any], bytes] = python2, key: Any = str) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        batch = {"batch_label": name, "data": rows(number), "labels": [(i + number) % 10 for i in range(TINY)]}
        (folder / name).write_bytes(dumps({key(k): v for k, v in batch.items()}))
    (folder / "batches.meta").write_bytes(dumps({key("label_names"): NAMES, key("num_cases_per_batch"): TINY}))
    return folder


@pytest.mark.parametrize("how", WRITERS)
def test_pickles_of_cifar10(how: str, tmp_path: Path) -> None:
    write_cifar10(tmp_path, WRITERS[how])
    data = load("cifar10", root=tmp_path)
    images = np.concatenate([rows(number) for number in range(5)]).reshape(-1, 3, 32, 32)
    np.testing.assert_array_equal(data.train.images.numpy(), images)
    np.testing.assert_array_equal(data.val.images.numpy(), rows(5).reshape(-1, 3, 32, 32))
    assert data.train.labels[TINY : TINY + 3].tolist() == [1, 2, 3]
    assert (data.classes, data.channels, data.size) == (tuple(NAMES), 3, (32, 32))
    assert data.mean == pytest.approx(images.mean((0, 2, 3)) / 255)
    assert data.std == pytest.approx(images.std((0, 2, 3)) / 255)


def test_keys_may_be_bytes_and_the_folder_itself_may_be_named(tmp_path: Path) -> None:
    folder = write_cifar10(tmp_path, lambda value: pickle.dumps(value, protocol=2), key=str.encode)
    assert load("cifar10", root=folder).classes == load("cifar10", root=tmp_path).classes == tuple(NAMES)


def test_pickles_of_cifar100_have_the_fine_labels(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for number, name in enumerate(("train", "test")):
        labels = {"fine_labels": list(range(80, 100)), "coarse_labels": [3] * TINY}
        (folder / name).write_bytes(python2({"data": rows(number), **labels}))
    names = [f"kind {i}" for i in range(100)]
    (folder / "meta").write_bytes(python2({"fine_label_names": names, "coarse_label_names": ["x"] * 20}))
    data = load("cifar100", root=tmp_path)
    assert data.train.labels.tolist() == list(range(80, 100))
    assert data.classes == tuple(names)


def write_binary(root: Path, name: str) -> None:
    small = name == "cifar10"
    folder = root / ("cifar-10-batches-bin" if small else "cifar-100-binary")
    folder.mkdir()
    files = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"] if small else ["train.bin", "test.bin"]
    for number, file in enumerate(files):
        labels = np.arange(TINY, dtype=np.uint8)[:, None] % 10
        front = labels if small else np.concatenate([0 * labels + 19, 90 + labels], 1)
        (folder / file).write_bytes(np.concatenate([front, rows(number)], 1).tobytes())
    if small:
        (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n", encoding="utf-8")


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_binary_layout(name: str, tmp_path: Path) -> None:
    write_binary(tmp_path, name)
    data = load(name, root=tmp_path)
    assert len(data.train) == (5 * TINY if name == "cifar10" else TINY)
    np.testing.assert_array_equal(data.train.images[:TINY].numpy(), rows(0).reshape(-1, 3, 32, 32))
    assert data.val.labels[:3].tolist() == ([0, 1, 2] if name == "cifar10" else [90, 91, 92])
    assert data.classes == (tuple(NAMES) if name == "cifar10" else tuple(map(str, range(100))))


def test_nothing_found(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").touch()
    with pytest.raises(DataError) as caught:
        load("cifar10", root=tmp_path)
    assert str(caught.value).splitlines()[:2] == [
        "cifar10 was not found. Looked for the folder cifar-10-batches-py or cifar-10-batches-bin in",
        f"  {tmp_path}: no such folder in it",
    ]
    assert "torchvision.datasets.CIFAR10('data', download=True)" in str(caught.value)


# -- pickles that are no data


class Danger:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_code_in_a_pickle_is_not_run(protocol: int, tmp_path: Path) -> None:
    folder = write_cifar10(tmp_path)
    target = tmp_path / "was here"
    for danger in (
        Danger(Path.touch, target),
        Danger(eval, f"open({str(target)!r}, 'w')"),
        Danger(open, str(target), "w"),
    ):
        (folder / "data_batch_3").write_bytes(pickle.dumps({"data": danger}, protocol=protocol))
        with pytest.raises(
            DataError, match=r"data_batch_3 is damaged, or no pickle of CIFAR: it asks for .*only arrays"
        ):
            load("cifar10", root=tmp_path)
    assert not target.exists()


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "builtins.getattr",
        "numpy.load",
        "numpy.fromfile",
        "_codecs.decode",
        "numpy.ndarray.tofile",
    ],
)
def test_only_what_arrays_are_made_of_is_found(name: str) -> None:
    module, _, function = name.rpartition(".")
    with pytest.raises(pickle.UnpicklingError, match=re.escape(f"it asks for {name}, and only arrays are read")):
        ArraysOnly(io.BytesIO()).find_class(module, function)


def test_objects_inside_of_arrays_are_not_made_either() -> None:
    hidden = pickle.dumps(np.array([Danger(print, "x")], dtype=object), protocol=2)
    with pytest.raises(ValueError, match="it asks for"):
        loads(hidden)
    with pytest.raises(ValueError, match="an array of 'O8', and only integers are read"):
        loads(pickle.dumps(np.array(["x"], dtype=object), protocol=2))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["u1", "<i4", ">i8", ">u2"])
def test_arrays_of_integers_are_read_as_numpy_reads_them(kind: str, protocol: int) -> None:
    array = np.arange(12).reshape(3, 4).astype(kind)
    for one in (array, np.asfortranarray(array)):
        np.testing.assert_array_equal(loads(pickle.dumps({"x": one}, protocol=protocol))["x"], array)


# -- damage


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("data_batch_2", b"", "data_batch_2 is damaged, or no pickle of CIFAR: EOFError: unpack the archive again"),
        ("data_batch_2", b"<html>", "data_batch_2 is damaged, or no pickle of CIFAR"),
        ("data_batch_2", python2({"data": rows(0)})[:5000], "data_batch_2 is damaged, or no pickle of CIFAR"),
        ("data_batch_2", python2([1, 2]), "holds a list, expected a dict with data and labels"),
        ("data_batch_2", python2({"labels": [1]}), "'data' is NoneType, expected uint8 (N, 3072)"),
        ("test_batch", python2({"data": rows(0)[:, 1:], "labels": [1]}), "'data' is uint8 (20, 3071), expected uint8 (N, 3072)"),
        ("test_batch", python2({"data": rows(0) / 255, "labels": [1]}), "an array of 'f8', and only integers are read"),
        ("test_batch", python2({"data": rows(0).astype(int), "labels": [1]}), "'data' is int64 (20, 3072), expected uint8"),
        ("test_batch", python2({"data": rows(0)}), "20 images, and of their labels 'labels' there are none"),
        ("test_batch", python2({"data": rows(0), "labels": [0] * 19}), "20 images, and of their labels 'labels' there are 19"),
        ("test_batch", python2({"data": rows(0), "labels": [0.5] * 20}), "labels 'labels' that are no integers"),
        ("test_batch", python2({"data": rows(0), "labels": [10] * 20}), "label 10, but there are 10 classes"),
        ("test_batch", python2({"data": rows(0), "labels": [[1], 2] * 10}), "labels 'labels' that are no integers"),
        ("batches.meta", python2({"label_names": NAMES[:9]}), "9 names of classes, expected 10"),
        ("batches.meta", python2({}), "no names of classes, expected 10"),
    ],
)  # fmt: skip
def test_damaged_pickles(file: str, content: bytes, says: str, tmp_path: Path) -> None:
    folder = write_cifar10(tmp_path)
    (folder / file).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(says)) as caught:
        load("cifar10", root=tmp_path)
    assert str(folder) in str(caught.value)


def test_missing_and_cut_files(tmp_path: Path) -> None:
    folder = write_cifar10(tmp_path)
    for name in ("data_batch_4", "test_batch"):
        (folder / name).unlink()
    with pytest.raises(DataError, match="data_batch_4, test_batch missing: unpack the archive again"):
        load("cifar10", root=tmp_path)
    write_binary(tmp_path, "cifar100")
    file = tmp_path / "cifar-100-binary" / "train.bin"
    for content in (b"", file.read_bytes()[:-1]):
        file.write_bytes(content)
        with pytest.raises(DataError, match=f"{len(content):,} bytes are not a number of records of 2 \\+ 3,072 bytes"):
            load("cifar100", root=tmp_path)


def test_random_damage_is_an_error_or_is_not_seen(tmp_path: Path) -> None:
    folder = write_cifar10(tmp_path)
    whole = (folder / "test_batch").read_bytes()
    drawn = np.random.default_rng(0)
    header = [place for place in range(len(whole)) if place < 300 or place > len(whole) - 300]
    for _ in range(150):
        changed = bytearray(whole)
        changed[drawn.choice(header)] = drawn.integers(256)
        (folder / "test_batch").write_bytes(changed)
        try:
            load("cifar10", root=tmp_path)
        except DataError:
            continue

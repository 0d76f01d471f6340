"""Small photographs in real files of every kind, and a small trained network of our own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("safetensors")
pytest.importorskip("PIL.Image")

from tuning_pictures import COLOURS, NET, folder_of, picture  # type: ignore[import-not-found]


@pytest.fixture(scope="session")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 pictures of each of 3 classes."""
    return folder_of(tmp_path_factory.mktemp("coloured"))


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A TARGET, and a file of weights for it whose normalizations have seen pictures prepared as ImageNet's."""
    place = tmp_path_factory.mktemp("net")
    (place / "net.py").write_text(NET)
    made: dict[str, Any] = {}
    exec(NET, made)
    model = made["build"]()
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = [np.asarray(picture(c, n, (32, 32))) for n in range(20) for c in COLOURS.values()]
    x = (torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255 - mean) / std
    for _ in range(60):
        model.train()(x)
    torch.save(model.state_dict(), place / "weights.pth")
    return f"{place / 'net.py'}:build", place / "weights.pth"


@pytest.fixture
def tune(small: tuple[str, Path], coloured: Path, tmp_path: Path) -> Callable[..., Any]:
    """tune(**settings) -> Tuned, with the small network on the coloured pictures, in tmp_path/run."""
    from runtrue.tuning import finetune

    target, weights = small

    def run(net: Any = target, **settings: Any) -> Any:
        given: dict[str, Any] = {
            "weights": str(weights),
            "side": 32,
            "data": coloured,
            "run": tmp_path / "run",
            "say": lambda text: None,
        }
        return finetune(net, **(given | settings))

    return run

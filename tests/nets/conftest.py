"""Torchvision's networks as an oracle, where it is installed."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

MISSING = ("nms", "qnms")
"""Operators that a torchvision built for CUDA lacks beside a torch built for CPUs. No network needs them, but its import does."""
KEPT: list[Any] = []
"""Operators stay defined as long as their library is referred to."""


@pytest.fixture(scope="session")
def tv_models() -> Any:
    """`torchvision.models`; the test is skipped where torchvision is absent."""
    try:
        return importlib.import_module("torchvision.models")
    except ImportError:
        pytest.skip("torchvision is not installed")
    except RuntimeError:  # operator torchvision::nms does not exist
        library = torch.library.Library("torchvision", "DEF")
        KEPT.append(library)
        for name in MISSING:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return importlib.import_module("torchvision.models")

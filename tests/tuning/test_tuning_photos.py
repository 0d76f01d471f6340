"""Real photographs and real weights (fixtures of tests/conftest.py, which skip where these are not on the machine)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from runtrue.tuning import finetune

pytestmark = pytest.mark.slow


def test_a_new_head_on_photographs(photos: Path, mobilenet: Path, tmp_path: Path) -> None:
    began = time.process_time()
    tuned = finetune("mobilenet_v2", photos, weights=str(mobilenet), run=tmp_path / "run", say=lambda text: None)
    assert tuned.val_accuracy >= 0.8, "0.896 in the mean of 5 folds; of 42 pictures alone it varies by 0.05"
    assert time.process_time() - began < 120
    assert "to the bit" in tuned.folder.read_facts()["stood_still"]


def test_all_layers_on_photographs_never_end_below_the_head(photos: Path, mobilenet: Path, tmp_path: Path) -> None:
    tuned = finetune(
        "mobilenet_v2", photos, weights=str(mobilenet), run=tmp_path / "run", mode="deep", epochs=2, side=96,
        say=lambda text: None,
    )  # fmt: skip
    losses = {row["epoch"]: row["val_loss"] for row in tuned.history}
    assert losses[tuned.kept_epoch] == min(losses.values())

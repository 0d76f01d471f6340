"""Settings: from a file and back, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtrue.training.config import CHOICES, LIMITS, NAMES, Config, ConfigError, read, written


def test_a_file_starts_the_same_run(tmp_path: Path) -> None:
    config = Config().changed(
        net="mlp:300x2", lr=0.05, l1=1e-5, max_norm=3, precision="bf16", channels_last=True, check=False
    )
    path = tmp_path / "config.yaml"
    path.write_text(written(config))
    assert read(path) == config
    assert [line.split(":")[0] for line in written(config).splitlines()] == list(NAMES)


def test_what_a_file_leaves_out_is_as_by_default(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("lr: 1e-3\nprecision: 32\n")
    assert read(path) == Config().changed(lr=0.001, precision="32")
    path.write_text("")
    assert read(path) == Config()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"learning_rate": 0.1}, "there is no setting 'learning_rate'"),
        ({"epoch": 3}, "did you mean 'epochs'?"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"epochs": 1.5}, "epochs must be a whole number, got 1.5"),
        ({"epochs": True}, "epochs must be a whole number, got True"),
        ({"lr": 0}, "lr must be above 0"),
        ({"lr": "fast"}, "lr must be a number, got 'fast'"),
        ({"lr": float("nan")}, "lr must be above 0"),
        ({"optimizer": "adamW"}, "optimizer must be one of"),
        ({"decay": "stepp"}, "did you mean 'step'?"),
        ({"check": "yes"}, "check must be true or false, got 'yes'"),
        ({"net": None}, "net must be text, got None"),
        ({"dropout": 1.0}, "dropout must be at least 0 and at most 0.99"),
        ({"max_norm": 0}, "max_norm must be above 0"),
    ],
)
def test_a_wrong_setting_is_named_with_what_there_is(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config().changed(**settings)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- 1\n- 2\n", "it holds list"),
        ("lr: [", "is not YAML"),
        ("lrr: 1\n", "did you mean 'lr'?"),
        ("\x00", "is not YAML"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert str(path) in str(caught.value) and says in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "none.yaml")


def test_limits_and_choices_are_of_settings_and_the_defaults_lie_within() -> None:
    assert set(LIMITS) <= set(NAMES) and set(CHOICES) <= set(NAMES) and not set(LIMITS) & set(CHOICES)
    Config()

"""Settings: what is out of its limits, or no setting, is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtrue.training import values
from runtrue.tuning.settings import ConfigError, Settings, triple


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mode": "heads"}, "mode must be one of head, deep, got 'heads'; did you mean 'head'?"),
        ({"norms": "freeze"}, "norms must be one of auto, train, freeze-statistics, freeze-all"),
        ({"lr": 0}, "lr must be above 0"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"epochs": 2.5}, "epochs must be a whole number, got 2.5"),
        ({"eopchs": 3}, "there is no setting 'eopchs'; did you mean 'epochs'?"),
        ({"check": 1}, "check must be true or false"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match="^" + said.replace("(", r"\(").replace("?", r"\?")):
        Settings().changed(**wrong)


def test_a_file_holds_them_all(tmp_path: Path) -> None:
    asked = Settings().changed(net="a.py:b", lr="1e-3", mode="deep", weights=None)
    (tmp_path / "one.yaml").write_text(values.written(asked))
    assert values.read(tmp_path / "one.yaml", Settings()) == asked and asked.lr == 1e-3


def test_constants_of_the_channels() -> None:
    assert triple("0.5,0.4, 0.3", "mean") == (0.5, 0.4, 0.3) and triple("0.5", "std") == (0.5, 0.5, 0.5)
    assert triple(None, "std") is None
    for text, said in (("a,b", "mean must be numbers"), ("1,2", "mean must be 3 numbers")):
        with pytest.raises(ConfigError, match=said):
            triple(text, "mean")
    with pytest.raises(ConfigError, match="above 0"):
        triple("0,1,1", "std")

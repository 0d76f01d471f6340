"""The yardsticks of the benchmarks, against numbers that are known by other means."""

from __future__ import annotations

import pytest
import torch


def test_the_peak_of_tensors_is_exact() -> None:
    from check_memory import peak_of_tensors

    def run() -> None:
        first = torch.empty(1000, dtype=torch.float32)  # 4,000 bytes
        second = torch.empty(500, dtype=torch.float64)  # and 4,000
        del first
        third = torch.empty(250, dtype=torch.float32)  # 5,000 live
        del second, third

    run()
    assert peak_of_tensors(run) == pytest.approx(8000, abs=256)

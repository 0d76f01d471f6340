"""One thread: the same numbers on every machine, and tests that share its cores do not fight for them."""

from __future__ import annotations

import torch

pytest_plugins = ["pytester"]  # for the tests of our own plugin

torch.set_num_threads(1)

"""What is said to the user: each trouble once, and nothing that goes wrong in saying it reaches the training."""

from __future__ import annotations

import sys
from collections.abc import Callable


class Voice:
    """say: where a line goes; None: to standard error."""

    def __init__(self, say: Callable[[str], None] | None) -> None:
        self._say = say or _to_stderr
        self._said: set[str] = set()

    def __call__(self, text: str) -> None:
        try:
            self._say(text)
        except Exception:  # noqa: BLE001 a closed stream, an error of the user's: there is nobody left to tell
            return

    def once(self, about: str, text: str) -> None:
        """Say it, if nothing was said about this before."""
        if about not in self._said:
            self._said.add(about)
            self(text)


def silent(text: str) -> None:
    """Another process tells it."""


def _to_stderr(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()

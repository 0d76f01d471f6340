"""The runs below a folder, and nothing else: no name leads out of it, and links are not followed."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from runtrue.watch.page import QUIET
from runtrue.watch.record import FILE

MOST_FOLDERS = 20_000  # that are looked into for runs
HERE = "."
"""The name of a run that is the folder itself."""


@dataclass(frozen=True)
class Runs:
    """root: an absolute path without links."""

    root: Path

    @classmethod
    def below(cls, folder: Path) -> Runs:
        """Raises NotADirectoryError."""
        root = folder.resolve()
        if not root.is_dir():
            raise NotADirectoryError(f"{folder} is no folder: `runtrue serve` shows the runs below one")
        return cls(root)

    def names(self) -> list[str]:
        """Relative paths with "/" of all folders that hold a record, those written last first."""
        found = {name: self.file(name) for name in self._walk()}
        there = {name: file.stat().st_mtime for name, file in found.items() if file is not None}
        return sorted(there, key=lambda name: (-there[name], name))

    def _walk(self) -> Iterator[str]:
        for place, (folder, folders, files) in enumerate(os.walk(self.root, followlinks=False)):
            folders[:] = sorted(one for one in folders if not one.startswith("."))
            if FILE in files and sayable(folder):
                yield Path(folder).relative_to(self.root).as_posix()
            if place >= MOST_FOLDERS:
                return

    def file(self, name: str) -> Path | None:
        """The record of this name; None if there is none, or if it lies elsewhere: by "..", an absolute path, or a link."""
        parts = PurePosixPath(name).parts
        if "\0" in name or "\\" in name or name.startswith("/") or ".." in parts or not (parts or name == HERE):
            return None
        place = self.root.joinpath(*parts, FILE)
        try:
            own = place.resolve(strict=True) == place and place.is_file()
        except (OSError, RuntimeError, ValueError):
            return None
        return place if own else None

    def title(self, name: str) -> str:
        return self.root.name if name == HERE else name

    def mark(self, names: list[str]) -> str:
        """What changes whenever one of these records does. A record that goes on is written in the file beside it first."""
        found = []
        for name in names:
            file = self.file(name)
            if file is not None:
                quiet = time.time() - written(file) >= QUIET
                found.append(f"{name}:{stamp(file)}:{stamp(file.with_name(f'{FILE}-wal'))}:{quiet}")
        return str(hash_of("\n".join(found)))


def stamp(path: Path) -> str:
    try:
        seen = path.stat(follow_symlinks=False)
    except OSError:
        return "none"
    return f"{seen.st_mtime_ns}:{seen.st_size}"


def written(file: Path) -> float:
    """When the record was last written to, in seconds since the epoch."""
    times = [0.0]
    for path in (file, file.with_name(f"{FILE}-wal")):
        try:
            seen = path.stat()
        except OSError:
            continue
        if seen.st_size:
            times.append(seen.st_mtime)
    return max(times)


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def sayable(path: str) -> bool:
    """A name that is no text (bytes of another encoding) cannot stand in a URL."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\\" not in path or os.sep == "\\"

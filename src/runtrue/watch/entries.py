"""What stands in a record: its tables, and the values that go into them and come out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

SCHEMA = 1
FILE = "watch.sqlite"
TABLES = """
create table if not exists meta (key text primary key, value text not null);
create table if not exists steps (
    first integer primary key, last integer not null, count integer not null, mean real, low real, high real,
    squares real, lost integer not null, seconds real not null);
create table if not exists rates (step integer, part integer, rate real, primary key (step, part)) without rowid;
create table if not exists names (id integer primary key, name text not null, what text not null, unique (name, what));
create table if not exists layouts (id integer primary key, names blob not null unique);
create table if not exists readings (step integer primary key, at real not null, layout integer not null, numbers blob not null);
create table if not exists histograms (
    layer text, step integer, low real, high real, counts blob not null, primary key (layer, step)) without rowid;
create table if not exists epochs (epoch integer primary key, step integer not null, numbers text not null);
create table if not exists verdicts (id integer primary key, step integer not null, finding text not null);
create table if not exists events (id integer primary key, step integer not null, kind text not null, told text not null);
"""


class Stretch(NamedTuple):
    """Neighbouring steps. Losses that are no numbers are counted in `lost` and in nothing else; those not told, nowhere."""

    first: int
    last: int
    count: int  # type: ignore[assignment]  # a tuple's method of this name is not called
    mean: float | None
    low: float | None
    high: float | None
    squares: float | None
    lost: int
    seconds: float

    @property
    def std(self) -> float:
        """Standard deviation of the losses within."""
        if self.mean is None or self.squares is None or self.count < 2:
            return 0.0
        return float(max(0.0, self.squares / self.count - self.mean**2) ** 0.5)


def stretch(first: int, losses: Sequence[float | None], seconds: float) -> Stretch:
    """What is kept of these losses, one a step from `first` on; None where the user told none."""
    told = [loss for loss in losses if loss is not None]
    real = [loss for loss in told if abs(loss) < 1e38]
    last, lost = first + len(losses) - 1, len(told) - len(real)
    if not real:
        return Stretch(first, last, 0, None, None, None, None, lost, seconds)
    return Stretch(
        first, last, len(real), sum(real) / len(real), min(real), max(real), sum(x * x for x in real), lost, seconds
    )


def cut(part: Stretch, last: int) -> Stretch:
    """The beginning of a stretch, as if all its steps were alike."""
    share = (last - part.first + 1) / (part.last - part.first + 1)
    squares = None if part.squares is None else part.squares * round(part.count * share) / part.count
    return part._replace(
        last=last, count=round(part.count * share), squares=squares, lost=round(part.lost * share), seconds=part.seconds * share
    )  # fmt: skip


def joined(a: Stretch, b: Stretch) -> Stretch:
    """Two neighbours as one."""
    if a.mean is None or b.mean is None:
        kept = b if a.mean is None else a
        return kept._replace(first=a.first, last=b.last, lost=a.lost + b.lost, seconds=a.seconds + b.seconds)
    assert a.low is not None and b.low is not None and a.high is not None and b.high is not None
    assert a.squares is not None and b.squares is not None
    count = a.count + b.count
    mean = (a.mean * a.count + b.mean * b.count) / count
    return Stretch(
        a.first, b.last, count, mean, min(a.low, b.low), max(a.high, b.high), a.squares + b.squares,
        a.lost + b.lost, a.seconds + b.seconds,
    )  # fmt: skip


def thinned(parts: Iterable[Stretch], width: int) -> Iterator[Stretch]:
    """Neighbours joined, up to `width` steps each."""
    kept: Stretch | None = None
    for part in parts:
        if kept is not None and part.last - kept.first < width:
            kept = joined(kept, part)
        else:
            if kept is not None:
                yield kept
            kept = part
    if kept is not None:
        yield kept


class Reading(NamedTuple):
    """Numbers read at one step, by (layer or parameter, what)."""

    step: int
    at: float
    numbers: dict[tuple[str, str], float]


class Histogram(NamedTuple):
    layer: str
    step: int
    low: float
    high: float
    counts: tuple[int, ...]

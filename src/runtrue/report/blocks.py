"""What a page is made of. Values only; `page` turns them into HTML and escapes every string in them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

Tone = Literal["bad", "good", "neutral"]


@dataclass(frozen=True)
class Prose:
    """Paragraphs, parted by empty lines. Words between backticks are set as code. `lead`: set larger."""

    text: str
    lead: bool = False
    kind: ClassVar[str] = "prose"


@dataclass(frozen=True)
class Code:
    """Code to paste, with a button that copies it."""

    text: str
    caption: str = ""
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Link:
    """A cell of a table that leads to the section with this anchor, on the same page."""

    text: str
    anchor: str


@dataclass(frozen=True)
class Table:
    """A table that scrolls in its own box. Numbers are shown with four digits and set flush right; a cell may be a `Link` or
    a `Tag`."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite chart. `alt` says in words what it shows, for readers who do not see it. `name` tells it from the others of
    a page that is brought up to date while it is open."""

    spec: Mapping[str, Any]
    caption: str = ""
    alt: str = ""
    name: str = ""
    kind: ClassVar[str] = "chart"


@dataclass(frozen=True)
class Facts:
    """Labels and values, one under the other."""

    facts: Mapping[str, Any]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Stat:
    """One number that the eye should meet first."""

    label: str
    value: Any
    tone: Tone = "neutral"


@dataclass(frozen=True)
class Stats:
    """A few large numbers side by side."""

    stats: Sequence[Stat]
    kind: ClassVar[str] = "stats"


@dataclass(frozen=True)
class Tag:
    """A word or two beside a heading, such as `safe` or `not cured`."""

    text: str
    tone: Tone = "neutral"


@dataclass(frozen=True)
class Section:
    """Blocks under a heading. `id` is the anchor, `kicker` the small line above the heading."""

    heading: str
    blocks: Sequence[Block]
    id: str = ""
    kicker: str = ""
    tags: Sequence[Tag] = ()
    tone: Tone = "neutral"
    kind: ClassVar[str] = "section"


@dataclass(frozen=True)
class Fold:
    """Blocks that the reader opens when wanted."""

    summary: str
    blocks: Sequence[Block]
    kind: ClassVar[str] = "fold"


@dataclass(frozen=True)
class Picture:
    """jpeg: the bytes of the file; title, note: lines under it. `alt` says what it shows, for readers who do not see it."""

    jpeg: bytes
    title: str
    note: str = ""
    alt: str = ""

    @property
    def source(self) -> str:
        """The picture inside the page."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"


@dataclass(frozen=True)
class Sheet:
    """Small pictures side by side."""

    pictures: Sequence[Picture]
    caption: str = ""
    kind: ClassVar[str] = "sheet"


Block: TypeAlias = Prose | Code | Table | Chart | Facts | Stats | Section | Fold | Sheet

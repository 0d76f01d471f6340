"""Photographs from files of any kind to bytes of one size, in threads. What cannot be read is said, and the rest goes on."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from runtrue.datasets.arrays import Array, bytes_of
from runtrue.datasets.images import DataError, Skipped

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "HEIF", "TGA", "ICO")
"""What is opened, where Pillow (or a plug-in that was registered) can. Not EPS and the like, which run a program."""

MOST_PIXELS = 89_478_485
"""Of one image, before it is made smaller: Pillow's own limit, a quarter of a GiB of RGB. A few bytes can claim more."""

THREADS = 8
"""Decoding leaves Python's lock, so that threads share the cores; more than 8 wait for the disk."""

ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")
DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's modes with transparency, and with more than 8 bits."""

ORIENTATION = 0x0112
TURNS = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90",
}  # fmt: skip
"""The tag of EXIF 2.3, section 4.6.4, and Pillow's names of what brings each of its values upright."""


Framing = Literal["crop", "whole"]


class UnreadableError(Exception):
    """Why a file is left out."""


def read(paths: Sequence[Path], side: int, framing: Framing = "crop") -> tuple[Array, list[int], list[Skipped]]:
    """Pixels, uint8 (N, 3, side, side); the places in `paths` of the files that were read; and the others, with reasons.

    Raises DataError without Pillow.
    """
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise DataError("photographs are read by Pillow, which is not installed: pip install pillow") from error
    pixels = np.empty((len(paths), 3, side, side), dtype=np.uint8)

    def one(place: int) -> str | None:
        try:
            pixels[place] = decoded(paths[place], side, framing).transpose(2, 0, 1)
        except UnreadableError as error:
            return str(error)
        return None

    with _quiet(), ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        reasons = list(pool.map(one, range(len(paths))))
    good = [place for place, reason in enumerate(reasons) if reason is None]
    skipped = [Skipped(str(path), reason) for path, reason in zip(paths, reasons) if reason is not None]
    return pixels[good] if skipped else pixels, good, skipped


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings about odd files. The filters belong to the process: they are set around the threads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def decoded(path: Path, side: int, framing: Framing = "crop") -> Array:
    """uint8 (side, side, 3): turned as the camera says, over white, the short side resized and the middle cut out; or the "whole"
    picture, the long side resized and the rest white.

    Keeping the proportions and losing the ends is what classifiers are evaluated with (Krizhevsky et al. 2012, section 2);
    squashing would give each picture another distortion. Raises UnreadableError with the reason.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        seen = path.stat()
        if not stat.S_ISREG(seen.st_mode):
            raise UnreadableError("no regular file")
        if seen.st_size == 0:
            raise UnreadableError("empty: 0 bytes")
        with Image.open(path, formats=_formats()) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise UnreadableError(
                    f"{width:,} × {height:,} pixels, and the limit is {MOST_PIXELS:,}: make it smaller"
                )
            image.draft(None, (2 * side, 2 * side))  # a JPEG is decoded at a fraction of its size, still twice as large
            return np.asarray(_upright(FITS[framing](_plain(image), side), image))
    except UnreadableError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableError("no image of a known format") from error
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise UnreadableError(_reason(error)) from error


def _formats() -> list[str]:
    from PIL import Image

    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return f"damaged: {str(error) or type(error).__name__}"


def _upright(square: Image, image: Image) -> Image:
    """The square turned as the EXIF data of its image say; as it is where they cannot be read."""
    from PIL.Image import Transpose

    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # noqa: BLE001  whatever is wrong with them, the picture itself is there
        return square
    return square.transpose(Transpose[turn]) if turn else square


def _plain(image: Image) -> Image:
    """RGB, 8 bits a channel; what is transparent becomes white."""
    from PIL import Image as Pillow

    if image.mode in DEEP:
        return Pillow.fromarray(_levels(image)).convert("RGB")
    if image.mode in ALPHA or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Pillow.new("RGBA", layer.size, "white")
        return Pillow.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _levels(image: Image) -> Array:
    """8 bits from 16, by 257, so that white is white; floating point from 0 to 1 or to 255."""
    levels = np.asarray(image)
    if levels.dtype.kind != "f":
        if levels.size and not 0 <= int(levels.min()) <= int(levels.max()) <= 65_535:
            raise UnreadableError(f"levels from {levels.min()} to {levels.max()}, expected 0 to 65,535")
        return np.asarray(np.rint(levels / 257), dtype=np.uint8)
    if not np.isfinite(levels).all():
        raise UnreadableError("NaN or infinity among its pixels")
    try:
        return bytes_of(levels[None], "pixels").reshape(levels.shape)
    except DataError as error:
        raise UnreadableError(str(error)) from error


def _fitted(image: Image, side: int) -> Image:
    """The square in the middle, resized with an average over what lies under each new pixel."""
    from PIL.Image import Resampling

    width, height = image.size
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    return image.resize((side, side), Resampling.BILINEAR, box=(left, top, left + short, top + short), reducing_gap=3)


def _whole(image: Image, side: int) -> Image:
    """All of it on a white square."""
    from PIL import Image as Pillow
    from PIL.Image import Resampling

    width, height = (max(1, round(length * side / max(image.size))) for length in image.size)
    square = Pillow.new("RGB", (side, side), "white")
    seen = image.resize((width, height), Resampling.BILINEAR, reducing_gap=3)
    square.paste(seen, ((side - width) // 2, (side - height) // 2))
    return square


FITS = {"crop": _fitted, "whole": _whole}
"""How a picture becomes a square."""


WHITE = 250  # of 255: JPEG does not keep white exactly


def on_white(path: Path) -> bool:
    """True if more than half of the picture's edge is white or nothing: something cut out. False also if it cannot be read."""
    from PIL import Image as Pillow

    try:
        with Pillow.open(path, formats=_formats()) as image:
            if image.size[0] * image.size[1] > MOST_PIXELS:
                return False
            small = np.asarray(_plain(image).resize((16, 16), Pillow.Resampling.BOX))
    except Exception:  # noqa: BLE001  a damaged file can make a decoder raise anything; it is named when it is read
        return False
    edge = np.concatenate([small[0], small[-1], small[1:-1, 0], small[1:-1, -1]])
    return bool((edge >= WHITE).all(1).mean() > 0.5)

"""Images into patches, as Qwen2-VL's image processor makes them (arXiv 2409.12191; EXAONE 4.5 uses it).

    file, data URL -- read_image --> pixels [H, W, 3] -- patches --> Patches [P, C*tp*p*p], grid (t, h, w)

A patch is `patch` x `patch` pixels of `temporal_patch` frames (a still image repeats itself); `merge` x `merge`
neighbouring patches lie together, because they become one token of the text. Pillow is needed to decode files and to
resize, and for nothing else.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import math
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dokja.errors import ConfigError, DataError

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's training images (arXiv 2103.00020), red, green, blue, on a scale of 0 to 1."""
FILE = "preprocessor_config.json"
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_BYTES = 32_000_000
MAX_PIXELS = 64_000_000
_MAX_RATIO = 200
_BICUBIC = 3  # Pillow's number
_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)

Grid = tuple[int, int, int]
"""Patches of an image: frames / temporal_patch, rows, columns."""


class Sized(Protocol):
    """What of a `VisionSpec` an image must fit."""

    @property
    def patch(self) -> int: ...
    @property
    def merge(self) -> int: ...
    @property
    def temporal_patch(self) -> int: ...


@dataclass(frozen=True)
class ImageConfig:
    """How images become patches. `patch` in pixels, `merge` in patches, `mean` and `std` of the channels at 0 to 1;
    images of fewer than `min_pixels` or more than `max_pixels` pixels are scaled."""

    patch: int = 14
    merge: int = 2
    temporal_patch: int = 2
    min_pixels: int = 56 * 56
    max_pixels: int = 28 * 28 * 1280
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD

    def __post_init__(self) -> None:
        if min(self.patch, self.merge, self.temporal_patch) < 1:
            raise ConfigError("An image's patch, merge and temporal_patch are at least 1.")
        if not 1 <= self.min_pixels <= self.max_pixels or self.max_pixels < self.side**2:
            raise ConfigError(
                f"Images cannot have {self.min_pixels} to {self.max_pixels} pixels in steps of {self.side} x "
                f"{self.side}. Set min_pixels <= max_pixels and max_pixels >= {self.side**2}."
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError("An image's mean and std hold three numbers each (red, green, blue), std above 0.")

    @property
    def side(self) -> int:
        """Pixels of one side of a token."""
        return self.patch * self.merge

    @classmethod
    def of(cls, spec: Sized, min_pixels: int | None = None, max_pixels: int | None = None) -> ImageConfig:
        """The config for a vision tower; sizes left out let an image have 4 to 1280 tokens, as Qwen2-VL's do."""
        token = (spec.patch * spec.merge) ** 2
        sizes = (min_pixels or 4 * token, max_pixels or 1280 * token)
        return cls(spec.patch, spec.merge, spec.temporal_patch, *sizes)

    @classmethod
    def from_official(cls, raw: Mapping[str, Any]) -> ImageConfig:
        """Reads the keys of a Qwen2-VL `preprocessor_config.json`, old (`min_pixels`) or new (`size`).

        Raises ConfigError for one that asks for something else, such as another resampling.
        """
        fixed = {"do_resize": True, "do_rescale": True, "do_normalize": True, "resample": _BICUBIC}
        for key, value in fixed.items():
            if raw.get(key, value) != value:
                raise ConfigError(f"The image processor has {key} = {raw[key]!r}; dokja knows {value!r} only.")
        if abs(raw.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
            raise ConfigError(f"The image processor rescales by {raw['rescale_factor']}; dokja knows 1/255 only.")
        size, known = raw.get("size") or {}, cls()
        least = raw.get("min_pixels") or size.get("min_pixels") or size.get("shortest_edge") or known.min_pixels
        most = raw.get("max_pixels") or size.get("max_pixels") or size.get("longest_edge") or known.max_pixels
        try:
            return cls(
                int(raw.get("patch_size", known.patch)),
                int(raw.get("merge_size", known.merge)),
                int(raw.get("temporal_patch_size", known.temporal_patch)),
                int(least),
                int(most),
                tuple(map(float, raw.get("image_mean") or CLIP_MEAN)),
                tuple(map(float, raw.get("image_std") or CLIP_STD)),
            )
        except (TypeError, ValueError) as err:
            raise ConfigError(f"The image processor's numbers cannot be read ({err}). Restore {FILE}.") from err

    def to_official(self) -> dict[str, Any]:
        """Plain data of a `preprocessor_config.json` that transformers 5 reads."""
        return {
            "image_processor_type": "Qwen2VLImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "do_rescale": True,
            "do_normalize": True,
            "resample": _BICUBIC,
            "rescale_factor": 1 / 255,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "patch_size": self.patch,
            "temporal_patch_size": self.temporal_patch,
            "merge_size": self.merge,
            "size": {"shortest_edge": self.min_pixels, "longest_edge": self.max_pixels},
        }

    @classmethod
    def read(cls, folder: str | Path) -> ImageConfig:
        """The config of a release folder. Raises DataError where its file is missing or broken."""
        path = Path(folder) / FILE
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as err:
            raise DataError(f"{path} cannot be read ({err}). Copy the whole release of this vision model.") from err
        return cls.from_official(raw)

    def write(self, folder: str | Path) -> None:
        """Writes `preprocessor_config.json`."""
        (Path(folder) / FILE).write_text(json.dumps(self.to_official(), indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True, eq=False)
class Patches:
    """One image as the vision tower takes it. Equal when the numbers are equal."""

    values: np.ndarray
    """float32 [P, C*tp*p*p], P = t * h * w"""
    grid: Grid

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Patches) and self.grid == other.grid and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.grid, self.values.tobytes()))


def fit(height: int, width: int, c: ImageConfig) -> tuple[int, int]:
    """(height, width) in pixels that an image is scaled to: multiples of patch * merge near its own sides, the area
    brought between `min_pixels` and `max_pixels` at about the same shape. Raises DataError for a sliver."""
    if min(height, width) < 1 or max(height, width) > _MAX_RATIO * min(height, width):
        raise DataError(
            f"An image of {width} x {height} pixels is longer than {_MAX_RATIO} times its width. Crop or split it."
        )
    side, sides = c.side, (height, width)
    h, w = (round(n / side) * side for n in sides)
    if h * w > c.max_pixels:
        shrink = math.sqrt(height * width / c.max_pixels)
        h, w = (max(side, math.floor(n / shrink / side) * side) for n in sides)
    elif h * w < c.min_pixels:
        grow = math.sqrt(c.min_pixels / (height * width))
        h, w = (math.ceil(n * grow / side) * side for n in sides)
    return h, w


def patches(pixels: np.ndarray, c: ImageConfig) -> Patches:
    """pixels[H,W,3] uint8 -> its patches, resized (bicubic) only where `fit` asks for other sides.

    Raises DataError for a sliver, or where a resize is needed and Pillow is missing.
    """
    height, width, _ = check_pixels(pixels).shape
    height, width = fit(height, width, c)
    if (height, width) != pixels.shape[:2]:
        image = _pillow().fromarray(np.ascontiguousarray(pixels))
        pixels = np.asarray(image.resize((width, height), _BICUBIC))
    scaled = (pixels * (1 / 255)).astype(np.float32)
    x_HWC = (scaled - np.array(c.mean, np.float32)) / np.array(c.std, np.float32)
    h, w = height // c.side, width // c.side
    x = x_HWC.reshape(h, c.merge, c.patch, w, c.merge, c.patch, 3).transpose(0, 3, 1, 4, 6, 2, 5)
    x = np.broadcast_to(x[..., None, :, :], (*x.shape[:5], c.temporal_patch, c.patch, c.patch))
    return Patches(x.reshape(h * w * c.merge**2, -1), (1, h * c.merge, w * c.merge))


def token_count(grid: Grid, merge: int) -> int:
    """Tokens of the text that an image takes."""
    return math.prod(grid) // merge**2


def check_pixels(pixels: Any) -> np.ndarray:
    """`pixels` where it is an image, uint8 [H,W,3]; raises DataError otherwise."""
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        what = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise DataError(f"An image is an array of uint8 [height, width, 3], not {what}. Read it with read_image.")
    return pixels


# --- files ------------------------------------------------------------------------------------------------------


def read_image(source: bytes | str | Path, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """A file's bytes, a base64 data URL or a path -> pixels uint8 [H,W,3].

    Turned upright as its EXIF says; transparency becomes white, grey becomes RGB, 16 bits become 8. Raises DataError
    for what is broken, animated, too large (before it is unpacked) or no image; nothing is ever fetched from a network.
    """
    raw, image_of = _raw(source, max_bytes), _pillow()
    try:
        image = image_of.open(io.BytesIO(raw), formats=FORMATS)
    except image_of.DecompressionBombError as err:
        raise DataError(f"An image is too large to unpack ({err}). Scale it down.") from err
    except Exception as err:  # Pillow's readers raise anything on broken files
        raise DataError(f"An image cannot be recognised ({err}). Give a PNG, JPEG, WebP, GIF, BMP or TIFF.") from err
    if image.width * image.height > max_pixels:
        raise DataError(
            f"An image has {image.width} x {image.height} pixels; at most {max_pixels:,} are read. Scale it down."
        )
    if getattr(image, "is_animated", False) and image.format != "MPO":  # phones hide previews in MPO files
        raise DataError("An image is animated or has several pages. Send one frame as a still image.")
    try:
        return _rgb(image)
    except Exception as err:
        raise DataError(f"An image is broken or cut short ({err}). Save it again.") from err


def data_url(pixels: np.ndarray) -> str:
    """pixels[H,W,3] uint8 as a PNG in a base64 data URL, which `read_image` reads back exactly."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def png(pixels: np.ndarray) -> bytes:
    """pixels[H,W,3] uint8 as a PNG file (ISO/IEC 15948), unfiltered rows; the same pixels give the same bytes."""
    height, width, _ = check_pixels(pixels).shape
    rows = np.pad(pixels.reshape(height, width * 3), ((0, 0), (1, 0))).tobytes()

    def part(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(rows, 6)) + part(b"IEND", b"")


def _raw(source: bytes | str | Path, max_bytes: int) -> bytes:
    """The bytes of the file behind `source`."""
    if isinstance(source, str) and source.startswith("data:"):
        if not (head := _DATA_URL.match(source)):
            raise DataError(
                "An image's data URL cannot be read. Write data:image/png;base64,... or another image type."
            )
        if len(source) - head.end() > 4 * (max_bytes // 3 + 1):
            raise DataError(f"An image's data URL holds more than {max_bytes:,} bytes. Scale the image down.")
        try:
            source = base64.b64decode(source[head.end() :], validate=True)
        except ValueError as err:
            raise DataError(f"An image's data URL is no base64 ({err}). Encode the file again.") from err
    if isinstance(source, str) and re.match(r"\w+://", source):
        raise DataError(f"The image {source[:80]!r} would have to be fetched. Send it as a data URL or a file.")
    if not isinstance(source, bytes):
        path = Path(source)
        try:
            size, source = path.stat().st_size, b""
            if size <= max_bytes:
                source = path.read_bytes()
        except OSError as err:
            raise DataError(f"The image {path} cannot be read ({err}). Name an image file.") from err
    else:
        size = len(source)
    if size > max_bytes:
        raise DataError(f"An image file has {size:,} bytes; at most {max_bytes:,} are read. Scale it down.")
    return source


def _pillow() -> Any:
    """Pillow's Image module."""
    try:
        from PIL import Image
    except ImportError as err:
        raise DataError(
            "Reading or resizing images needs Pillow. Install it: python -m pip install 'dokja[vision]'."
        ) from err
    return Image


def _rgb(image: Any) -> np.ndarray:
    """A Pillow image -> pixels uint8 [H,W,3]."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of grey
        grey = np.asarray(image).clip(0, 0xFFFF) >> 8
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return np.array(image.convert("RGB"))

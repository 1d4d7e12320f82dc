"""Image files: finding them in what a user named, and decoding any of them to RGB."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps

from zgs_ros.pictures import MAX_PIXELS, TooLarge, open_picture
from zgs_ros.texts import printable

SUFFIXES = (
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".pnm",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
"""Endings by which images are recognised in a folder; a file that is named itself may have any."""

MAX_BYTES = 2**29
"""Largest file that is read."""

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


class BadImageFile(ValueError):
    """A file that is not a whole image; the message says what is wrong with it."""


class NoImages(ValueError):
    """A path that does not exist, or nothing to do at all; the message names it."""


@dataclass(frozen=True)
class ImageFile:
    """An image that the user named, or that was found in a folder that the user named.

    Attributes:
        path: Where it is.
        name: Its path within the folder that the user named; just the file's name when the user
            named the file. Never absolute and never with "..".
        folder: Name of that folder.
    """

    path: Path
    name: Path
    folder: str


def find_images(
    paths: Iterable[Path],
    recursive: bool = False,
    excluded: Callable[[Path], bool] = lambda path: False,
    on_error: Callable[[OSError], None] = lambda error: None,
) -> list[ImageFile]:
    """Lists the images that files and folders stand for, in a stable order, each once.

    Hidden files are left out of folders. Linked folders are followed, but none is entered twice, so
    that links in a circle end.

    Args:
        paths: Files and folders.
        recursive: Whether to look into the folders' subfolders too.
        excluded: Tells for a path inside a folder whether to pass over it.
        on_error: Called for each folder that can't be listed; the search goes on.

    Raises:
        NoImages: If a path does not exist or if there are no images at all.
    """
    paths = list(paths)
    found: dict[str, ImageFile] = {}
    for path in paths:
        if path.is_dir():
            folder = path.resolve().name
            for file in _walk(path, recursive, excluded, on_error):
                found.setdefault(
                    os.path.abspath(file), ImageFile(file, file.relative_to(path), folder)
                )
        elif path.is_file():
            entry = ImageFile(path, Path(path.name), path.resolve().parent.name)
            found.setdefault(os.path.abspath(path), entry)
        else:
            problem = "is not a regular file" if path.exists() else "does not exist"
            raise NoImages(f"{path}: {problem}")
    if not found:
        endings = ", ".join(SUFFIXES)
        hint = "" if recursive else "; subfolders are searched with --recursive"
        raise NoImages(f"no images in {', '.join(map(str, paths))} (looked for {endings}{hint})")
    return list(found.values())


def read_image(path: Path) -> bytes:
    """The content of an image file.

    Raises:
        BadImageFile: If it has more bytes than an image can have.
        OSError: If it can't be read.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1) if os.fstat(file.fileno()).st_size <= MAX_BYTES else None
    if data is None or len(data) > MAX_BYTES:
        raise BadImageFile(f"has more than {MAX_BYTES} bytes, which no image needs")
    return data


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decodes the content of an image file.

    The camera's orientation (EXIF) is applied, grey and 16-bit images (of which the upper byte is
    kept), palettes and CMYK become RGB, what is transparent turns white, and of an animation the
    first frame counts.

    Args:
        data: File content.
        max_pixels: Larger ones are refused, or where they are JPEGs made smaller by 2, 4 or 8.

    Returns:
        uint8 RGB (height, width, 3).

    Raises:
        BadImageFile: If the data is not an image, is broken or cut off, or is too large.
    """
    if not data:
        raise BadImageFile("is empty (0 bytes)")
    try:
        with open_picture(data, _FORMATS, max_pixels) as picture, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong and stays in the way is an error
            return _to_rgb(ImageOps.exif_transpose(picture))
    except BadImageFile:
        raise
    except TooLarge as error:
        raise BadImageFile(str(error)) from None
    except Pillow.UnidentifiedImageError:
        raise BadImageFile(f"is not an image (known: {', '.join(_FORMATS)})") from None
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, struct.error and others.
        raise BadImageFile(f"is broken: {printable(str(error) or type(error).__name__)}") from None


def _to_rgb(picture: Pillow.Image) -> NDArray[np.uint8]:
    if picture.mode == "F":
        raise BadImageFile("has floating-point pixels of unknown range; save it with 8 or 16 bits")
    if picture.mode.startswith("I"):  # 16 bits, which Pillow would clip to 255 rather than scale
        grey = (np.asarray(picture).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.has_transparency_data:
        ground = Pillow.new("RGBA", picture.size, "white")
        picture = Pillow.alpha_composite(ground, picture.convert("RGBA"))
    return np.array(picture.convert("RGB"))


def _walk(
    folder: Path,
    recursive: bool,
    excluded: Callable[[Path], bool],
    on_error: Callable[[OSError], None],
) -> Iterator[Path]:
    entered = set()
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=on_error):
        here = Path(parent)
        entered.add(os.path.realpath(here))
        for name in sorted(names):
            path = here / name
            if name.startswith(".") or path.suffix.lower() not in SUFFIXES or excluded(path):
                continue
            # A dangling link is worth a message later; pipes and devices are not images.
            if path.is_file() or not path.exists():
                yield path
        folders[:] = [
            name
            for name in sorted(folders)
            if recursive
            and not name.startswith(".")
            and os.path.realpath(here / name) not in entered
            and not excluded(here / name)
        ]

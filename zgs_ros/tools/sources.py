"""Where a camera's pictures come from: a folder, a video file, a webcam or the synthetic world."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from zgs_ros.files.images import (
    SUFFIXES,
    BadImageFile,
    NoImages,
    decode_image,
    find_images,
    read_image,
)
from zgs_ros.pictures import TooLarge, check_size
from zgs_ros.texts import natural_key, whole_number, width_and_height

SYNTHETIC = "synthetic"
SYNTHETIC_SIZE = (640, 480)

SCENES = 4
SCENE_FRAMES = 12
SCENE_RATE = 4.0
"""The synthetic loop: scenes, frames of each, and frames per second of scene time. Rendering costs
most of a second of a core per frame, so there are few, and they are kept (44 MB at 640x480)."""

logger = logging.getLogger(__name__)


class SourceError(ValueError):
    """A source that does not exist or gives no picture; the message says what to do."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture to publish.

    Attributes:
        rgb: uint8 (height, width, 3).
        depth: float32 (height, width) in metres, where the source knows it.
        intrinsics: float64 (3, 3) camera matrix, where the source knows it.
        pose: float64 (4, 4) from the camera's optical frame to the world, whose z axis points up, where
            the source knows it.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32] | None = None
    intrinsics: NDArray[np.float64] | None = None
    pose: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class SourceOptions:
    """How a source is read.

    Attributes:
        size: (width, height) that pictures are scaled to; None keeps theirs (synthetic: 640x480).
        loop: Whether a folder, video or synthetic loop begins again at its end.
        seed: Of the synthetic world.
        depth: Whether pictures carry depth, which only the synthetic world knows.
    """

    size: tuple[int, int] | None = None
    loop: bool = True
    seed: int = 0
    depth: bool = False


def parse_size(text: str | None) -> tuple[int, int] | None:
    """``"640x480"`` as (width, height), None as None.

    Raises:
        SourceError: If it is not a size.
    """
    if text is None:
        return None
    size = width_and_height(text)
    if size is None:
        raise SourceError(f"size {text!r} must be WxH in pixels, for example 640x480")
    try:
        check_size(*size)
    except TooLarge as error:
        raise SourceError(f"size {text!r}: {error}") from None
    return size


def open_source(source: str, options: SourceOptions) -> Iterator[Picture]:
    """Opens a source and checks that there is one.

    Args:
        source: Folder of images, image or video file, number or path of a webcam, or ``synthetic``.
        options: How it is read.

    Returns:
        The pictures, in order; endless with `SourceOptions.loop`.

    Raises:
        SourceError: If there is no such source or it has no pictures, now or while it is read.
    """
    if source == SYNTHETIC:
        return _synthetic(options)
    if options.depth:
        raise SourceError(
            f"source {source!r} has no depth; leave --depth out, or use {SYNTHETIC!r}"
        )
    _silence_opencv()
    number = whole_number(source)
    if number is not None and number < 2**31:
        return _scaled(_webcam(number), options.size)
    path = Path(source)
    if path.is_char_device():
        return _scaled(_webcam(source), options.size)
    if path.is_dir() or path.suffix.lower() in SUFFIXES:
        try:
            files = [image.path for image in find_images([path])]
            files.sort(key=lambda file: natural_key(file.name))  # frames are numbered
        except NoImages as error:
            raise SourceError(str(error)) from None
        return _scaled(_repeated(lambda: _folder(files), source, options.loop), options.size)
    if path.is_file():
        return _scaled(_repeated(lambda: _video(path), source, options.loop), options.size)
    problem = "is no file, folder or camera" if path.exists() else "does not exist"
    raise SourceError(
        f"source {source!r} {problem}; give a folder of images, an image or video file, "
        f"the number or path of a webcam, or {SYNTHETIC!r}"
    )


def _silence_opencv() -> None:
    """Has OpenCV and FFmpeg print nothing: what is wrong with a source is in the error."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def _repeated(read: Callable[[], Iterator[Picture]], name: str, loop: bool) -> Iterator[Picture]:
    while True:
        pictures = 0
        for picture in read():
            pictures += 1
            yield picture
        if not pictures:
            raise SourceError(f"{name} has no readable picture")
        if not loop:
            return


def _folder(files: list[Path]) -> Iterator[Picture]:
    skipped = 0
    for path in files:
        try:
            yield Picture(decode_image(read_image(path)))
        except (OSError, BadImageFile) as error:
            skipped += 1
            logger.warning("%s is skipped: %s", path, error)
    if skipped:
        logger.warning("%d of %d files were skipped", skipped, len(files))


def _video(path: Path) -> Iterator[Picture]:
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise SourceError(f"{path} is not a video that OpenCV can read")
        while True:
            more, frame = capture.read()
            if not more:
                return
            yield Picture(np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8))
    finally:
        capture.release()


def _webcam(device: int | str) -> Iterator[Picture]:
    """Pictures of a device by its number, or by its path."""
    # A path may be of any device: others than cameras, such as a serial port, can keep OpenCV waiting.
    capture = cv2.VideoCapture(device, cv2.CAP_V4L2 if isinstance(device, str) else cv2.CAP_ANY)
    if not capture.isOpened():
        path = f"/dev/video{device}" if isinstance(device, int) else device
        raise SourceError(
            f"webcam {device} can't be opened; is it a camera ({path}), free, and readable?"
        )

    def pictures() -> Iterator[Picture]:
        try:
            while True:
                more, frame = capture.read()
                if not more:
                    raise SourceError(f"webcam {device} stopped giving pictures; was it unplugged?")
                yield Picture(np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8))
        finally:
            capture.release()

    return pictures()


def _synthetic(options: SourceOptions) -> Iterator[Picture]:
    """Forth and back through scene after scene; each is rendered once and then comes from memory."""
    scenes: list[list[Picture]] = []
    for number in range(SCENES):
        scene: list[Picture] = []
        for picture in _rendered(options, number):
            scene.append(picture)
            yield picture
        yield from scene[-2:0:-1]
        scenes.append(scene)
    logger.info("all frames are rendered; from now on they come from memory")
    while options.loop:
        for scene in scenes:
            yield from scene
            yield from scene[-2:0:-1]


def _rendered(options: SourceOptions, number: int) -> Iterator[Picture]:
    # Only this source needs torch, which takes seconds to load.
    import torch

    from zgs_ros.synthetic.camera import SyntheticCamera

    torch.set_num_threads(1)  # the node wants the other cores
    width, height = options.size or SYNTHETIC_SIZE
    seed = options.seed + 1000 * number
    camera = SyntheticCamera(seed=seed, height=height, width=width, rate_hz=SCENE_RATE)
    began = time.monotonic()
    for index in range(SCENE_FRAMES):
        frame = camera.frame(index)
        depth = frame.depth if options.depth else None
        yield Picture(frame.rgb, depth, frame.intrinsics, frame.pose)
    logger.info(
        "scene %d of %d, %dx%d, is rendered (%.1f s)",
        number + 1,
        SCENES,
        width,
        height,
        time.monotonic() - began,
    )


def _scaled(pictures: Iterator[Picture], size: tuple[int, int] | None) -> Iterator[Picture]:
    for picture in pictures:
        height, width = picture.rgb.shape[:2]
        if size is None or size == (width, height):
            yield picture
        else:
            finer = size[0] * size[1] < width * height
            method = cv2.INTER_AREA if finer else cv2.INTER_LINEAR
            yield Picture(np.asarray(cv2.resize(picture.rgb, size, interpolation=method), np.uint8))

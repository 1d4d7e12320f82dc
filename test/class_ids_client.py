"""A process that classifies a stream of labels, in an order of its own: `class_ids_client.py FILE SEED`.

It prints which class each label has, as JSON. Of every ten seeds those from the tenth on see one label more.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zgs_ros.classes.classifier import Classifier
from zgs_ros.classes.file import ClassFile
from zgs_ros.classes.registry import ClassRegistry
from zgs_ros.segmentation import Label, Roi, Segment, Segmentation

AT_ONCE = 5
"""Labels of an image."""


def labels_of(seed: int) -> list[str]:
    """What the process of a seed sees, in its order."""
    labels = [f"thing {number}" for number in range(60)] + ["man", "woman"]
    labels += [f"seen since {number}" for number in range(0, seed + 1, 10)]
    random.Random(seed).shuffle(labels)
    return labels


def image_of(labels: Sequence[str]) -> Segmentation:
    """An image with a segment for each label."""
    nothing = np.empty(0, np.float32)
    segments = (
        Segment(number, (Label(text, 0.5),), Roi(0, 0, 1, 1), 1, (0.0, 0.0), nothing)
        for number, text in enumerate(labels, start=1)
    )
    return Segmentation(np.zeros((1, 1), np.uint16), tuple(segments))


def main() -> None:
    registry = ClassRegistry(ClassFile(Path(sys.argv[1])), patience=None)
    classifier = Classifier(registry, lambda phrases: np.empty((len(phrases), 0), np.float32))
    labels, ids = labels_of(int(sys.argv[2])), {}
    for start in range(0, len(labels), AT_ONCE):
        seen = classifier.classify(image_of(labels[start : start + AT_ONCE]))
        ids.update({segment.label: segment.class_id for segment in seen.segments})
    print(json.dumps(ids))


if __name__ == "__main__":
    main()

"""Whether a DINO is what it is said to be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import timm
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from zgs_ros.oversegmentation.features import DinoFeatures
from zgs_ros.tools.doctor.findings import Finding
from zgs_ros.tools.doctor.pictures import Picture
from zgs_ros.tools.doctor.weights import ANOTHER_FILE, check_positions, check_training

ROOM = "dino"
SHORT_SIDE = 224
"""What the published models were trained at; their patches of 8, 14, 16 or 32 pixels fit it."""
LEAST_SEPARATION = 0.75
"""Area under the curve below which features don't tell a thing from what is behind it; chance is 0.5."""
LEAST_AGREEMENT = {torch.float16: 0.995, torch.bfloat16: 0.97}
BUNDLED_NORMALISATION = ((0.5,) * 3, (0.25,) * 3)


def for_exam(features: DinoFeatures) -> DinoFeatures:
    """The same model at the usual size and without overlap, whatever the settings ask for."""
    same = DinoFeatures(features.model, SHORT_SIDE, features.patch)
    same.mean, same.std = features.mean, features.std
    return same.eval()


def features_of(features: DinoFeatures, pictures: Sequence[Picture]) -> list[NDArray[np.float32]]:
    """Per picture (rows, columns, width), unit norm."""
    found = []
    for picture in pictures:
        pixels = features.resize([torch.from_numpy(picture.image).to(features.mean.device)])
        found.append(features(pixels)[0].cpu().numpy())
    return found


def check_dino(
    features: DinoFeatures, name: str, is_bundled: bool, pictures: Sequence[Picture]
) -> Iterator[Finding]:
    """Looks at everything that needs no second model.

    Args:
        features: As it was loaded.
        name: timm's.
        is_bundled: Whether it comes with this package.
        pictures: With something in them that stands out.
    """
    model = features.model
    yield check_training(ROOM, model)
    if model.pos_embed is not None:  # DINOv3 has none
        prefix = 0 if model.no_embed_class else model.num_prefix_tokens
        side = round((model.pos_embed.shape[1] - prefix) ** 0.5)
        yield check_positions(ROOM, model.pos_embed, (side, side))
    yield check_normalisation(features, name, is_bundled)
    found = features_of(for_exam(features), pictures)
    if not all(np.isfinite(grid).all() for grid in found):
        yield Finding(ROOM, "numbers", "error", "features are no numbers", "try precision=float32")
        return
    yield check_separation(found, pictures)


def check_normalisation(features: DinoFeatures, name: str, is_bundled: bool) -> Finding:
    """Whether images are normalised as the weights' images were."""
    config = None if is_bundled else timm.get_pretrained_cfg(name)
    mean, std = (config.mean, config.std) if config else BUNDLED_NORMALISATION
    used, used_std = features.mean.flatten().tolist(), features.std.flatten().tolist()
    # Half precision keeps three digits.
    if np.allclose(used, mean, atol=4e-3) and np.allclose(used_std, std, atol=4e-3):
        return Finding(ROOM, "normalisation", "ok", f"mean {tuple(mean)}, deviation {tuple(std)}")
    return Finding(
        ROOM,
        "normalisation",
        "error",
        f"mean {used} and deviation {used_std} are used, but the weights were trained with "
        f"{tuple(mean)} and {tuple(std)}",
        "set dino.model to the name of what the weights are",
    )


def check_separation(found: Sequence[NDArray[np.float32]], pictures: Sequence[Picture]) -> Finding:
    """Whether patches of a thing are more alike than those behind it."""
    areas = [_separation(grid, p.thing) for grid, p in zip(found, pictures, strict=True)]
    mean = float(np.mean([area for area in areas if area is not None]))
    text = f"a patch of a thing is in {100 * mean:.0f} % of cases more alike to the thing than one behind it"
    if mean < LEAST_SEPARATION:
        return Finding(
            ROOM,
            "features",
            "error",
            f"{text} (chance: 50 %): they don't tell things from their surroundings",
            ANOTHER_FILE,
        )
    return Finding(ROOM, "features", "ok", text)


def check_precision(
    features: DinoFeatures, exact: DinoFeatures, pictures: Sequence[Picture]
) -> Finding:
    """Whether the arithmetic in use gives what float32 gives."""
    precision = next(features.model.parameters()).dtype
    pairs = zip(
        features_of(for_exam(features), pictures),
        features_of(for_exam(exact), pictures),
        strict=True,
    )
    agreement = min(float((a * b).sum(axis=-1).mean()) for a, b in pairs)
    name = str(precision).removeprefix("torch.")
    text = f"features in {name} have a mean cosine of {agreement:.4f} with those in float32"
    if not agreement >= LEAST_AGREEMENT[precision]:
        return Finding(ROOM, "precision", "error", text, "use precision=float32")
    return Finding(ROOM, "precision", "ok", text)


def _separation(grid: NDArray[np.float32], thing: NDArray[np.bool_]) -> float | None:
    """Area under the curve of the cosine with the thing's mean; None for too small a thing."""
    rows, columns, _ = grid.shape
    shares = cv2.resize(thing.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    inside, outside = shares > 0.9, shares < 0.1
    if min(inside.sum(), outside.sum()) < 4:
        return None
    likeness = grid @ grid[inside].mean(axis=0)
    values = np.concatenate([likeness[inside], likeness[outside]])
    count, others = int(inside.sum()), int(outside.sum())
    ranks = rankdata(values)[:count].sum() - count * (count + 1) / 2
    return float(ranks / (count * others))

"""Captions of frames, of the kind that CLIP learns from."""

from __future__ import annotations

import numpy as np

from zgs_ros.synthetic.frame import Frame, Thing

Rng = np.random.Generator

_OPENINGS = ("", "", "", "a photo of ", "a picture of ", "a view of ", "there is ")
_ON_GROUND = ("{things} on {ground}", "{things} standing on {ground}", "{ground} with {things}")
_MASS_NOUNS = ("grass", "sand", "water", "concrete", "asphalt", "gravel", "snow", "soil")
_PLURALS = ("tiles", "mountains", "glasses")


def captions(frame: Frame, rng: Rng) -> str:
    """One caption of a frame; calls with the same generator give different ones.

    Large and central things are named first and small ones are often left out, as people do.
    Colours and patterns are named sometimes, ground and backdrop sometimes, and now and then
    nothing else.

    Args:
        frame: The picture with its ground truth.
        rng: Source of randomness.
    """
    share = _salience(frame)
    ground = next((t for t in frame.things.values() if t.is_stuff and t.id == 1), None)
    backdrop = next((t for t in frame.things.values() if t.is_stuff and t.id == 2), None)
    seen_ground = ground is not None and share[ground.id] > 0.04
    seen_backdrop = backdrop is not None and share[backdrop.id] > 0.04
    objects = sorted(
        (t for t in frame.things.values() if not t.is_stuff), key=lambda t: -share[t.id]
    )
    named = [t for t in objects if rng.random() < _chance(share[t.id])]
    if not named and objects and rng.random() < 0.8:
        named = objects[:1]
    named = named[: int(rng.integers(1, 5))]
    stuff = [t for t, seen in ((ground, seen_ground), (backdrop, seen_backdrop)) if t and seen]
    if stuff and (not named or rng.random() < 0.08):
        return _open(rng) + _stuff_alone(rng, stuff)
    if not named:
        named = objects[:1]
    things = _join([_describe(rng, t) for t in named])
    if ground is not None and seen_ground and rng.random() < 0.6:
        things = str(rng.choice(_ON_GROUND)).format(things=things, ground=with_article(ground))
    if backdrop is not None and seen_backdrop and rng.random() < 0.45:
        link = "under" if backdrop.noun == "sky" else "in front of"
        things = f"{things} {link} {with_article(backdrop)}"
    return _open(rng) + things


def with_article(thing: Thing, noun: str | None = None) -> str:
    """The noun with the article it takes in a caption: "a brick wall", "the sky", "grass"."""
    words = noun or thing.noun
    if words == "sky":
        return "the sky"
    if words in _MASS_NOUNS or words.endswith(_PLURALS):
        return words
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _salience(frame: Frame) -> dict[int, float]:
    """Share of the picture of every thing, its centre counting more than its border."""
    height, width = frame.instances.shape
    x = np.linspace(-1, 1, width) ** 2
    y = np.linspace(-1, 1, height) ** 2
    weight = np.exp(-1.2 * (x[None, :] + y[:, None]))
    total = np.bincount(frame.instances.ravel(), weights=weight.ravel())
    return {id_: float(total[id_] / weight.sum()) for id_ in frame.things}


def _chance(share: float) -> float:
    """Probability that a thing of this salience is named: 10 % of the picture nearly always."""
    return float(np.clip(0.25 + 0.3 * np.log10(share / 0.002), 0.0, 0.95))


def _describe(rng: Rng, thing: Thing) -> str:
    words = thing.noun
    if thing.colour is not None and rng.random() < 0.8:
        words = f"{thing.colour} {words}"
        if thing.pattern != "plain" and rng.random() < 0.35:
            words = f"{thing.pattern} {words}"
    elif thing.pattern != "plain" and rng.random() < 0.15:
        words = f"{thing.pattern} {words}"
    return with_article(thing, words)


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _open(rng: Rng) -> str:
    return str(rng.choice(_OPENINGS))


def _stuff_alone(rng: Rng, stuff: list[Thing]) -> str:
    if len(stuff) == 2 and rng.random() < 0.4:
        return f"{with_article(stuff[0])} and {with_article(stuff[1])}"
    return with_article(stuff[int(rng.integers(len(stuff)))])

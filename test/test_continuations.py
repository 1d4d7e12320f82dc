"""Text embeddings that share the work for a common beginning equal those of the text tower."""

from __future__ import annotations

from importlib import resources

import numpy as np
import open_clip
import pytest
import torch

import zgs_ros.models.mini_tower  # noqa: F401  registers the mini CLIP's image tower with timm
from zgs_ros.embedding.clip import ClipEmbedder
from zgs_ros.embedding.continuations import reads_end_token

MINI = f"local-dir:{resources.files('zgs_ros.models') / 'mini' / 'clip'}"


@pytest.fixture(scope="module", params=[MINI, pytest.param("ViT-B-32", marks=pytest.mark.slow)])
def clip(request: pytest.FixtureRequest) -> ClipEmbedder:
    torch.manual_seed(0)
    model = open_clip.create_model(request.param, load_weights=False)
    return ClipEmbedder(model, open_clip.get_tokenizer(request.param), "random", blocks=1)


@pytest.mark.parametrize(
    ("texts", "groups"),
    [
        (["Image of a dog", "Image of a dogged terrier", "Image of a cat."], [0, 0, 0]),
        (["Image of a red", "A street", "Image of a redwood", "A streetlight"], [0, 1, 0, 1]),
        (["Image of a", "Image of a", "Image of a "], [0, 0, 0]),  # one is the other's beginning
        (["mug", "dog"], [0, 0]),  # nothing is shared
        (["", "."], [0, 1]),
        (["one text alone"], [0]),
        (["long " * 100 + "a", "long " * 100 + "b"], [0, 0]),  # cut at the context's length
    ],
)
def test_continuations_equal_whole_texts(
    clip: ClipEmbedder, texts: list[str], groups: list[int]
) -> None:
    found = clip.embed_continuations(texts, groups).numpy()
    np.testing.assert_allclose(found, clip.embed_texts(texts), atol=2e-6)


def test_more_texts_than_go_together(clip: ClipEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zgs_ros.embedding.continuations.CHUNK", 4)
    words = ["mug", "red mug", "traffic cone with a dent", "dog", "a", "seagull", "ball of wool"]
    texts = [f"Image of a {word}" for word in words] + [f"Photo, {word}" for word in words]
    found = clip.embed_continuations(texts, [0] * 7 + [1] * 7).numpy()
    np.testing.assert_allclose(found, clip.embed_texts(texts), atol=2e-6)


@pytest.mark.parametrize("causal", [True, False])
def test_towers_that_look_at_whole_texts(causal: bool) -> None:
    """Without a causal mask nothing can be shared; the result is that of the text tower all the same."""
    torch.manual_seed(0)
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16}
    text = {"context_length": 16, "width": 32, "heads": 2, "layers": 2}
    model = open_clip.CustomTextCLIP(16, vision, {**text, "no_causal_mask": not causal})
    tokenizer = open_clip.SimpleTokenizer(context_length=16)
    clip = ClipEmbedder(model, tokenizer, "random", blocks=1)
    assert reads_end_token(model.text) is causal
    texts = ["Image of a dog", "Image of a cat.", "Image of an old dog"]
    found = clip.embed_continuations(texts, [0, 0, 0]).numpy()
    np.testing.assert_allclose(found, clip.embed_texts(texts), atol=2e-6)

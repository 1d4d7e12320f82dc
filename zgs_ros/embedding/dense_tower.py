"""What the one-pass embedding needs of an image tower, for each family of towers.

A family is a row in `FAMILIES`: the function makes a `DenseTower` of a model that it knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.layers import apply_rot_embed_cat
from timm.layers.attention_pool import AttentionPoolLatent
from timm.models.eva import Eva, EvaAttention, EvaBlock
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from zgs_ros.embedding.blocks import run_block
from zgs_ros.embedding.image_tower import ImageTower

Attended = tuple[Tensor, Tensor]
"""Weights of patches, (images, patches, heads), and values (images, patches, heads, head width)."""
DENSE_WAY_OUT = "use for example ViT-B-16, MobileCLIP2-B, MobileCLIP2-S2, ViT-B-16-SigLIP2, PE-Core-B-16 or EVA02-B-16"


@dataclass(frozen=True, eq=False)
class DenseTower:
    """An image tower up to its pooling over patches, and what follows; its weights are the model's.

    Attributes:
        attend: float (images, 3, *image_size), normalised, to the weights and values that are pooled.
        project: Pooled rows, (rows, heads * head width), to (rows, dimensions).
        heads: Of the pooling.
        image_size: (height, width) of the input.
        grid: (rows, columns) of patches.
        dimensions: Length of an embedding.
        weight: One of the weights: where and in which arithmetic the tower computes.
        width: Length of a token, before the pooling.
    """

    attend: Callable[[Tensor], Attended]
    project: Callable[[Tensor], Tensor]
    heads: int
    image_size: tuple[int, int]
    grid: tuple[int, int]
    dimensions: int
    weight: Tensor
    width: int

    @classmethod
    def of(cls, model: nn.Module, name: str) -> DenseTower:
        """The tower of an open_clip model.

        Raises:
            ValueError: If no family knows it.
        """
        visual: Any = getattr(model, "visual", None)
        for family in FAMILIES:
            if tower := family(visual, model, name):
                return tower
        kind = type(getattr(visual, "trunk", visual)).__name__
        raise ValueError(
            f"{name}: nothing here knows how its image tower, {kind}, pools its patches; "
            f"{DENSE_WAY_OUT}"
        )


def _class_token(visual: Any, model: nn.Module, name: str) -> DenseTower | None:
    """A plain ViT with class token, of either library: OpenAI's, LAION's, MobileCLIP2-B and L-14."""
    try:
        tower = ImageTower.of(model, name)
    except ValueError:
        return None
    *blocks, last = tower.blocks
    attention = last.attn
    heads, width = attention.num_heads, attention.embed_dim

    def attend(pixels: Tensor) -> Attended:
        tokens = tower.embed(pixels)
        for block in blocks:
            tokens = run_block(block, tokens)
        normal = last.ln_1(tokens)
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        query = functional.linear(normal[:, :1], weight[:width], bias[:width])
        keys, values = functional.linear(normal[:, 1:], weight[width:], bias[width:]).chunk(2, 2)
        split = (heads, width // heads)
        return (
            _attention(query.unflatten(2, split), keys.unflatten(2, split)),
            values.unflatten(2, split),
        )

    return DenseTower(
        attend=attend,
        project=lambda rows: tower.project(last.ls_1(attention.out_proj(rows))),
        heads=heads,
        image_size=tower.image_size,
        grid=tower.grid,
        dimensions=tower.dimensions,
        weight=tower.weight,
        width=width,
    )


def _rotary(visual: Any, model: nn.Module, name: str) -> DenseTower | None:
    """A ViT of timm with rotary positions and class token: EVA-02."""
    trunk = _trunk(visual, Eva)
    if trunk is None or trunk.global_pool != "token" or trunk.attn_pool is not None:
        return None
    last = trunk.blocks[-1]
    attention = last.attn
    plain = type(last) is EvaBlock and isinstance(attention, EvaAttention)
    if not plain or getattr(attention, "gate", None) is not None:
        return None
    mixed = bool(getattr(trunk, "rope_mixed", False))

    def attend(pixels: Tensor) -> Attended:
        tokens, places = trunk._pos_embed(trunk.patch_embed(pixels))
        tokens = trunk.norm_pre(tokens)
        for number, block in enumerate(trunk.blocks[:-1]):
            tokens = block(tokens, rope=places[number] if mixed else places)
        normal = last.norm1(tokens)
        query, keys, values = _rotated(attention, normal, places[-1] if mixed else places)
        prefix = trunk.num_prefix_tokens
        return _attention(query[:, :1], keys[:, prefix:]), values[:, prefix:]

    def project(rows: Tensor) -> Tensor:
        rows = attention.proj(attention.norm(rows))
        rows = rows if last.gamma_1 is None else last.gamma_1 * rows
        return _head(visual, trunk.norm(rows))

    heads = attention.num_heads
    return _of_trunk(visual, attend, project, heads, heads * attention.head_dim, trunk)


def _attention_pooling(visual: Any, model: nn.Module, name: str) -> DenseTower | None:
    """A ViT of timm whose patches a latent query pools: SigLIP, SigLIP2, PE-Core."""
    trunk = _trunk(visual, TimmVisionTransformer, Eva)
    pool = getattr(trunk, "attn_pool", None)
    if not isinstance(pool, AttentionPoolLatent) or pool.latent_len != 1:
        return None
    width = pool.num_heads * pool.head_dim

    def attend(pixels: Tensor) -> Attended:
        tokens = trunk.forward_features(pixels)[:, trunk.num_prefix_tokens :]
        if pool.pos_embed is not None:
            places = pool.pos_embed[-tokens.shape[1] :]
            tokens = tokens + places.to(tokens.dtype)
        split = (pool.num_heads, pool.head_dim)
        query = pool.q(pool.latent.expand(len(tokens), -1, -1)).unflatten(2, split)
        keys, values = (part.unflatten(2, split) for part in pool.kv(tokens).chunk(2, 2))
        return _attention(pool.q_norm(query), pool.k_norm(keys)), values

    def project(rows: Tensor) -> Tensor:
        rows = pool.proj(rows)
        if pool.mlp is not None:
            rows = rows + pool.mlp(pool.norm(rows))
        return _head(visual, rows)

    return _of_trunk(visual, attend, project, pool.num_heads, width, trunk)


def _mean(visual: Any, model: nn.Module, name: str) -> DenseTower | None:
    """A ViT of timm that takes the mean of its patches."""
    trunk = _trunk(visual, TimmVisionTransformer, Eva)
    if trunk is None or trunk.attn_pool is not None or trunk.global_pool != "avg":
        return None

    def attend(pixels: Tensor) -> Attended:
        return _even(trunk.forward_features(pixels)[:, trunk.num_prefix_tokens :])

    return _of_trunk(visual, attend, lambda rows: _head(visual, rows), 1, trunk.num_features, trunk)


def _mean_of_open_clip(visual: Any, model: nn.Module, name: str) -> DenseTower | None:
    """A ViT of open_clip that takes the mean of its patches: CLIPA."""
    if not isinstance(visual, VisionTransformer):
        return None
    if visual.pool_type != "avg" or visual.attn_pool is not None or visual.proj is None:
        return None
    before, after = nn.Identity(), visual.ln_post
    if not visual.final_ln_after_pool:
        before, after = after, before

    def attend(pixels: Tensor) -> Attended:
        return _even(before(visual.transformer(visual._embeds(pixels)))[:, 1:])

    return DenseTower(
        attend=attend,
        project=lambda rows: after(rows) @ visual.proj,
        heads=1,
        image_size=visual.image_size,
        grid=visual.grid_size,
        dimensions=int(visual.output_dim),
        weight=visual.conv1.weight,
        width=int(visual.conv1.out_channels),
    )


def _convolutions(visual: Any, model: nn.Module, name: str) -> DenseTower | None:
    """A network of timm that takes the mean of a map: MobileCLIP2-S0 to S4 (FastViT), ConvNeXt."""
    trunk = _trunk(visual, nn.Module)
    head = getattr(trunk, "head", None)
    pooling = getattr(getattr(head, "global_pool", None), "pool_type", "")
    if trunk is None or hasattr(trunk, "cls_token") or pooling != "avg":
        return None
    size = tuple(visual.image_size)
    with torch.no_grad():
        weight = next(trunk.parameters())
        probe = torch.zeros(1, 3, *size, dtype=weight.dtype, device=weight.device)
        training = trunk.training
        found = trunk.eval().forward_features(probe)
        trunk.train(training)
    if found.ndim != 4:
        return None
    _, width, rows, columns = found.shape

    def attend(pixels: Tensor) -> Attended:
        return _even(trunk.forward_features(pixels).flatten(2).transpose(1, 2))

    def project(pooled: Tensor) -> Tensor:
        embedded: Tensor = visual.head(trunk.forward_head(pooled[:, :, None, None]))
        return embedded

    return _of_trunk(visual, attend, project, 1, width, trunk, (rows, columns))


FAMILIES: tuple[Callable[[Any, nn.Module, str], DenseTower | None], ...] = (
    _class_token,
    _rotary,
    _attention_pooling,
    _mean,
    _mean_of_open_clip,
    _convolutions,
)


def _trunk(visual: Any, *kinds: type) -> Any:
    trunk = visual.trunk if isinstance(visual, TimmModel) else None
    return trunk if isinstance(trunk, kinds) else None


def _of_trunk(
    visual: Any,
    attend: Callable[[Tensor], Attended],
    project: Callable[[Tensor], Tensor],
    heads: int,
    pooled: int,
    trunk: Any,
    grid: tuple[int, int] | None = None,
) -> DenseTower:
    weight = next(trunk.parameters())
    with torch.no_grad():
        probe = torch.zeros(1, pooled, dtype=weight.dtype, device=weight.device)
        dimensions = project(probe).shape[1]
    return DenseTower(
        attend=attend,
        project=project,
        heads=heads,
        image_size=tuple(visual.image_size),
        grid=grid or trunk.patch_embed.grid_size,
        dimensions=dimensions,
        weight=weight,
        width=int(trunk.num_features),
    )


def _head(visual: Any, rows: Tensor) -> Tensor:
    """What timm and open_clip do to a pooled token, (rows, width) to (rows, dimensions)."""
    embedded: Tensor = visual.head(visual.trunk.head(visual.trunk.fc_norm(rows)))
    return embedded


def _attention(query: Tensor, keys: Tensor) -> Tensor:
    """Weights of one query, (images, 1, heads, head width), float32 (images, patches, heads)."""
    logits = torch.einsum("iqhd,iphd->iph", query.float(), keys.float())
    return (logits / query.shape[-1] ** 0.5).softmax(1)


def _even(tokens: Tensor) -> Attended:
    """Patches (images, patches, width) that all count alike."""
    return torch.ones_like(tokens[..., :1]), tokens[:, :, None]


def _rotated(attention: Any, normal: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, (images, tokens, heads, head width), as timm's EvaAttention has them."""
    split = (attention.num_heads, attention.head_dim)
    parts: tuple[Tensor, ...]
    if attention.qkv is None:
        parts = (attention.q_proj(normal), attention.k_proj(normal), attention.v_proj(normal))
    else:
        bias = None
        if attention.q_bias is not None:
            bias = torch.cat((attention.q_bias, attention.k_bias, attention.v_bias))
        parts = functional.linear(normal, attention.qkv.weight, bias).chunk(3, 2)
    queries, keys, values = (part.unflatten(2, split) for part in parts)

    def turn(part: Tensor) -> Tensor:
        prefix = attention.num_prefix_tokens
        half = getattr(attention, "rotate_half", False)
        patches = apply_rot_embed_cat(part[:, prefix:].transpose(1, 2), places, half=half)
        turned = torch.cat([part[:, :prefix], patches.transpose(1, 2)], dim=1)
        return turned.to(part.dtype)

    return turn(attention.q_norm(queries)), turn(attention.k_norm(keys)), values

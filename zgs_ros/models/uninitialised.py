"""Making models whose weights come from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode

RANDOM = {
    "erfinv_",  # takes long, and is only applied to random numbers
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
}
"""Names of the functions and methods that fill a tensor with random numbers."""


class Uninitialised(TorchFunctionMode):
    """Within it no random numbers are drawn for weights, which then hold whatever the memory held.

    For large models drawing takes longer than reading the weights that replace them. Whoever uses it
    makes sure that every weight is replaced.

        with Uninitialised():
            model = timm.create_model("vit_small_patch8_224.dino")
        model.load_state_dict(weights)
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Leaves the tensor as it is where it would be filled with random numbers."""
        if getattr(function, "__name__", "") in RANDOM:
            return args[0] if args else (kwargs or {})["tensor"]
        return function(*args, **(kwargs or {}))

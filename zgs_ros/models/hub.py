"""Weights of public models: from the local cache, else from the Hugging Face hub; safetensors only."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError

CONNECT_TIMEOUT = 5.0


class HubError(RuntimeError):
    """Weights that are neither in the cache nor to be had from the hub."""


def weights_file(repository: str, names: tuple[str, ...], download: bool = True) -> Path:
    """Path of a model's weights, downloaded into the hub's own cache when they are not there yet.

    Args:
        repository: Hub name, ``owner/model``.
        names: File names to look for, best first. Only safetensors are asked for: pickles can run code.
        download: Whether to ask the hub for what the cache does not have.

    Raises:
        HubError: If no such file is cached and none can be downloaded.
    """
    for name in names:
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            return Path(cached)
    if not download:
        raise HubError("they are not in the cache")
    require_network()
    problem: Exception | None = None
    for name in names:
        try:
            return Path(hf_hub_download(repository, name))
        except (HfHubHTTPError, OSError) as error:
            problem = error
    raise HubError(
        f"{repository} on the hub has none of {', '.join(names)} to download ({problem})"
    )


def require_network() -> None:
    """Fails at once without a network; the hub client would retry for most of a minute.

    Raises:
        HubError: If the hub can't be reached or must not be asked.
    """
    if constants.HF_HUB_OFFLINE:
        raise HubError("they are not in the cache, and HF_HUB_OFFLINE forbids to ask the hub")
    if any(
        os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
    ):
        return
    endpoint = urlsplit(constants.ENDPOINT)
    port = endpoint.port or (80 if endpoint.scheme == "http" else 443)
    try:
        socket.create_connection((endpoint.hostname or "", port), CONNECT_TIMEOUT).close()
    except OSError as error:
        raise HubError(
            f"they are not in the cache, and {endpoint.hostname} can't be reached ({error})"
        ) from None

"""GPT-2 from a folder or from the hub; safetensors only."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from zgs_ros.models.hub import weights_file
from zgs_ros.texts import quoted

WEIGHTS = "model.safetensors"
FILES = ("config.json", "tokenizer.json", WEIGHTS)

MAX_BYTES = {"config.json": 1 << 20, "tokenizer.json": 1 << 26}
"""Largest files that are read; those of GPT-2 have 1 kB and 2 MB."""


def find_language_model(name: str, download: bool = True) -> Path:
    """Folder of a language model's files.

    Args:
        name: A folder, or a name on the hub (``owner/model``).
        download: Whether to ask the hub for what the cache does not have.

    Raises:
        ValueError: If it is neither, or the folder lacks a file.
        zgs_ros.models.hub.HubError: If it is neither in the cache nor to be had from the hub.
    """
    files = language_model_files(name)
    if isinstance(files, Path):
        return files
    return [weights_file(name, (file,), download) for file in files][-1].parent


def language_model_files(name: str) -> Path | tuple[str, ...]:
    """Where the files of a language model are: a folder, or their names in a repository of the hub.

    Raises:
        ValueError: If the name is that of neither, or the folder lacks a file.
    """
    try:
        folder = Path(name).expanduser()
    except RuntimeError:  # ~somebody who is not there
        raise ValueError(f"there is no home of {quoted(name.split('/')[0])}") from None
    if not folder.is_dir():
        if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
            raise ValueError("is neither a folder nor a name on the hub (owner/model)")
        return FILES
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        pickle = WEIGHTS in missing and any(folder.glob("*.bin"))
        hint = "; pickles are not loaded, convert them" if pickle else ""
        raise ValueError(f"the folder lacks {', '.join(missing)}{hint}")
    return folder


def read_language_model(folder: Path) -> tuple[Any, Any]:
    """The GPT-2 in a folder, and its tokenizer (of the library ``tokenizers``).

    Raises:
        ValueError: If the folder holds something else.
        ImportError: If the library ``transformers`` is not installed.
    """
    from tokenizers import Tokenizer
    from transformers import GPT2LMHeadModel
    from transformers.utils import logging

    for name, most in MAX_BYTES.items():
        if (size := (folder / name).stat().st_size) > most:
            raise ValueError(f"{folder / name} has {size} bytes, at most {most} are read")
    if (kind := _kind(folder / "config.json")) != "gpt2":
        raise ValueError(
            f"is of the kind {quoted(kind)}, not gpt2; use for example openai-community/gpt2"
        )
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        loaded: Any = GPT2LMHeadModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    finally:
        if bars:
            logging.enable_progress_bar()
    model, found = loaded
    if missing := sorted(found["missing_keys"]):  # they would be random
        raise ValueError(f"{folder / WEIGHTS} lacks {len(missing)} weights ({missing[0]} ..)")
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises nothing more special
        raise ValueError(f"{folder / 'tokenizer.json'} can't be read ({error})") from None
    return model, tokenizer


def _kind(path: Path) -> object:
    """What a config.json says that its model is.

    Raises:
        ValueError: If it is none.
    """
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise ValueError(f"{path} is no object of JSON")
    return config.get("model_type")

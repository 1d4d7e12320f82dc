"""What `zgs models` does: which weights are here, and fetching those that are not."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from zgs_ros.config import PROFILES, SegmenterSettings, make_settings
from zgs_ros.models.loading import ModelError, pull


def show_profiles() -> None:
    """Prints every profile's models, and whether they can be loaded without a network."""
    table = Table("profile", "DINO", "CLIP", "here")
    for profile in PROFILES:
        settings = make_settings(SegmenterSettings, {"profile": profile})
        try:
            pull(settings, download=False)
            here = "yes"
        except ModelError:
            here = f"no: zgs models pull --profile {profile}"
        table.add_row(profile, settings.dino.model, settings.clip.model, here)
    Console().print(table)


def fetch(profile: str) -> None:
    """Fetches a profile's weights into the hub's cache and prints where they are.

    Raises:
        zgs_ros.config.SettingsError: If there is no such profile.
        ModelError: If they can't be had.
    """
    for path in pull(make_settings(SegmenterSettings, {"profile": profile})):
        Console().print(str(path), highlight=False, soft_wrap=True)

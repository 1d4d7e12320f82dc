"""Loading models: bundled, from a given file, from the local cache, or from the hub."""

from zgs_ros.models.loading import ModelError, load_clip, load_dino

__all__ = ["ModelError", "load_clip", "load_dino"]

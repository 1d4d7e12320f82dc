"""Segmenting image files: `zgs label`."""

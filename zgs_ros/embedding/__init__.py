"""From an image and its segments' masks to one CLIP embedding per segment."""

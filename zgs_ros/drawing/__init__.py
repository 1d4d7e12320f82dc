"""Pictures that show a segmentation."""

from zgs_ros.drawing.overlay import draw_overlay, segment_colour
from zgs_ros.drawing.palette import colour_of

__all__ = ["colour_of", "draw_overlay", "segment_colour"]

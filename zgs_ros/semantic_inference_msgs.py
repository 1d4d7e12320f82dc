"""The interfaces of semantic_inference that the node speaks, where they are not installed."""

from __future__ import annotations

DEFINITIONS = {
    "FeatureVector": "float32[] data",
    "FeatureVectorStamped": (
        "std_msgs/Header header\nsemantic_inference_msgs/FeatureVector feature"
    ),
    "FeatureImage": (
        "std_msgs/Header header\nint32[] mask_ids\nsensor_msgs/Image image\n"
        "semantic_inference_msgs/FeatureVector[] features"
    ),
}
"""Fields of each message by its name."""

SERVICES = {
    "EncodeFeature": "string prompt\n---\nsemantic_inference_msgs/FeatureVectorStamped feature"
}
"""Fields of request and response of each service by its name."""

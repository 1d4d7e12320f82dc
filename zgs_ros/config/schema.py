"""What the settings are: each is declared once, as a field with its type, range and description.

Its dotted path (``clip.sigma``) is its name everywhere: as a ROS parameter, an option, in Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

LIVE: dict[str, Any] = {"live": True}
"""Marks a setting that a running node can change; all others are read when the models are loaded."""

OPERATION: dict[str, Any] = {"operation": True}
"""Marks a setting of when and where a live node works and what it reports, which changes no result.

All others decide what a recording is labelled with, and a run that goes on asks for the same ones.
"""


ROTATIONS = (0, 90, 180, 270)
"""Degrees clockwise that images can be turned by."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, validate_default=True)


class DinoSettings(_Section):
    """Features that the over-segmentation clusters."""

    model: str = Field(
        "vit_small_patch8_224.dino", description="timm name of a plain ViT (DINO, DINOv2)."
    )
    weights: str = Field(
        "", description="File (safetensors) to load instead of the cached or hub weights."
    )
    short_side: Annotated[int, Field(ge=32, le=2048)] = Field(
        224,
        description="Pixels of the short image side that the model sees; more finds smaller things.",
    )
    stride: Annotated[int, Field(ge=1, le=64)] = Field(
        4,
        description="Pixels between neighbouring patches; less gives finer segments and costs time.",
    )
    attention: Literal["all", "grid"] = Field(
        "all",
        description="Patches that all patches attend to where these overlap: all, as published, at a cost "
        "of their number squared; or a grid without overlap, faster and much alike.",
    )


class ClusteringSettings(_Section):
    """The segment tree."""

    groups: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        384,
        description="Groups of near-equal patch positions that are made before Ward clusters them; 0 lets "
        "it cluster all positions.",
    )
    splits: Annotated[int, Field(ge=0, le=1000)] = Field(
        10, description="Splits of the tree that are considered; at most one more segments result."
    )
    threshold: Annotated[float, Field(ge=-1.0, le=1.0)] = Field(
        0.95, description="A split is accepted when the cosine of its two centroids is below this."
    )


class RefinementSettings(_Section):
    """From patches to pixels."""

    method: Literal["none", "guided", "crf"] = Field(
        "guided",
        description="How segment borders are fitted to the image's edges: not at all, by a guided "
        "filter, or by a dense CRF as published, which takes longer.",
    )
    radius: Annotated[int, Field(ge=1, le=64)] = Field(
        8, description="Window radius of the guided filter in pixels of the model's image."
    )
    epsilon: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1e-3, description="Smoothing of the guided filter, as a variance of colours in [0, 1]."
    )
    temperature: Annotated[float, Field(gt=0.0, le=10.0)] = Field(
        0.05, description="Softness of the assignment of patches to segments before the filter."
    )
    min_area: Annotated[float, Field(ge=0.0, le=0.5)] = Field(
        0.0005, description="Segments below this share of the image go to their neighbours."
    )
    components: bool = Field(
        True,
        description="Whether parts of a segment that do not touch become segments of their own; "
        "merging joins them again if they also are named alike.",
    )
    min_component: Annotated[float, Field(ge=0.0, le=0.5)] = Field(
        0.002,
        description="Parts below this share of the image go to their neighbours; the largest part of a "
        "segment only below min_area.",
    )


class ClipSettings(_Section):
    """The embedding of a segment."""

    model: str = Field(
        "ViT-L-14-336",
        description="open_clip name of a CLIP; masked attention needs a ViT with class token, dense most.",
    )
    pretrained: str = Field(
        "",
        description="open_clip tag of its weights; '' is openai. What they were trained with follows: "
        "activation, mean, deviation and interpolation of images. For clip.weights it must be given: the "
        "file's tag, or gelu or quick_gelu for weights of your own.",
    )
    weights: str = Field(
        "", description="File (safetensors) to load instead of cached or hub weights."
    )
    mode: Literal["global_subtraction", "mask", "dense", "crop"] = Field(
        "global_subtraction",
        description="How a segment is embedded: masked attention with or without global subtraction, "
        "all segments from one pass (dense), or its bounding box on black.",
    )
    masked_blocks: Annotated[int, Field(ge=1, le=64)] = Field(
        4, description="The last blocks in which attention is masked to the segment."
    )
    sigma: Annotated[float, Field(gt=0.0, le=1000.0)] = Field(
        5.0,
        description="Strength of global subtraction; more takes away more of the image's context.",
    )
    segment_batch: Annotated[int, Field(ge=1, le=4096)] = Field(
        32,
        description="Segments of an image that go through the masked blocks together; less needs less memory.",
    )


class LabelingSettings(_Section):
    """From embeddings to text."""

    method: Literal["retrieval", "zerocap"] = Field(
        "retrieval",
        description="How segments are named: by the nearest phrases of a vocabulary, or by captions as "
        "published, which take very much longer.",
    )
    vocabulary: str = Field(
        "everyday",
        description="Shipped vocabulary (everyday, synthetic) or a text file, one phrase a line.",
    )
    extra_vocabulary: str = Field(
        "", description="Text file whose phrases are added to the vocabulary."
    )
    templates: tuple[str, ...] = Field(
        ("Image of a {}.",),
        description="Sentences that a phrase is embedded in; their mean is used.",
    )
    alternatives: Annotated[int, Field(ge=0, le=100)] = Field(
        4, description="Further labels that are reported beside the best one."
    )

    @field_validator("templates")
    @classmethod
    def _has_place_for_phrase(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        if not templates:
            raise ValueError("at least one template is needed, for example 'Image of a {}.'")
        for template in templates:
            if template.count("{}") != 1:
                raise ValueError(
                    f"a template needs exactly one {{}} for the phrase, got {template!r}"
                )
        return templates


class CaptionSettings(_Section):
    """The captions of labeling.method zerocap."""

    model: str = Field(
        "openai-community/gpt2-medium",
        description="The GPT-2 that writes: a folder, or a name on the hub. Larger writes better.",
    )
    beams: Annotated[int, Field(ge=1, le=64)] = Field(
        5, description="Captions per segment that are followed; the nearest one to it wins."
    )
    max_tokens: Annotated[int, Field(ge=1, le=64)] = Field(
        15, description="Longest caption, in tokens of the language model."
    )
    steps: Annotated[int, Field(ge=0, le=100)] = Field(
        5, description="Steps by which CLIP steers each token; 0 lets the language model talk."
    )
    batch: Annotated[int, Field(ge=1, le=4096)] = Field(
        16, description="Segments that are captioned together; less needs less memory."
    )


class MergingSettings(_Section):
    """Segments that belong together become one."""

    enabled: bool = Field(True, description="Whether similar sibling segments are merged.")
    threshold: Annotated[float, Field(ge=-1.0, le=1.0)] = Field(
        0.8,
        description="Siblings merge when the mean cosine of embeddings and labels reaches this.",
    )
    greedy: bool = Field(
        False,
        description="Whether the most similar segments merge afterwards, wherever they are, pair by pair.",
    )


class TrackingSettings(_Section):
    """Identity over frames."""

    enabled: bool = Field(
        True,
        description="Whether things keep a track_id from frame to frame, and labels are smoothed.",
        json_schema_extra=LIVE,
    )
    max_age: Annotated[float, Field(ge=0.0, le=60.0)] = Field(
        2.0,
        description="A thing that is out of sight keeps its track_id for this long [s].",
        json_schema_extra=LIVE,
    )
    min_overlap: Annotated[float, Field(ge=0.01, le=1.0)] = Field(
        0.2,
        description="Intersection over union from which on two masks can be the same thing.",
        json_schema_extra=LIVE,
    )
    min_similarity: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.9,
        description="Cosine of embeddings from which on they can be, near by, without overlap.",
        json_schema_extra=LIVE,
    )
    smoothing: Annotated[float, Field(ge=0.0, le=60.0)] = Field(
        2.0,
        description="Time constant that the labels of a track are averaged over [s]; 0 = not.",
        json_schema_extra=LIVE,
    )
    smoothing_similarity: Annotated[float, Field(ge=-1.0, le=1.0)] = Field(
        0.7,
        description="Cosine of embeddings below which a thing has changed, and its labels start anew.",
        json_schema_extra=LIVE,
    )


class DepthSettings(_Section):
    """Places in space."""

    enabled: bool = Field(
        False,
        description="Whether depth and camera_info are read, and segments get position and size.",
    )
    slop: Annotated[float, Field(ge=0.0, le=10.0)] = Field(
        0.05,
        description="Seconds by which the stamps of an image and its depth may differ.",
        json_schema_extra=LIVE,
    )
    transport: Literal["raw", "compressed", "compressedDepth"] = Field(
        "raw",
        description="How depth is published, by image_transport's names: a sensor_msgs/Image, or "
        "a CompressedImage on depth/compressed (PNG or TIFF) or depth/compressedDepth (PNG or RVL).",
        json_schema_extra=OPERATION,
    )
    calibration: Literal["auto", "raw", "rectified"] = Field(
        "auto",
        description="What of camera_info holds for the images: K and D for raw ones, P for rectified "
        "ones; auto takes those for rectified whose topic is called so, such as image_rect.",
        json_schema_extra=LIVE,
    )


class ClassesSettings(_Section):
    """Numbers for labels."""

    file: str = Field(
        "auto",
        description="YAML file of the classes that you fix and of the numbers that labels were given: auto is "
        "$ROS_HOME/zgs_ros/classes.yaml (ROS_HOME is ~/.ros where not set), '' keeps them in memory only.",
    )
    open: bool = Field(
        True,
        description="Whether labels that are of none of the fixed classes have classes of their own; else they "
        "have none, class_id 0.",
    )


class DiagnosticsSettings(_Section):
    """From when on the node reports trouble."""

    silence_warn: Annotated[float, Field(gt=0.0, le=3600.0)] = Field(
        3.0,
        description="No image for this long [s] is a warning.",
        json_schema_extra=LIVE | OPERATION,
    )
    silence_error: Annotated[float, Field(gt=0.0, le=86400.0)] = Field(
        30.0,
        description="No image for this long [s] is an error.",
        json_schema_extra=LIVE | OPERATION,
    )
    latency_warn: Annotated[float, Field(ge=0.0, le=3600.0)] = Field(
        2.0,
        description="A latency (95th percentile) above this [s] is a warning; 0 = never.",
        json_schema_extra=LIVE | OPERATION,
    )
    latency_error: Annotated[float, Field(ge=0.0, le=3600.0)] = Field(
        10.0,
        description="A latency (95th percentile) above this [s] is an error; 0 = never.",
        json_schema_extra=LIVE | OPERATION,
    )
    min_rate: Annotated[float, Field(ge=0.0, le=1000.0)] = Field(
        0.0,
        description="Fewer results per second than this [Hz], while somebody listens and images "
        "come, are a warning; 0 = never.",
        json_schema_extra=LIVE | OPERATION,
    )
    stuck_error: Annotated[float, Field(ge=0.0, le=86400.0)] = Field(
        60.0,
        description="A frame or request that is in work for longer than this [s] is an error; "
        "0 = never.",
        json_schema_extra=LIVE | OPERATION,
    )
    rejection_hold: Annotated[float, Field(ge=0.0, le=3600.0)] = Field(
        5.0,
        description="A rejected image is reported for this long [s]: as a warning, or as an error "
        "while there are no results.",
        json_schema_extra=LIVE | OPERATION,
    )


class SegmenterSettings(_Section):
    """All that decides what a segmentation looks like."""

    profile: str = Field(
        "balanced",
        description="Named set of defaults for the models and stages; auto is "
        "what fits the machine.",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d{1,3})?)$",
        description="auto, cpu, cuda, cuda:N or mps.",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Arithmetic of the models; auto is float16 on a GPU; on a CPU bfloat16 where it "
        "multiplies that natively, else float32, as for reference.",
    )
    reference: bool = Field(
        False,
        description="Whether every step is done as in the authors' code, also where another way is "
        "better; for comparison with published numbers.",
    )
    backend: Literal["torch", "openvino", "onnxruntime"] = Field(
        "torch",
        description="What computes features and encoding: PyTorch, or OpenVINO or ONNX Runtime with "
        "engines of `zgs export`.",
    )
    engines: str = Field(
        "", description="Folder of engines that `zgs export` wrote, for another backend than torch."
    )
    cuda_graphs: bool = Field(
        False,
        description="Whether a CUDA GPU replays CUDA graphs, which spares the CPU telling it every "
        "operation; takes GPU memory and some slow first images.",
    )
    max_pixels: Annotated[int, Field(ge=1024, le=10**9)] = Field(
        2**25,
        description="Largest image that is accepted, in pixels; a larger JPEG is decoded at half, a "
        "quarter or an eighth of its size. A pixel takes up to 90 bytes of memory.",
    )
    dino: DinoSettings = DinoSettings()
    clustering: ClusteringSettings = ClusteringSettings()
    refinement: RefinementSettings = RefinementSettings()
    clip: ClipSettings = ClipSettings()
    labeling: LabelingSettings = LabelingSettings()
    captions: CaptionSettings = CaptionSettings()
    merging: MergingSettings = MergingSettings()


class NodeSettings(SegmenterSettings):
    """The settings of a live node: those of the segmenter and of the stream around it."""

    cameras: tuple[str, ...] = Field(
        ("",),
        description="Names of the cameras, such as [front, left]: each has its own topics, and all "
        "share the models. [''] is a single one without a name.",
        json_schema_extra=OPERATION,
    )
    rotation: tuple[int, ...] = Field(
        (0,),
        description="Degrees by which images are turned clockwise to be upright for the models: 0, 90, "
        "180 or 270, one value for all cameras or one for each. Results are in the pixels of the "
        "images as they come.",
    )
    tracking: TrackingSettings = TrackingSettings()
    depth: DepthSettings = DepthSettings()
    classes: ClassesSettings = ClassesSettings()
    diagnostics: DiagnosticsSettings = DiagnosticsSettings()
    target_frame: str = Field(
        "",
        pattern=r"^([^/\s]\S{0,254})?$",
        description="Frame of positions, sizes, markers, detections_3d and clouds, such as map or "
        "base_link, by /tf at the image's stamp; '' = that of the image.",
    )
    transform_timeout: Annotated[float, Field(ge=0.0, le=10.0)] = Field(
        0.2,
        description="Seconds after an image came for which its transform to target_frame is waited "
        "for.",
        json_schema_extra=LIVE,
    )
    image_transport: Literal["raw", "compressed"] = Field(
        "raw",
        description="Type of the image topic: sensor_msgs/Image or CompressedImage.",
        json_schema_extra=OPERATION,
    )
    image_reliability: Literal["auto", "best_effort", "reliable"] = Field(
        "auto",
        description="Reliability of the subscriptions to cameras; auto takes that of the publishers.",
        json_schema_extra=OPERATION,
    )
    max_rate: Annotated[float, Field(gt=0.0, le=1000.0)] = Field(
        5.0,
        description="Highest rate of results [Hz], on the node's clock.",
        json_schema_extra=LIVE | OPERATION,
    )
    lazy: bool = Field(
        True,
        description="Whether to rest while nobody subscribes.",
        json_schema_extra=LIVE | OPERATION,
    )
    keep_models: bool = Field(
        True,
        description="Whether a deactivated node keeps its models, ready to go on at once; otherwise "
        "it frees them and what they hold of the GPU, and activating it loads them again.",
        json_schema_extra=LIVE | OPERATION,
    )
    publish_embeddings: bool = Field(
        True, description="Whether messages carry the segments' embeddings.", json_schema_extra=LIVE
    )
    publish_detections: bool = Field(
        False,
        description="Whether results are published as vision_msgs too: detections, and with depth "
        "detections_3d.",
    )
    publish_features: bool = Field(
        False,
        description="Whether masks with embeddings are published for semantic_inference and Hydra: "
        "feature_image, and the service embed for texts.",
    )
    overlay_opacity: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.35, description="Opacity of the overlay's tint.", json_schema_extra=LIVE
    )
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = Field(
        85, description="JPEG quality of the compressed overlay.", json_schema_extra=LIVE
    )

    @field_validator("rotation", mode="before")
    @classmethod
    def _may_be_one(cls, rotation: Any) -> Any:
        if isinstance(rotation, (int, str)):
            return (rotation,)
        return tuple(rotation) if isinstance(rotation, Iterable) else rotation  # rclpy: an array

    @field_validator("rotation")
    @classmethod
    def _are_quarters(cls, rotation: tuple[int, ...]) -> tuple[int, ...]:
        if not rotation or not set(rotation) <= set(ROTATIONS):
            raise ValueError(
                f"must be {', '.join(map(str, ROTATIONS))}, or a list of these, one for each camera"
            )
        return rotation

    @field_validator("cameras")
    @classmethod
    def _are_topic_names(cls, cameras: tuple[str, ...]) -> tuple[str, ...]:
        if cameras == ("",):
            return cameras
        if not cameras:
            raise ValueError("at least one camera is needed; [''] is a single one without a name")
        for name in cameras:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
                raise ValueError(
                    f"a camera's name is part of topics: letters, digits and underscores that "
                    f"begin with a letter, got {name!r}"
                )
            if cameras.count(name) > 1:
                raise ValueError(f"each camera needs a name of its own, got {name!r} twice")
        return cameras

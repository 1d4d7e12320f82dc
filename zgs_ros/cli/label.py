"""``zgs label``: image files and recorded bags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zgs_ros.cli.options import (
    BAGS,
    Device,
    Params,
    Profile,
    Sets,
    command,
    node_settings,
    split,
)
from zgs_ros.streaming.outputs import OUTPUT_NAMES


def label(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH", help="Image files, or folders of them; or one recorded bag."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="Folder for the results; of a bag, the bag to write.",
        ),
    ],
    params: Params = None,
    profile: Profile = None,
    device: Device = None,
    set_: Sets = None,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Write the segments' embeddings too.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Redo images whose results are up to date.")
    ] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Look into subfolders.")
    ] = False,
    topics: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,NAME",
            help="Image topics to label; by default the only one.",
            rich_help_panel=BAGS,
        ),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,NAME",
            help=f"What to write, as the node's topics are called: {', '.join(OUTPUT_NAMES)}, "
            "and TOPIC/image and TOPIC/camera_info of a class's mask_topic; by default "
            "segments,overlay/compressed, and what the settings ask for.",
            rich_help_panel=BAGS,
        ),
    ] = None,
    rate: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Results per recorded second at most; 0 = every image.",
            rich_help_panel=BAGS,
        ),
    ] = 0.0,
    copy: Annotated[
        bool,
        typer.Option("--copy", help="Copy what was recorded along.", rich_help_panel=BAGS),
    ] = False,
    depth: Annotated[
        bool | None,
        typer.Option(
            "--depth/--no-depth",
            help="Read registered depth: segments get position and size.",
            rich_help_panel=BAGS,
        ),
    ] = None,
    depth_topic: Annotated[
        str,
        typer.Option(
            help="Topic of the depth; by default depth/image_raw beside the image.",
            rich_help_panel=BAGS,
        ),
    ] = "",
    camera_info_topic: Annotated[
        str,
        typer.Option(
            help="Topic of the camera_info; by default beside the image.", rich_help_panel=BAGS
        ),
    ] = "",
) -> None:
    """Segment and name what image files or recorded bags show.

    For each image OUT gets an overlay (.overlay.png), a label map (.labels.png: 16 bit, 0 = none,
    otherwise the segment's id) and a description (.json). A run that was stopped goes on where it
    was when it is started again: images whose results are up to date are passed over.

    A bag (a rosbag2 folder, .mcap or .db3 file) becomes another one, with what the node would have
    published: segments and overlay, with the original stamps. Of a damaged bag what can be read is
    labelled, and what is lost is said.

    Exit code: 0 when every image has its results, 1 when some could not be labelled or read, 2 for
    wrong usage, 130 after Ctrl-C.
    """
    code = 130  # after Ctrl-C, as a shell reports it
    with command():
        from zgs_ros.files.bags import is_bag

        flags = {"profile": profile, "device": device, "depth__enabled": depth}
        settings = node_settings(params, flags, set_ or [])
        for_bags: dict[str, Any] = {
            "--topics": tuple(split(topics)),
            "--outputs": tuple(split(outputs)),
            "--rate": rate,
            "--copy": copy,
            "--depth-topic": depth_topic,
            "--camera-info-topic": camera_info_topic,
        }
        bags = [path for path in images if is_bag(path)]
        if bags:
            if len(images) > 1:
                raise ValueError(
                    f"{bags[0]}: is a bag; label it alone, each has an --out of its own"
                )
            from zgs_ros.cli import label_bag as bag_command

            what = {name[2:].replace("-", "_"): value for name, value in for_bags.items()}
            bag = bag_command.BagRequest(images[0], out, overwrite=overwrite, **what)
            code = bag_command.run(bag, settings)
        else:
            for name, value in for_bags.items():
                if value:
                    raise ValueError(f"{name} is for bags, and {images[0]} is none")
            from zgs_ros.cli import label_files as label_command

            request = label_command.LabelRequest(images, out, embeddings, overwrite, recursive)
            code = label_command.run(request, settings)
    raise SystemExit(code)

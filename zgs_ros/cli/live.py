"""``zgs run``, ``camera``, ``watch``, ``view`` and ``demo``: what lives on the network."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from zgs_ros.cli.options import (
    NETWORK,
    Device,
    Distro,
    Domain,
    Local,
    Params,
    Profile,
    Sets,
    command,
    network_of,
    node_parameters,
    read_remappings,
)
from zgs_ros.streaming.ending import END_SECONDS


def run(
    params: Params = None,
    profile: Profile = None,
    device: Device = None,
    image_topic: Annotated[
        str,
        typer.Option(
            help="Topic of the camera, or with {camera} of each one; by default /{camera}/image_raw.",
        ),
    ] = "",
    cameras: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="Names of several cameras.")
    ] = None,
    depth: Annotated[
        bool | None,
        typer.Option(
            "--depth/--no-depth", help="Read registered depth: segments get position and size."
        ),
    ] = None,
    depth_topic: Annotated[
        str, typer.Option(help="Topic of the depth; by default depth/image_raw beside the image.")
    ] = "",
    camera_info_topic: Annotated[
        str, typer.Option(help="Topic of the camera_info; by default beside the image.")
    ] = "",
    image_transport: Annotated[
        str | None,
        typer.Option(help="raw, or compressed (then the topic is IMAGE_TOPIC/compressed)."),
    ] = None,
    use_sim_time: Annotated[
        bool | None,
        typer.Option(
            "--use-sim-time/--no-use-sim-time",
            help="Live in the time of /clock: a bag's or a simulation's.",
        ),
    ] = None,
    max_rate: Annotated[
        float | None,
        typer.Option(help="Highest rate of results [Hz]."),
    ] = None,
    set_: Sets = None,
    name: Annotated[str, typer.Option(help="Node name.", rich_help_panel=NETWORK)] = "zgs",
    namespace: Annotated[str, typer.Option(help="Namespace.", rich_help_panel=NETWORK)] = "",
    remap: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FROM:=TO",
            help="Another name of a topic or service, such as ~/segments:=/labels.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    domain: Domain = None,
    local: Local = False,
    distro: Distro = None,
) -> None:
    """Segment and name what a camera sees: the ROS 2 node, without a ROS install."""
    with command(END_SECONDS):
        flags = {
            "profile": profile,
            "device": device,
            "image_transport": image_transport,
            "max_rate": max_rate,
            "cameras": cameras.split(",") if cameras else None,
            "depth__enabled": depth,
            "use_sim_time": use_sim_time,
        }
        settings, is_simulated = node_parameters(params, flags, set_ or [], (namespace, name))
        network = network_of(domain, local)
        remappings = read_remappings(remap or [])

        from zgs_ros.dds import peer  # after what can be wrong: importing torch takes seconds
        from zgs_ros.segmenter import load_segmenter

        topics = (depth_topic, camera_info_topic)
        options = peer.PeerOptions(
            *(network, image_topic, name, namespace, distro, *topics),
            remappings=remappings,
            use_sim_time=is_simulated,
        )
        peer.run(settings, options, partial(load_segmenter, begin_early=True))


def camera(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of images, image or video file, number or path of a webcam, or synthetic."
        ),
    ] = "synthetic",
    rate: Annotated[float, typer.Option(help="Pictures per second.")] = 10.0,
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Scale pictures to this size; synthetic: 640x480."),
    ] = None,
    topic: Annotated[str, typer.Option(help="Image topic.")] = "/camera/image_raw",
    frame_id: Annotated[str, typer.Option(help="Frame of the headers.")] = "camera",
    base_frame: Annotated[
        str,
        typer.Option(
            help="Frame of the robot that carries the camera: with --depth, transforms from map to it "
            "and to the camera are published; '' = none."
        ),
    ] = "base_link",
    loop: Annotated[bool, typer.Option(help="Begin again at the end of the source.")] = True,
    seed: Annotated[int, typer.Option(help="Of the synthetic world.")] = 0,
    transport: Annotated[
        str, typer.Option(help="raw, or compressed (on TOPIC/compressed).")
    ] = "raw",
    depth: Annotated[bool, typer.Option("--depth", help="Publish depth (synthetic only).")] = False,
    domain: Domain = None,
    local: Local = False,
    distro: Distro = None,
) -> None:
    """Publish pictures as a ROS 2 camera."""
    with command():
        from zgs_ros.tools import camera
        from zgs_ros.tools.sources import SourceOptions, parse_size

        camera.run(
            camera.CameraOptions(
                network=network_of(domain, local),
                source=source,
                reading=SourceOptions(parse_size(size), loop, seed, depth),
                topic=topic,
                rate=rate,
                frame_id=frame_id,
                base_frame=base_frame,
                transport=transport,
                distro=distro,
            )
        )


def watch(
    node: Annotated[str, typer.Option(help="Full name of the node to watch.")] = "/zgs",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for overlay pictures and segments.jsonl."),
    ] = None,
    frames: Annotated[int, typer.Option(min=0, help="Frames to end after; 0 = never.")] = 0,
    timeout: Annotated[
        float, typer.Option(min=0.0, help="Seconds without a result to fail after; 0 = never.")
    ] = 0.0,
    node_timeout: Annotated[
        float, typer.Option(min=0.0, help="Seconds for the node to come up; 0 = as TIMEOUT.")
    ] = 0.0,
    domain: Domain = None,
    local: Local = False,
    distro: Distro = None,
) -> None:
    """Show a node's results as a live table, and save them."""
    with command():
        from zgs_ros.tools import watch

        watch.run(
            watch.WatchOptions(
                network=network_of(domain, local),
                node=node,
                out=out,
                frames=frames,
                timeout=timeout,
                node_timeout=node_timeout,
                distro=distro,
            )
        )


def view(
    node: Annotated[str, typer.Option(help="Full name of the node to show.")] = "/zgs",
    address: Annotated[
        str,
        typer.Option(
            help="IP address to listen at; 0.0.0.0 lets everybody on the network look, without a "
            "password."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port, 0 for any.")] = 8088,
    domain: Domain = None,
    local: Local = False,
    distro: Distro = None,
) -> None:
    """Show a node's results, its health and answers to queries as a page in the browser."""
    with command():
        from zgs_ros.tools import view

        view.run(
            view.ViewOptions(
                network=network_of(domain, local),
                node=node,
                address=address,
                port=port,
                distro=distro,
            )
        )


def demo(
    out: Annotated[Path, typer.Option(help="Folder for pictures, segments.jsonl and logs.")] = Path(
        "out/demo"
    ),
    frames: Annotated[
        int, typer.Option(min=0, help="Result frames to end after; 0 = until Ctrl-C.")
    ] = 20,
    profile: Annotated[str, typer.Option(help="Profile of the node.")] = "mini",
    seed: Annotated[int, typer.Option(help="Of the synthetic world.")] = 0,
) -> None:
    """Show it all at work on this machine: camera, node and viewer."""
    with command():
        from zgs_ros.tools import demo

        demo.run(demo.DemoOptions(out=out, frames=frames, profile=profile, seed=seed))

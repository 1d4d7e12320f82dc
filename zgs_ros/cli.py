"""The command `zgs`: option declarations, and one call each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from zgs_ros.benchmark.command import bench
from zgs_ros.evaluation.command import evaluate

app = typer.Typer(
    name="zgs",
    help="Names everything a robot's cameras see, without a vocabulary and without a prompt.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

NETWORK, BAGS = "Network", "Bags"
Domain = Annotated[
    int | None,
    typer.Option(help="DDS domain; by default ROS_DOMAIN_ID.", rich_help_panel=NETWORK),
]
Local = Annotated[
    bool, typer.Option("--local", help="Use 127.0.0.1 only.", rich_help_panel=NETWORK)
]
Distro = Annotated[
    str | None,
    typer.Option(
        help="ROS distribution of the other nodes; by default ROS_DISTRO, else jazzy.",
        rich_help_panel=NETWORK,
    ),
]


@contextmanager
def command() -> Iterator[None]:
    """Runs a command: Ctrl-C and SIGTERM end it cleanly, expected errors become one line.

    The exit code is 2 for what the user can correct in the command or a settings file, and 1 for
    what went wrong on the way.
    """
    from zgs_ros.process import configure_logging, until_interrupted

    configure_logging()
    try:
        with until_interrupted():
            yield
    except ValueError as error:  # SettingsError, SourceError and invalid names among them
        _fail(error, 2)
    except (RuntimeError, ImportError, OSError) as error:
        _fail(error, 1)


@app.command()
def run(
    params: Annotated[
        Path | None,
        typer.Option(help="ROS 2 parameters file, for example config/segment.yaml."),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="Named set of models and settings: paper, balanced, fast or mini."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="auto, cpu, cuda, cuda:N or mps."),
    ] = None,
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
        bool,
        typer.Option(
            "--use-sim-time", help="Live in the time of /clock: a bag's or a simulation's."
        ),
    ] = False,
    max_rate: Annotated[
        float | None,
        typer.Option(help="Highest rate of results [Hz]."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as clip.sigma=2."),
    ] = None,
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
    with command():
        flags = {
            "profile": profile,
            "device": device,
            "image_transport": image_transport,
            "max_rate": max_rate,
            "cameras": cameras.split(",") if cameras else None,
            "depth__enabled": depth,
        }
        settings = node_settings(params, flags, set_ or [])
        network = _network(domain, local)
        remappings = read_remappings(remap or [])

        from zgs_ros.dds import peer  # after what can be wrong: importing torch takes seconds
        from zgs_ros.segmenter import load_segmenter

        topics = (depth_topic, camera_info_topic)
        options = peer.PeerOptions(
            *(network, image_topic, name, namespace, distro, *topics),
            remappings=remappings,
            use_sim_time=use_sim_time,
        )
        peer.run(settings, options, load_segmenter)


@app.command()
def camera(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of images, image or video file, number of a webcam, or synthetic."
        ),
    ] = "synthetic",
    rate: Annotated[float, typer.Option(help="Pictures per second.")] = 10.0,
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Scale pictures to this size; synthetic: 640x480."),
    ] = None,
    topic: Annotated[str, typer.Option(help="Image topic.")] = "/camera/image_raw",
    frame_id: Annotated[str, typer.Option(help="Frame of the headers.")] = "camera",
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
        from zgs_ros.dds import camera
        from zgs_ros.dds.sources import SourceOptions, parse_size

        camera.run(
            camera.CameraOptions(
                network=_network(domain, local),
                source=source,
                reading=SourceOptions(parse_size(size), loop, seed, depth),
                topic=topic,
                rate=rate,
                frame_id=frame_id,
                transport=transport,
                distro=distro,
            )
        )


@app.command()
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
    """Show a node's results as a live table, and record them."""
    with command():
        from zgs_ros.dds import watch

        watch.run(
            watch.WatchOptions(
                network=_network(domain, local),
                node=node,
                out=out,
                frames=frames,
                timeout=timeout,
                node_timeout=node_timeout,
                distro=distro,
            )
        )


@app.command()
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
        from zgs_ros.dds import view

        view.run(
            view.ViewOptions(
                network=_network(domain, local),
                node=node,
                address=address,
                port=port,
                distro=distro,
            )
        )


@app.command()
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
        from zgs_ros.dds import demo

        demo.run(demo.DemoOptions(out=out, frames=frames, profile=profile, seed=seed))


@app.command()
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
    params: Annotated[
        Path | None,
        typer.Option(help="ROS 2 parameters file, for example config/segment.yaml."),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="Named set of models and settings: paper, balanced, fast or mini."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="auto, cpu, cuda, cuda:N or mps."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as clip.sigma=2."),
    ] = None,
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
            help="What to write, as the node's topics are called: segments, label_image, overlay, "
            "overlay/compressed, markers, detections, detections_3d; by default "
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
            from zgs_ros.bags import command as bag_command

            what = {name[2:].replace("-", "_"): value for name, value in for_bags.items()}
            bag = bag_command.BagRequest(images[0], out, overwrite=overwrite, **what)
            code = bag_command.run(bag, settings)
        else:
            for name, value in for_bags.items():
                if value:
                    raise ValueError(f"{name} is for bags, and {images[0]} is none")
            from zgs_ros.files import command as label_command

            request = label_command.LabelRequest(images, out, embeddings, overwrite, recursive)
            code = label_command.run(request, settings)
    raise SystemExit(code)


app.command()(evaluate)
app.command()(bench)

models = typer.Typer(help="Weights of the profiles' models.", no_args_is_help=True)
app.add_typer(models, name="models")


@models.command("list")
def list_models() -> None:
    """Show every profile's models, and which are here already."""
    with command():
        from zgs_ros.models.command import show_profiles

        show_profiles()


@models.command("pull")
def pull_models(
    profile: Annotated[str, typer.Option(help="paper, balanced, fast or mini.")] = "balanced",
) -> None:
    """Fetch a profile's weights beforehand, for a machine that will have no network."""
    with command():
        from zgs_ros.models.command import fetch

        fetch(profile)


def node_settings(params: Path | None, flags: dict[str, Any], pairs: list[str]) -> Any:
    """Settings of a node from a parameters file, options, and KEY=VALUE pairs, which win.

    Raises:
        zgs_ros.config.SettingsError: For anything unknown or impossible among them.
    """
    import yaml

    from zgs_ros.config import (
        NodeSettings,
        SettingsError,
        flag_values,
        load_settings,
        make_settings,
    )

    values = flag_values(flags)
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise SettingsError(f"--set needs KEY=VALUE, for example clip.sigma=2, got {pair!r}")
        try:
            values[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SettingsError(f"--set {pair!r}: the value is not valid YAML: {error}") from None
    return (
        load_settings(NodeSettings, params, **values)
        if params
        else make_settings(NodeSettings, values)
    )


def split(values: list[str] | None) -> list[str]:
    """What was given several times, or once with commas."""
    return [part.strip() for value in values or [] for part in value.split(",") if part.strip()]


def read_remappings(rules: list[str]) -> dict[str, str]:
    """Topics and services with their other names, of FROM:=TO rules as ROS has them.

    Raises:
        ValueError: If a rule is no such one.
    """
    pairs = {}
    for rule in rules:
        name, sign, other = rule.partition(":=")
        if not (name and sign and other):
            raise ValueError(f"--remap needs FROM:=TO, such as ~/segments:=/labels, got {rule!r}")
        pairs[name] = other
    return pairs


def _network(domain: int | None, local: bool) -> Any:
    from zgs_ros.dds.network import Network

    return Network.from_environment(domain, local)


def _fail(error: Exception, code: int) -> NoReturn:
    typer.secho(f"zgs: {error}", fg=typer.colors.RED, err=True)
    raise SystemExit(code)


if __name__ == "__main__":
    app()

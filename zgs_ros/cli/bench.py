"""``zgs bench``: what the pipeline costs here, stage by stage, and how far from the machine's limit."""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from zgs_ros.cli.options import Device, Profile, Sets

if TYPE_CHECKING:  # torch takes seconds to import: not for --help
    from zgs_ros.bench.models import Bench
    from zgs_ros.config import NodeSettings

SEGMENTS = 20
"""Given where the models are random, if nothing else is asked for."""
LIVE_SECONDS = 20.0
FLOAT32 = "float32"
MODES = "Instead of the stages of one profile"


@dataclass(frozen=True)
class Request:
    """What is measured, how often, and with which clock.

    Attributes:
        size: (width, height) of the images in pixels.
        repeats: Calls measured.
        warmup: Calls before.
        clock: wall or cpu.
        path: File for the results, or None.
    """

    size: tuple[int, int]
    repeats: int
    warmup: int
    clock: str
    path: Path | None


def bench(
    profile: Profile = None,
    size: Annotated[str, typer.Option(metavar="WxH", help="Of the images.")] = "640x480",
    segments: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Segments of every image, given whatever the models find; 0: as they are found. "
            f"By default {SEGMENTS}, and 0 for the bundled models.",
        ),
    ] = None,
    device: Device = None,
    precision: Annotated[
        str | None, typer.Option(help="auto, float32, bfloat16 or float16.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Images per call, as of so many cameras.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Calls measured.")] = 5,
    warmup: Annotated[int, typer.Option(min=1, help="Calls before.")] = 1,
    clock: Annotated[
        str,
        typer.Option(
            help="wall, or cpu: seconds of all threads together, for a machine that does other work "
            "(with OMP_NUM_THREADS=1)."
        ),
    ] = "wall",
    set_: Sets = None,
    json_: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the results there too.")
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="The package's own path against the published steps, taken literally (reference), or "
            "labels and segments against those of float32 (float32).",
            rich_help_panel=MODES,
        ),
    ] = None,
    curve: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="How time grows with segments (up to --segments) or positions.",
            rich_help_panel=MODES,
        ),
    ] = None,
    profiles: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help="These profiles side by side, as Markdown; all: every one. Settings of a row follow its name: "
            "fast,fast+clip.mode=dense+backend=openvino.",
            rich_help_panel=MODES,
        ),
    ] = None,
    scenes: Annotated[
        int,
        typer.Option(
            min=0,
            help="Scenes for the mini profile's quality, beside --profiles, and for --compare float32.",
            rich_help_panel=MODES,
        ),
    ] = 40,
    advise: Annotated[
        bool,
        typer.Option(
            "--advise",
            help="Recommend profile, stride and backend for the wanted --rate.",
            rich_help_panel=MODES,
        ),
    ] = False,
    rate: Annotated[
        float, typer.Option(help="Images per second that are wanted.", rich_help_panel=MODES)
    ] = 5.0,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="A node's process over DDS on 127.0.0.1: images per second and latency, alone and "
            "beside busy processes.",
            rich_help_panel=MODES,
        ),
    ] = False,
    camera_rate: Annotated[
        float,
        typer.Option(help="Images per second of the camera, for --live.", rich_help_panel=MODES),
    ] = 30.0,
    busy: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=1024,
            help="Busy processes beside, for --live; by default one for each core.",
            rich_help_panel=MODES,
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            max=3600.0,
            help="That --advise takes at most (30), or --live measures alone and beside others (20).",
            rich_help_panel=MODES,
        ),
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Add the result of --live to the file of this machine in there.",
            rich_help_panel=MODES,
        ),
    ] = None,
) -> None:
    """Measure what the pipeline costs on this machine.

    Nothing is downloaded: models have their real size and random weights, except for the bundled
    ones. Images come from the synthetic camera. Labels come by retrieval, captions have a benchmark
    of their own (benchmarks/captions.py).
    """
    from zgs_ros.cli.options import command, image_size, node_settings

    with command():
        request = Request(image_size(size), repeats, warmup, _clock(clock), json_)
        mode = _mode(compare, curve, profiles, advise, live)
        if mode == "profiles":
            flags = {
                "device": device,
                "precision": precision,
                "segments": segments,
                "images": images,
            }
            _profiles(str(profiles), request, flags, set_ or [], scenes)
            return
        settings = node_settings(
            None,
            {
                "profile": profile,
                "device": device,
                "precision": precision,
                "labeling__method": "retrieval",
            },
            set_ or [],
        )
        given = segments
        if given is None:
            given = 0 if compare == FLOAT32 else _default_segments(settings)
        if mode == "advise":
            _advise(settings, request, rate, segments or SEGMENTS, seconds)
            return
        if mode == "live":
            _live(settings, request, given, camera_rate, busy, seconds, ledger)
            return
        from zgs_ros.bench.models import make_bench

        subject = make_bench(settings, given, request.size)
        _check_clock(clock, subject.device.type)
        if compare == FLOAT32:
            _agree(subject, request, scenes)
        elif mode == "compare":
            _compare(subject, request)
        elif mode == "curve":
            _curve(subject, request, str(curve))
        else:
            _measure(subject, request, images)


def _measure(bench: Bench, request: Request, images: int) -> None:
    from zgs_ros.bench.measuring import camera_frames, measure
    from zgs_ros.bench.report import stages_table

    frames = camera_frames(*request.size, images)
    found = measure(bench, frames, request.repeats, request.warmup, _clock_of(request)).to_dict()
    _show(bench, request, {"measurement": found}, [stages_table(found)])


def _compare(bench: Bench, request: Request) -> None:
    from zgs_ros.bench.comparison import compare
    from zgs_ros.bench.measuring import camera_frames
    from zgs_ros.bench.report import comparison_table

    image = camera_frames(*request.size)[0][0]
    found = compare(bench, image, request.repeats, _clock_of(request))
    _show(bench, request, {"comparison": found.to_dict()}, [comparison_table(found)])


def _agree(bench: Bench, request: Request, scenes: int) -> None:
    from zgs_ros.bench.agreement import agree
    from zgs_ros.bench.report import agreement_table

    found = agree(bench, max(scenes, 1), request.size)
    _show(bench, request, {"agreement": found.to_dict()}, [agreement_table(found)])


def _curve(bench: Bench, request: Request, what: str) -> None:
    from zgs_ros.bench.curves import positions_curve, segments_curve
    from zgs_ros.bench.measuring import camera_frames
    from zgs_ros.bench.report import curve_table

    measure = {"segments": segments_curve, "positions": positions_curve}[what]
    image = camera_frames(*request.size)[0][0]
    curves = measure(bench, image, request.repeats, _clock_of(request))
    results = {"curves": [found.to_dict() for found in curves]}
    _show(bench, request, results, [curve_table(found) for found in curves])


def _profiles(
    names: str, request: Request, flags: dict[str, Any], pairs: list[str], scenes: int
) -> None:
    from zgs_ros.bench.profiles import measure_profile, synthetic_quality
    from zgs_ros.bench.report import profiles_table, run_line, stage_columns
    from zgs_ros.config import PROFILES, SettingsError
    from zgs_ros.evaluation.tables import to_markdown

    chosen = list(PROFILES) if names == "all" else names.split(",")
    rows = {row: row.split("+") for row in chosen}
    if unknown := [name for name, *_ in rows.values() if name not in PROFILES]:
        raise SettingsError(f"--profiles: {unknown[0]!r} is not one of all, {', '.join(PROFILES)}")
    width, height = request.size
    arguments = [f"--size={width}x{height}", f"--repeats={request.repeats}"]
    arguments += [f"--warmup={request.warmup}", f"--clock={request.clock}"]
    arguments += [f"--{key}={value}" for key, value in flags.items() if value is not None]
    arguments += [f"--set={pair}" for pair in pairs]
    console = Console(stderr=True, highlight=False)
    results: dict[str, Any] = {}
    for row, (name, *own) in rows.items():
        console.print(f"measuring {row}")
        results[row] = measure_profile(name, [*arguments, *(f"--set={pair}" for pair in own)])
    # Only the bundled models have learnt something.
    quality = {"mini": synthetic_quality("mini", scenes)} if scenes and "mini" in chosen else {}
    _write(request.path, {"profiles": results, "synthetic_miou": quality})
    for found in results.values():
        print(f"- {run_line(found['run'])}")
    for table in (profiles_table(results, quality, scenes), stage_columns(results)):
        print(to_markdown(table))


def _advise(
    settings: NodeSettings, request: Request, rate: float, segments: int, seconds: float | None
) -> None:
    from zgs_ros.bench.advising import SECONDS, Trial, run
    from zgs_ros.bench.report import advice_lines, trial_line

    out = Console(highlight=False, soft_wrap=True)

    def say(trial: Trial) -> None:
        out.print(trial_line(trial), markup=False)

    found = run(settings, rate, request.size, segments, seconds or SECONDS, say)
    _write(request.path, {"advice": found.to_dict()})
    for line in advice_lines(found):
        out.print(line, markup=False)
    if found.choice is None:
        raise SystemExit(1)


def _live(
    settings: NodeSettings,
    request: Request,
    segments: int,
    camera_rate: float,
    busy: int | None,
    seconds: float | None,
    ledger: Path | None,
) -> None:
    from zgs_ros.bench.ledger import FORMAT, Ledger, ledger_table, run_of, this_machine, write_run
    from zgs_ros.bench.live import measure_live
    from zgs_ros.cli.tables import print_table

    console = Console(stderr=True, highlight=False)
    processes = (os.cpu_count() or 1) if busy is None else busy
    asked = (settings, segments, request.size, camera_rate, seconds or LIVE_SECONDS, processes)
    found = measure_live(*asked, say=console.print)
    command = shlex.join(["zgs", *sys.argv[1:]])
    run = run_of(found, settings, segments, request.size, command)
    machine = this_machine(settings.device)
    _write(request.path, {"machine": machine.model_dump(), "run": run.model_dump()})
    out = Console(highlight=False)
    table = ledger_table([Ledger(format=FORMAT, machine=machine, runs=[run])])
    print_table(table.shortened(), out)
    if ledger is not None:
        out.print(f"added to {write_run(ledger, machine, run)}", soft_wrap=True, markup=False)


def _show(bench: Bench, request: Request, results: dict[str, Any], tables: list[Any]) -> None:
    from zgs_ros.bench.measuring import describe_run
    from zgs_ros.bench.report import run_line
    from zgs_ros.cli.tables import print_table

    run = {**describe_run(bench, request.size), "clock": request.clock}
    _write(request.path, {"run": run, **results})
    console = Console(highlight=False)
    console.print(escape(run_line(run)))
    for table in tables:
        print_table(table, console)


def _write(path: Path | None, results: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _clock(name: str) -> str:
    from zgs_ros.config import SettingsError

    if name not in ("wall", "cpu"):
        raise SettingsError(f"--clock {name!r} is not one of wall, cpu")
    return name


def _check_clock(name: str, device: str) -> None:
    from zgs_ros.config import SettingsError

    if name == "cpu" and device != "cpu":
        raise SettingsError(f"--clock cpu: does not see what {device} does; use --clock wall")


def _clock_of(request: Request) -> Any:
    from zgs_ros.bench.probes import CPU, WALL

    return CPU if request.clock == "cpu" else WALL


def _mode(
    compare: str | None, curve: str | None, profiles: str | None, advise: bool, live: bool
) -> str:
    from zgs_ros.config import SettingsError

    asked = {"compare": compare, "curve": curve, "profiles": profiles}
    flags = {"advise": advise or None, "live": live or None}
    modes = [name for name, value in {**asked, **flags}.items() if value is not None]
    if len(modes) > 1:
        raise SettingsError(f"--{modes[0]} and --{modes[1]} are measured one at a time")
    if compare not in (None, "reference", FLOAT32):
        raise SettingsError(f"--compare {compare!r} is not one of reference, {FLOAT32}")
    if curve not in (None, "segments", "positions"):
        raise SettingsError(f"--curve {curve!r} is not one of segments, positions")
    return modes[0] if modes else ""


def _default_segments(settings: NodeSettings) -> int:
    from zgs_ros.models.loading import BUNDLED

    return 0 if {settings.dino.model, settings.clip.model} <= BUNDLED.keys() else SEGMENTS

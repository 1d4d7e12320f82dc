"""``zgs doctor``: whether models, machine and network are as they should be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zgs_ros.cli.options import (
    NETWORK,
    Domain,
    Local,
    Params,
    Profile,
    Sets,
    command,
    network_of,
    node_parameters,
)

if TYPE_CHECKING:
    from rich.console import Console

    from zgs_ros.tools.doctor.findings import Finding

STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


def doctor(
    profile: Profile = None,
    set_: Sets = None,
    params: Params = None,
    models: Annotated[
        bool, typer.Option("--models/--no-models", help="Load the models and look at them.")
    ] = True,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Measure on these images, frames in the order of their names, whether the thresholds of "
            "cosines fit.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write the findings as JSON to standard output.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write a report for a bug report: without home folders, the names of user and machine, "
            "and addresses.",
        ),
    ] = None,
    network: Annotated[
        bool,
        typer.Option(
            "--network/--no-network",
            help="Join the DDS network for a moment and look for cameras.",
            rich_help_panel=NETWORK,
        ),
    ] = True,
    image_topic: Annotated[
        str,
        typer.Option(
            help="Topic of the camera, or with {camera} of each one; by default /{camera}/image_raw.",
            rich_help_panel=NETWORK,
        ),
    ] = "",
    use_sim_time: Annotated[
        bool | None,
        typer.Option(
            "--use-sim-time/--no-use-sim-time",
            help="Whether the node will live in the time of /clock.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    domain: Domain = None,
    local: Local = False,
) -> None:
    """Look at everything that a node needs, and say what to do about what is wrong.

    The models are loaded and asked for the names of pictures that any CLIP knows; features, cosines,
    activation, normalisation and arithmetic are held against what is published about such models.
    Then versions, device, disk and clock of this machine, and the cameras on the network. With --images,
    cosines between the segments of your own frames are held against the thresholds of tracking and merging.

    Exit code: 0 when nothing is wrong, warnings included; 1 when something is; 2 for wrong usage.
    """
    code = 130  # after Ctrl-C, as a shell reports it
    with command():
        import json

        from rich.console import Console

        from zgs_ros.tools.doctor import findings
        from zgs_ros.tools.doctor.machine import examine_machine
        from zgs_ros.tools.doctor.models import examine_models

        flags = {"profile": profile, "use_sim_time": use_sim_time}
        settings, is_simulated = node_parameters(params, flags, set_ or [])
        if report:
            findings.check_place(report)
        if images:
            from zgs_ros.tools.doctor.similarity import examine_images, list_files

            files = list_files(images)

        def examine() -> Iterator[Finding]:
            yield from examine_machine(settings)
            if network:
                from zgs_ros.tools.doctor.network import examine_network

                yield from examine_network(
                    settings, lambda: network_of(domain, local), image_topic, is_simulated
                )
            if models:
                yield from examine_models(settings)
            if images:
                yield from examine_images(settings, files)

        found = show(examine(), Console(stderr=as_json))
        if as_json:
            print(json.dumps(findings.as_json(found), indent=2))
        if report:
            findings.write_report(report, found)
        code = findings.exit_code(found)
    raise SystemExit(code)


def show(findings: Iterable[Finding], out: Console) -> list[Finding]:
    """Prints findings as they come, a line each and the way out below, and returns them."""
    from rich.markup import escape

    from zgs_ros.texts import printable_lines
    from zgs_ros.tools.doctor.findings import summary

    found = []
    for finding in findings:
        style = STYLES[finding.level]
        text = escape(printable_lines(f"{finding.room}, {finding.name}: {finding.text}"))
        out.print(f"[{style}]{finding.level:8}[/] {text}", highlight=False, soft_wrap=True)
        if finding.remedy:
            remedy = escape(printable_lines(finding.remedy))
            out.print(f"         -> {remedy}", highlight=False, soft_wrap=True)
        found.append(finding)
    out.print(summary(found), highlight=False)
    return found

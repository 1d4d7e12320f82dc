"""``zgs models``: which weights are here, and fetching those that are not."""

from __future__ import annotations

from typing import Annotated

import typer

from zgs_ros.cli.options import Sets, command, node_settings
from zgs_ros.profiles import PROFILE_NAMES

app = typer.Typer(help="Weights of the profiles' models.", no_args_is_help=True)


@app.command("list")
def list_models() -> None:
    """Show every profile's models, and which are here already."""
    with command():
        from rich.console import Console
        from rich.table import Table

        from zgs_ros.config import PROFILES, SegmenterSettings, make_settings
        from zgs_ros.models.loading import ModelError, pull

        table = Table("profile", "DINO", "CLIP", "here")
        for profile in PROFILES:
            settings = make_settings(SegmenterSettings, {"profile": profile})
            try:
                pull(settings, download=False)
                here = "yes"
            except ModelError:
                here = f"no: zgs models pull --profile {profile}"
            table.add_row(profile, settings.dino.model, settings.clip.model, here)
        Console().print(table)


@app.command("pull")
def pull_models(
    profile: Annotated[str, typer.Option(help=PROFILE_NAMES)] = "balanced",
    set_: Sets = None,
    newest: Annotated[
        bool,
        typer.Option(
            "--newest", help="Take the newest revisions; otherwise those in use are kept."
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check", help="Load the models afterwards and ask them what they know."
        ),
    ] = True,
) -> None:
    """Fetch a profile's weights beforehand, for a machine that will have no network.

    A download that broke off goes on where it stopped; checksums are verified, of files that are here
    already too. Then the models are loaded and looked at, as by `zgs doctor`; where something is wrong
    the exit code is 1.
    """
    code = 130  # after Ctrl-C, as a shell reports it
    with command():
        from rich.console import Console

        from zgs_ros.models.loading import pull

        settings = node_settings(None, {"profile": profile}, set_ or [])
        out = Console()
        pull(
            settings,
            newest=newest,
            say=lambda line: out.print(line, highlight=False, soft_wrap=True, markup=False),
        )
        code = 0
        if check:
            from zgs_ros.cli.doctor import show
            from zgs_ros.tools.doctor.findings import exit_code
            from zgs_ros.tools.doctor.models import examine_models

            code = 130
            code = exit_code(show(examine_models(settings), out))
    raise SystemExit(code)

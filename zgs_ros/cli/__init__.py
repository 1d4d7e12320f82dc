"""The command `zgs`."""

from __future__ import annotations

import typer

from zgs_ros.cli import live, models
from zgs_ros.cli.bench import bench
from zgs_ros.cli.doctor import doctor
from zgs_ros.cli.evaluate import evaluate
from zgs_ros.cli.export import export
from zgs_ros.cli.label import label

app = typer.Typer(
    name="zgs",
    help="Names everything a robot's cameras see, without a vocabulary and without a prompt.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (
    live.run,
    live.camera,
    live.watch,
    live.view,
    live.demo,
    label,
    doctor,
    evaluate,
    bench,
    export,
):
    app.command()(command)
app.add_typer(models.app, name="models")

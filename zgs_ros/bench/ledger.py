"""The ledger: what live nodes reach on which machine, one JSON file each, that anybody can add to.

`zgs bench --live --ledger benchmarks/ledger` writes into the file of the machine that it runs on, and
`scripts/write_ledger.py` makes a table of all files.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zgs_ros import __version__
from zgs_ros.bench.live import LiveMeasurement
from zgs_ros.bench.measuring import processor_name
from zgs_ros.config import NodeSettings
from zgs_ros.config.machine import find_gpu
from zgs_ros.evaluation.tables import Table
from zgs_ros.files.ownership import write_whole
from zgs_ros.models.loading import resolve_device
from zgs_ros.models.precision import resolve_precision

FORMAT = 1
LARGEST_FILE = 1_000_000
"""Bytes."""
Text = Annotated[str, Field(min_length=1, max_length=200)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]


class LedgerError(ValueError):
    """A file that is none of the ledger; the message says what is wrong and what to do."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Machine(_Part):
    """What tells machines apart.

    Attributes:
        processor: As the system names it.
        cores: Logical ones.
        memory_gb: Of the whole machine.
        gpu: As its driver names it, None without.
        system: Of it, such as ``Linux x86_64``.
    """

    processor: Text
    cores: int = Field(ge=1, le=100_000)
    memory_gb: Positive
    gpu: Text | None
    system: Text


class Rate(_Part):
    """Results over some time, see `zgs_ros.bench.live.Stretch`."""

    seconds: Positive
    images_per_second: float = Field(ge=0.0, allow_inf_nan=False)
    p50_s: Positive | None
    p99_s: Positive | None
    load: float = Field(ge=0.0, allow_inf_nan=False)


class Run(_Part):
    """One measurement, see `zgs_ros.bench.live.LiveMeasurement`.

    Attributes:
        date: Such as ``2026-11-26``.
        version: Of this package.
        command: As it was called.
        profile: Of the node.
        models: Of features and of language.
        size: Of the images, WIDTHxHEIGHT.
        given_segments: Of every image; 0: as they were found.
        device: Where the models ran.
        precision: In which arithmetic.
        backend: By what, see the setting.
        threads: Of PyTorch.
        versions: Of libraries.
        camera_rate: Images per second that were published.
        alone: With nothing else at work.
        busy_processes: How many ran beside.
        beside: With them.
    """

    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    version: Text
    command: Annotated[str, Field(max_length=2000)]
    profile: Text
    models: list[Text] = Field(min_length=1, max_length=8)
    size: str = Field(pattern=r"^\d{1,5}x\d{1,5}$")
    given_segments: int = Field(ge=0, le=65535)
    device: Text
    precision: Text
    backend: Text
    threads: int = Field(ge=1, le=100_000)
    versions: dict[Text, Text] = Field(max_length=16)
    camera_rate: Positive
    alone: Rate
    busy_processes: int = Field(ge=0, le=100_000)
    beside: Rate | None

    @property
    def subject(self) -> tuple[object, ...]:
        """What was measured: a later run of the same takes the place of this one."""
        return (
            *(self.profile, tuple(self.models), self.size, self.given_segments, self.device),
            *(self.precision, self.backend, self.threads, self.camera_rate, self.busy_processes),
        )


class Ledger(_Part):
    """A machine's file.

    Attributes:
        format: Of the file.
        machine: Which one.
        runs: What was measured there.
    """

    format: int
    machine: Machine
    runs: list[Run] = Field(max_length=1000)

    @property
    def name(self) -> str:
        """Of the file."""
        machine = self.machine
        words = [machine.processor, f"{machine.cores} cores", machine.gpu or ""]
        return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")[:100] + ".json"

    def add(self, run: Run) -> Ledger:
        """The same with a run, in place of an earlier one of the same subject."""
        kept = [other for other in self.runs if other.subject != run.subject]
        return self.model_copy(update={"runs": [*kept, run]})


def this_machine(device: str) -> Machine:
    """The machine that this runs on.

    Args:
        device: The setting ``device``, which says which GPU is meant.
    """
    gpu = find_gpu(device)
    return Machine(
        processor=processor_name(),
        cores=os.cpu_count() or 1,
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        gpu=gpu.name if gpu else None,
        system=f"{platform.system()} {platform.machine()}",
    )


def run_of(
    found: LiveMeasurement,
    settings: NodeSettings,
    segments: int,
    size: tuple[int, int],
    command: str,
) -> Run:
    """A run for the ledger, of today and of this machine.

    Args:
        found: What was measured.
        settings: Of the node.
        segments: That were given in every image; 0: as they were found.
        size: (width, height) of the images in pixels.
        command: As it was called.

    Raises:
        zgs_ros.models.ModelError: If this machine lacks the device.
    """
    device = resolve_device(settings.device)
    libraries = ["torch", *([] if settings.backend == "torch" else [settings.backend])]
    return Run(
        date=date.today().isoformat(),
        version=__version__,
        command=command[:2000],
        profile=settings.profile,
        models=[settings.dino.model, settings.clip.model],
        size=f"{size[0]}x{size[1]}",
        given_segments=segments,
        device=str(device),
        precision=str(resolve_precision(settings, device)).removeprefix("torch."),
        backend=settings.backend,
        threads=torch.get_num_threads(),
        versions={name: importlib.metadata.version(name) for name in libraries},
        **found.to_dict(),
    )


def read_ledger(path: Path) -> Ledger:
    """A machine's file.

    Raises:
        LedgerError: If it can't be read, or is none.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise LedgerError(f"{path}: is larger than {LARGEST_FILE} bytes")
        ledger = Ledger.model_validate_json(path.read_bytes())
    except OSError as error:
        raise LedgerError(f"{path}: can't be read ({error.strerror})") from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "it"
        raise LedgerError(f"{path}: {where}: {problem['msg']}") from None
    if ledger.format != FORMAT:
        raise LedgerError(f"{path}: is of format {ledger.format}, not {FORMAT}")
    return ledger


def write_run(folder: Path, machine: Machine, run: Run) -> Path:
    """Adds a run to the file of its machine, which is made where there is none; returns the file.

    Raises:
        LedgerError: If the file that is there is none of the ledger.
        OSError: If it can't be written.
    """
    ledger = Ledger(format=FORMAT, machine=machine, runs=[])
    path = folder / ledger.name
    if path.exists():
        ledger = ledger.model_copy(update={"runs": read_ledger(path).runs})
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(ledger.add(run).model_dump(mode="json"), indent=1)
    write_whole(path, f"{text}\n".encode())
    return path


def ledger_table(ledgers: Sequence[Ledger]) -> Table:
    """One row per run, the machines in alphabetical order."""
    return Table(
        "Live nodes",
        (
            "machine",
            "profile",
            "arithmetic, backend",
            "load",
            "images/s",
            "p50 ms",
            "p99 ms",
            "busy",
            "images/s beside",
            "p50 ms beside",
            "p99 ms beside",
            "date",
        ),
        tuple(
            _row(ledger.machine, run)
            for ledger in sorted(ledgers, key=lambda ledger: ledger.name)
            for run in sorted(ledger.runs, key=lambda run: tuple(map(str, run.subject)))
        ),
        "Latency is from the image's stamp to the arrival of its segments. Load is the machine's average over "
        "the minute before the end of the first stretch: far above the number of cores, others were at work. "
        "Busy is the number of processes that computed for nothing beside.",
        brief=(1, 4, 5, 6, 8, 9, 10),
    )


def _row(machine: Machine, run: Run) -> tuple[str, ...]:
    where = machine.gpu if run.device.startswith("cuda") and machine.gpu else machine.processor
    segments = f", {run.given_segments} segments" if run.given_segments else ""
    return (
        f"{where}, {machine.cores} cores",
        f"{run.profile}{segments}, {run.size}",
        f"{run.precision}, {run.backend}",
        f"{run.alone.load:.1f}",
        *_rate(run.alone),
        str(run.busy_processes or "-"),
        *_rate(run.beside),
        run.date,
    )


def _rate(rate: Rate | None) -> tuple[str, str, str]:
    if rate is None:
        return "-", "-", "-"
    milli = ("-" if s is None else f"{1e3 * s:.0f}" for s in (rate.p50_s, rate.p99_s))
    return (f"{rate.images_per_second:.1f}", *milli)  # type: ignore[return-value]

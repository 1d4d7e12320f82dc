"""Targets, and how one is fuzzed: coverage-guided by atheris, with bounds on what an input may cost.

A target hands bytes to a reader. It fails where an exception leaves the reader that its documentation
does not name, where an input takes too much time or memory, or where what was read is not what the
reader promises. What fails is kept as a file, which `check` takes again.
"""

from __future__ import annotations

import atexit
import gc
import hashlib
import importlib
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

TEST = Path(__file__).resolve().parents[1]
FOUND = Path(__file__).with_name("found")
"""Inputs that failed once, by target: they are tried by the tests."""

MODULES = ("images", "messages", "bags", "settings", "caches", "models", "web", "network")
INSTRUMENTED = ["zgs_ros", "rosbags", "PIL", "yaml", "http"]
"""Packages whose branches guide the fuzzer."""

ADDRESS_SPACE = 3 << 30
"""What a target may ask for beyond what it has at its start [bytes]."""

HANG_SECONDS = 60
OPEN_FILES = 64
"""Descriptors that may be open beyond those at the start, before the garbage is collected."""

Run = Callable[[bytes], None]


class Refused(Exception):
    """Stands for what a target takes as the documented refusal of a reader."""


@dataclass(frozen=True)
class Target:
    """A reader of foreign bytes.

    Attributes:
        name: ``module.function``.
        run: Hands an input to it.
        refusals: Exceptions that it documents; of other types, subclasses too, none may leave it.
        seeds: Inputs to begin with, of which it takes at least one.
        seconds: Time of the processor that an input may take.
        megabytes: Memory that an input may take beyond what was used before.
        longest: Bytes of an input.
    """

    name: str
    run: Run
    refusals: tuple[type[BaseException], ...]
    seeds: Callable[[], Iterable[bytes]]
    seconds: float
    megabytes: int
    longest: int


@dataclass(frozen=True)
class Finding:
    """What is wrong.

    Attributes:
        kind: Name of the exception, or slow, memory, files, hang, crash.
        where: The lines that it came from.
        text: What it says.
        file: The input, "" where it could not be kept.
    """

    kind: str
    where: str
    text: str
    file: str = ""


@dataclass
class Report:
    """What came of fuzzing a target.

    Attributes:
        target: Its name.
        executions: Inputs tried.
        accepted: Those that were not refused.
        seconds: That it took.
        corpus: Inputs that reach something of their own.
        megabytes: Most memory that the process had.
        findings: What is wrong.
    """

    target: str
    executions: int = 0
    accepted: int = 0
    seconds: float = 0.0
    corpus: int = 0
    megabytes: int = 0
    findings: list[Finding] = field(default_factory=list)


_TARGETS: dict[str, Target] = {}


def target(
    *refusals: type[BaseException],
    seeds: Callable[[], Iterable[bytes]],
    seconds: float = 2.0,
    megabytes: int = 64,
    longest: int = 4096,
) -> Callable[[Run], Run]:
    """Declares a function to be a target, see `Target`."""

    def declare(run: Run) -> Run:
        name = f"{run.__module__.rpartition('.')[2]}.{run.__name__}"
        _TARGETS[name] = Target(name, run, refusals, seeds, seconds, megabytes, longest)
        return run

    return declare


def find_target(name: str) -> Target:
    """A target by its name; only its own module is loaded."""
    importlib.import_module(f"fuzz.{name.partition('.')[0]}")
    return _TARGETS[name]


def all_targets() -> list[str]:
    """Names of all targets."""
    for module in MODULES:
        importlib.import_module(f"fuzz.{module}")
    return list(_TARGETS)


@cache
def scratch() -> Path:
    """A folder for files that are handed to readers, which goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="zgs_fuzz_")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def emptied(name: str) -> Path:
    """An empty folder in it."""
    place = scratch() / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    return place


def check(aim: Target, data: bytes) -> tuple[bool, Finding | None]:
    """Whether a target takes an input, and what is wrong with how it does."""
    _forget_peak()
    peak, began, taken = _peak(), time.process_time(), True
    logging.disable(logging.CRITICAL)  # of what is refused there are lines without end
    try:
        aim.run(data)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        taken = False
        if type(error) not in (*aim.refusals, Refused):
            return taken, Finding(type(error).__name__, _where(error), str(error)[:200])
    finally:
        logging.disable(logging.NOTSET)
    took, grown = time.process_time() - began, _peak() - peak
    if took > aim.seconds:
        return taken, Finding(
            "slow", aim.name, f"{took:.1f} s, at most {aim.seconds:g} are allowed"
        )
    if grown > aim.megabytes:
        return taken, Finding(
            "memory", aim.name, f"{grown} MB, at most {aim.megabytes} are allowed"
        )
    return taken, None


def prepare(aim: Target) -> list[bytes]:
    """The seeds of a target, each of which was tried once: now all is loaded that is loaded once."""
    seeds = list(aim.seeds())
    for seed in seeds:
        check(aim, seed)
    return seeds


def fuzz(name: str, seconds: float, corpus: Path | None = None, kept: Path | None = None) -> Report:
    """Fuzzes a target in a process of its own.

    Args:
        name: Of the target.
        seconds: For how long.
        corpus: Folder of inputs that an earlier run grew, and this one grows; None for the seeds alone.
        kept: Folder for inputs that fail.
    """
    memory = Path("/dev/shm")  # where files cost least
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        report = Path(folder) / "report.json"
        options = {
            "seconds": seconds,
            "corpus": str(corpus or Path(folder) / "corpus"),
            "kept": str(kept or Path(folder) / "kept"),
            "report": str(report),
        }
        command = [sys.executable, "-m", "fuzz.engine", name, json.dumps(options)]
        paths = [str(TEST.parent), str(TEST)]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "TMPDIR": folder,
            "OMP_NUM_THREADS": "1",
            "CYCLONEDDS_URI": "",
        }
        began = time.monotonic()
        done = subprocess.run(
            command,
            cwd=TEST.parent,
            env=environment,
            timeout=seconds + 300,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        made = _read_report(report) or Report(name, seconds=time.monotonic() - began)
        if done.returncode:  # it did not come to its end
            lines = done.stdout.strip().splitlines()
            stack = [line.strip() for line in lines if line.startswith("  File ")][-6:]
            files = sorted(map(str, Path(options["kept"]).glob(f"{name}-[cto]*-*")))
            made.findings.append(
                Finding(
                    "hang" if done.returncode == 70 else "crash",
                    " <- ".join(stack) or f"exit code {done.returncode}",
                    "\n".join(lines[-30:]),
                    files[-1] if files else "",
                )
            )
        return made


def _read_report(path: Path) -> Report | None:
    if not path.exists():
        return None
    values = json.loads(path.read_text())
    values["findings"] = [Finding(**finding) for finding in values["findings"]]
    return Report(**values)


class _Fuzzing:
    """What the process of a target does; atheris calls it for every input."""

    def __init__(self, aim: Target, options: dict[str, Any]) -> None:
        self._aim = aim
        self._report = Report(aim.name)
        self._corpus, self._kept = Path(options["corpus"]), Path(options["kept"])
        self._file = Path(options["report"])
        self._seconds = float(options["seconds"])
        self._seen: set[tuple[str, str]] = set()
        self._began = self._noted = time.monotonic()
        self._files = _open_files()

    def __call__(self, data: bytes) -> None:
        taken, finding = check(self._aim, data)
        self._report.executions += 1
        self._report.accepted += taken
        self._report.megabytes = max(self._report.megabytes, _peak())
        if finding:
            self._keep(data, finding)
        if self._report.executions % 256 == 0 and _open_files() - self._files > OPEN_FILES:
            gc.collect()
            if (leaked := _open_files() - self._files) > OPEN_FILES:
                self._keep(data, Finding("files", self._aim.name, f"{leaked} are left open"))
        now = time.monotonic()
        if now - self._noted > 1:
            self._note(now)
            if now - self._began > self._seconds:
                os._exit(0)

    def _keep(self, data: bytes, finding: Finding) -> None:
        key = finding.kind, finding.where
        if key in self._seen:
            return
        self._seen.add(key)
        self._kept.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(data).hexdigest()[:12]
        file = self._kept / f"{self._aim.name}-{finding.kind}-{digest}"
        file.write_bytes(data)
        self._report.findings.append(Finding(finding.kind, finding.where, finding.text, str(file)))
        self._note(time.monotonic())

    def _note(self, now: float) -> None:
        self._noted = now
        self._report.seconds = round(now - self._began, 1)
        self._report.corpus = sum(1 for _ in self._corpus.iterdir())
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(asdict(self._report)))
        part.replace(self._file)


def _main(name: str, options: dict[str, Any]) -> None:
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        aim = find_target(name)
    corpus, kept = Path(options["corpus"]), Path(options["kept"])
    corpus.mkdir(parents=True, exist_ok=True)
    kept.mkdir(parents=True, exist_ok=True)
    for seed in prepare(aim):
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    limit_memory()
    arguments = [
        sys.argv[0],
        str(corpus),
        f"-max_len={aim.longest}",
        f"-timeout={HANG_SECONDS}",
        "-rss_limit_mb=4096",
        f"-artifact_prefix={kept / name}-",
        "-print_final_stats=0",
    ]
    fuzzing = _Fuzzing(aim, options)
    atheris.Setup(arguments, fuzzing)
    atheris.Fuzz()


def limit_memory() -> None:
    """Has the process fail rather than the machine."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _forget_peak() -> None:
    """Has the peak begin anew at what the process has now: it had more before, of other inputs."""
    with suppress(OSError):  # where it can't be, as in some containers, small growth is not seen
        Path("/proc/self/clear_refs").write_bytes(b"5")


def _peak() -> int:
    """Most memory that the process had [MB]; getrusage would tell that of its parent, too."""
    status = Path("/proc/self/status").read_bytes()
    return int(status.partition(b"VmHWM:")[2].split(maxsplit=1)[0]) // 1024


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[1:][-4:]
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames)]
    return " <- ".join(places)


if __name__ == "__main__":
    # Under its own name, as the modules of the targets know it.
    from fuzz import engine

    engine._main(sys.argv[1], json.loads(sys.argv[2]))

"""Labelling a recording, killed and stopped at any moment or without room: it goes on, and nothing is lost."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bag_support as bags
import pytest
from given import Chaos

IMAGES = 24
Labelled = dict[str, list[tuple[int, Any]]]


def command(bag: Path, out: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "zgs_ros",
        "label",
        str(bag),
        "--out",
        str(out),
        "--profile",
        "mini",
    ]


def start(bag: Path, out: Path, **options: Any) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "300",
    }
    return subprocess.Popen(
        command(bag, out),
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and output of a run that ends by itself."""
    output, _ = process.communicate(timeout=600)
    assert "Traceback" not in output, output
    return process.returncode, output


def says_what_cant_be_written(output: str, out: Path) -> bool:
    """Whether the last line does; the reason is the system's, or SQLite's."""
    line = output.strip().splitlines()[-1]
    return line.startswith(f"zgs: {out}") or any(text in line for text in ("No space", "too large"))


def read(out: Path) -> Labelled:
    """What was written, without what differs from run to run."""
    found = bags.read(out)
    for _, message in found["/zgs/segments"]:
        message.processing_time.sec = message.processing_time.nanosec = 0
    return found


def same(left: Labelled, right: Labelled) -> bool:
    return repr(left) == repr(right)


@pytest.fixture(scope="module", params=["mcap", "sqlite3"])
def recording(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    return bags.record(folder / "robot", bags.images(IMAGES), request.param)


@pytest.fixture
def undisturbed(recording: Path) -> Labelled:
    """What labelling the recording at once gives."""
    out = recording.parent / "undisturbed.mcap"
    if not out.exists():
        assert finish(start(recording, out))[0] == 0
    return read(out)


def test_a_run_that_is_killed_goes_on_where_it_was(
    recording: Path, undisturbed: Labelled, chaos: Chaos, tmp_path: Path
) -> None:
    kills = rounds = 0
    began = time.monotonic()
    while not rounds or time.monotonic() - began < 30 * chaos.minutes:
        out = tmp_path / f"{rounds}.mcap"
        for _ in range(chaos.random.randrange(2, 5)):
            process = start(recording, out)
            at_work = out.with_name(out.name + ".unfinished")
            end = time.monotonic() + 120
            while process.poll() is None and not any(tmp_path.glob("*unfinished*")):
                assert time.monotonic() < end, at_work
                time.sleep(0.02)
            time.sleep(chaos.random.uniform(0, 4))
            if chaos.random.random() < 0.5:
                process.send_signal(signal.SIGSTOP)
                time.sleep(chaos.random.uniform(0, 2))
                process.send_signal(signal.SIGCONT)
            kills += process.poll() is None
            process.kill()
            process.communicate()
        code, output = finish(start(recording, out))
        assert code == 0, output
        assert same(read(out), undisturbed), f"another result after being killed, round {rounds}"
        assert not list(tmp_path.glob("*unfinished*"))
        rounds += 1
    chaos.tell(rounds=rounds, kills=kills, identical=rounds)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A disk of a size; gives what makes it larger."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted: {done.stderr.strip()}")

    def grow(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)

    try:
        yield grow
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_a_run_with_one_line_and_it_goes_on_when_there_is_room(
    recording: Path, undisturbed: Labelled, chaos: Chaos, tmp_path: Path
) -> None:
    size = chaos.random.randrange(40, 200)
    with small_disk(tmp_path / "disk", f"{size}k") as grow:
        out = tmp_path / "disk" / "out.mcap"
        code, output = finish(start(recording, out))
        assert code == 1, output
        assert says_what_cant_be_written(output, out)
        grow("60m")
        code, output = finish(start(recording, out))
        assert code == 0, output
        assert same(read(out), undisturbed)
    chaos.tell(full_at=f"{size} kB", identical=1)


def test_a_limit_of_the_files_stops_a_run_with_one_line_and_it_goes_on_without_it(
    recording: Path, undisturbed: Labelled, chaos: Chaos, tmp_path: Path
) -> None:
    size = chaos.random.randrange(20_000, 200_000)
    out = tmp_path / "out.mcap"
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # noqa: E731
    code, output = finish(start(recording, out, preexec_fn=limit))
    assert code == 1, output
    assert says_what_cant_be_written(output, out)
    code, output = finish(start(recording, out))
    assert code == 0, output
    assert same(read(out), undisturbed)
    chaos.tell(limit=f"{size} bytes", identical=1)

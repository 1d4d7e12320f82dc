"""How the node is: level, one line, and all the numbers, as diagnostic_msgs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zgs_ros.config import DiagnosticsSettings
from zgs_ros.streaming.messages import MessageFactory, header
from zgs_ros.streaming.statistics import CameraSnapshot, Snapshot

OK, WARN, ERROR = 0, 1, 2
"""Levels of diagnostic_msgs/DiagnosticStatus."""


@dataclass(frozen=True)
class Diagnosis:
    """What there is to say about a node at one moment.

    Attributes:
        snapshot: Statistics of the stream.
        cameras: Names of its cameras.
        wanted: Whether anybody listens to its results.
        facts: Further values, such as the model; ``device`` becomes the hardware id.
        problems: What else is not as it should be, such as missing depth; each is a warning.
        resting: Why it does not listen, "" if it does; then only a failure is trouble.
        failure: Why it can't do what it was told, such as models that can't be loaded; "" if it can.
    """

    snapshot: Snapshot
    cameras: Sequence[str] = ("",)
    wanted: bool = True
    facts: Mapping[str, str] = field(default_factory=dict)
    problems: Sequence[str] = ()
    resting: str = ""
    failure: str = ""


def diagnostic_array(
    factory: MessageFactory,
    stamp_ns: int,
    name: str,
    diagnosis: Diagnosis,
    thresholds: DiagnosticsSettings,
) -> Any:
    """A diagnostic_msgs/DiagnosticArray: a status of the stream, and one per camera with a name.

    Args:
        factory: Makes the messages.
        stamp_ns: Time of the diagnosis.
        name: Full name of the node, which the statuses are named after.
        diagnosis: What there is to say.
        thresholds: From when on something is trouble.
    """
    name, device = name.strip("/"), diagnosis.facts.get("device", "")
    level, text = assess(diagnosis, thresholds)
    values = {**diagnostic_values(diagnosis.snapshot), **diagnosis.facts}
    if diagnosis.failure:
        values["last error"] = diagnosis.failure
    statuses = [_status(factory, level, f"{name}: stream", text, device, values)]
    for camera in filter(None, diagnosis.cameras):
        seen = diagnosis.snapshot.cameras.get(camera)
        level, text = assess_camera(seen, thresholds)
        counts = camera_values(seen) if seen else {}
        statuses.append(_status(factory, level, f"{name}: {camera}", text, device, counts))
    return factory.create(
        "diagnostic_msgs/msg/DiagnosticArray", header=header(factory, stamp_ns), status=statuses
    )


def assess(diagnosis: Diagnosis, thresholds: DiagnosticsSettings) -> tuple[int, str]:
    """Level and one line about the stream: all that is wrong, the worst first."""
    if diagnosis.failure:
        return ERROR, diagnosis.failure
    if diagnosis.resting:
        return OK, diagnosis.resting
    snapshot = diagnosis.snapshot
    silence, error = snapshot.seconds_since_frame, snapshot.seconds_since_error
    found = [(WARN, problem) for problem in diagnosis.problems]
    if 0 < thresholds.stuck_error < snapshot.seconds_in_work:
        seconds = f"{snapshot.seconds_in_work:.0f} s"
        found.append((ERROR, f"stuck in {snapshot.work} for {seconds}"))
    if silence is None or silence > thresholds.silence_warn:
        found.append(_silence(silence, thresholds))
    elif diagnosis.wanted and snapshot.processed and snapshot.rate < thresholds.min_rate:
        found.append((WARN, f"{snapshot.rate:.1f} results/s, below {thresholds.min_rate:g}"))
    if error is not None and error < thresholds.rejection_hold:
        found.append((WARN if snapshot.rate else ERROR, snapshot.last_error))
    if snapshot.latency and snapshot.rate:
        late = snapshot.latency.p95
        for level, limit in ((ERROR, thresholds.latency_error), (WARN, thresholds.latency_warn)):
            if limit and late > limit:
                found.append((level, f"latency {late:.1f} s (95th percentile), above {limit:g} s"))
                break
    if not found:
        return OK, f"{snapshot.rate:.1f} results/s" if snapshot.rate else "idle"
    found.sort(key=lambda problem: problem[0], reverse=True)
    return found[0][0], "; ".join(text for _, text in found)


def assess_camera(
    camera: CameraSnapshot | None, thresholds: DiagnosticsSettings
) -> tuple[int, str]:
    """Level and one line about a camera, None if it sent nothing yet."""
    silence = camera.seconds_since_frame if camera else None
    if camera is None or silence is None or silence > thresholds.silence_warn:
        return _silence(silence, thresholds)
    return OK, f"{camera.rate:.1f} results/s" if camera.rate else "idle"


def diagnostic_values(snapshot: Snapshot) -> dict[str, str]:
    """The statistics as key and value texts; times in milliseconds, ages in seconds."""
    values = {
        "received": str(snapshot.received),
        "processed": str(snapshot.processed),
        "dropped": str(snapshot.drops),
        "rejected": str(snapshot.rejections),
        "pending": str(snapshot.pending),
        **{f"dropped: {reason}": str(count) for reason, count in snapshot.dropped.items()},
        **{f"rejected: {reason}": str(count) for reason, count in snapshot.rejected.items()},
        "results per second": f"{snapshot.rate:.2f}",
        "segments": str(snapshot.segments),
        **_ages(snapshot.seconds_since_frame, snapshot.seconds_since_result),
    }
    if snapshot.latency:
        values["latency p50 [ms]"] = f"{snapshot.latency.p50 * 1e3:.1f}"
        values["latency p95 [ms]"] = f"{snapshot.latency.p95 * 1e3:.1f}"
    for stage, seconds in snapshot.stage_times.items():
        values[f"stage {stage} [ms]"] = f"{seconds * 1e3:.1f}"
    if snapshot.last_error:
        values["last error"] = snapshot.last_error
    return values


def camera_values(camera: CameraSnapshot) -> dict[str, str]:
    """A camera's statistics as key and value texts."""
    return {
        "received": str(camera.received),
        "processed": str(camera.processed),
        "results per second": f"{camera.rate:.2f}",
        **_ages(camera.seconds_since_frame, camera.seconds_since_result),
    }


def _silence(seconds: float | None, thresholds: DiagnosticsSettings) -> tuple[int, str]:
    if seconds is None:
        return WARN, "no image received yet"
    return ERROR if seconds > thresholds.silence_error else WARN, f"no image for {seconds:.0f} s"


def _ages(frame: float | None, result: float | None) -> dict[str, str]:
    ages = {"image age [s]": frame, "result age [s]": result}
    return {key: f"{seconds:.1f}" for key, seconds in ages.items() if seconds is not None}


def _status(
    factory: MessageFactory, level: int, name: str, text: str, device: str, values: dict[str, str]
) -> Any:
    return factory.create(
        "diagnostic_msgs/msg/DiagnosticStatus",
        level=factory.octet(level),
        name=name,
        message=text,
        hardware_id=device,
        values=[
            factory.create("diagnostic_msgs/msg/KeyValue", key=key, value=value)
            for key, value in values.items()
        ],
    )

"""``zgs label`` of a bag: labels it under a progress bar, and reports what became of it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from zgs_ros.bags.bag import BagError, DamagedBag, Storage
from zgs_ros.bags.labelling import BagLabelling, Outcome, Plan, State
from zgs_ros.bags.reading import open_bag
from zgs_ros.bags.segmentation_journal import SegmentationJournal
from zgs_ros.bags.target import FACT, Target
from zgs_ros.bags.topics import CAMERA_INFOS, check_camera_infos, choose_cameras, with_depth
from zgs_ros.bags.writing import BagWriter
from zgs_ros.classes.file import chosen_file
from zgs_ros.classes.registry import ClassRegistry
from zgs_ros.cli.label_files import load_segmenter
from zgs_ros.cli.terminal import INTERRUPTED, Interrupt, plain
from zgs_ros.config import NodeSettings, flatten, list_settings
from zgs_ros.files.bags import storage_of
from zgs_ros.files.labeling import classes_key, settings_key
from zgs_ros.message_types import MessageTypes
from zgs_ros.rotation import rotations
from zgs_ros.segmentation import ImageSegmenter
from zgs_ros.streaming.interface import check_mask_topics
from zgs_ros.streaming.outputs import OUTPUTS, bag_outputs, mask_outputs

LOST = 1
"""Exit code where something is missing from the results."""

SHOWN = 10
"""Different failures that are shown at most."""


@dataclass(frozen=True)
class BagRequest:
    """What the user asked for.

    Attributes:
        bag: The recording.
        out: The bag to write.
        topics: Image topics to label; none for the only one.
        outputs: Topics of the node to write; none for segments, compressed overlay and what the
            settings ask for: markers with depth, and detections.
        rate: Results per second and camera at most; 0 = every image.
        copy: Whether to copy the recording's own topics along.
        depth_topic: See `choose_cameras`.
        camera_info_topic: See `choose_cameras`.
        overwrite: Whether to begin anew and to replace a bag that is there.
    """

    bag: Path
    out: Path
    topics: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    rate: float = 0.0
    copy: bool = False
    depth_topic: str = ""
    camera_info_topic: str = ""
    overwrite: bool = False


@dataclass
class _Tally:
    """What became of the images so far."""

    counts: Counter[State] = field(default_factory=Counter)
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        self.counts[outcome.state] += 1
        if outcome.state is State.FAILED:
            self.failures[outcome.topic, outcome.problem] += 1

    @property
    def results(self) -> int:
        return self.counts[State.LABELLED] + self.counts[State.RECALLED]

    def lost(self) -> list[str]:
        """A line for each kind of failure."""
        lines = [
            f"{topic}: images without result: {count}, because: {problem}"
            for (topic, problem), count in self.failures.most_common(SHOWN)
        ]
        if len(self.failures) > SHOWN:
            lines.append(f"... and {len(self.failures) - SHOWN} other kinds of failures")
        return lines


def run(request: BagRequest, settings: NodeSettings) -> int:
    """Labels a bag.

    Returns:
        The exit code: 0 when every image has its result, 1 when something is missing from the bag
        that was written or when there was nothing to write, 130 after Ctrl-C.

    Raises:
        BagError: If there is nothing to do, or no place for the result.
        ValueError: If there are too few or many rotations for the cameras.
        zgs_ros.classes.groups.ClassError: If the file of classes can't be used.
        zgs_ros.labeling.vocabulary.VocabularyError: If the vocabulary can't be used.
        zgs_ros.models.ModelError: If the models can't be loaded.
        OSError: If the result can't be written.
    """
    console = Console(stderr=True, highlight=False)
    with closing(open_bag(request.bag)) as bag:
        plan = _plan(request, settings, bag)
        target = Target.at(request.out, _storage(request.bag))
        target.check(request.bag, request.overwrite)
        key = settings_key(settings) + classes_key(settings.classes)
        made = _fingerprint(request, settings, plan, key)
        if target.path.exists() and not request.overwrite:
            return _report_earlier(target, made, console)
        with target.held():
            if target.path.exists() and not request.overwrite:  # made while that was checked
                return _report_earlier(target, made, console)
            if request.overwrite:
                target.begin_anew()
            types = MessageTypes()
            try:
                with closing(SegmentationJournal(target.journal, key, types)) as journal:
                    work = _Work(plan, settings, target, types, journal, made, console)
                    done = _label(work, bag, request.bag)
            except sqlite3.Error as error:  # of the journal, or of a .db3 that is written
                raise OSError(f"{target.workplace}: can't be written ({error})") from error
            return _conclude(done, target, console)


def _label(work: _Work, bag: Storage, path: Path) -> _Done:
    try:
        return work.label(bag)
    except DamagedBag:  # once more, for what can be read; what was segmented is remembered
        with closing(open_bag(path, salvage=True)) as rest:
            return work.label(rest)


@dataclass(frozen=True)
class _Done:
    """What came of a run."""

    tally: _Tally
    lost: list[str]
    stopped: bool


@dataclass(frozen=True)
class _Work:
    """Writes the bag of a plan, under a progress bar."""

    plan: Plan
    settings: NodeSettings
    target: Target
    types: MessageTypes
    journal: SegmentationJournal
    fingerprint: str
    console: Console

    def label(self, bag: Storage) -> _Done:
        """Writes it as far as Ctrl-C lets it; in either case what is written then is readable."""
        writer = BagWriter(self.target.growing, self.target.storage, self.types)
        tally, lost, interrupt = _Tally(), list(bag.lost), Interrupt(self.console)
        try:
            with interrupt:
                interrupt.defer()
                self._go_through(bag, writer, tally, lost, interrupt)
            lost.extend(tally.lost())
            whole = {"run": self.fingerprint, "lost": lost}
            writer.close({} if interrupt.came else {FACT: json.dumps(whole)})
        except BaseException:
            writer.abort()
            raise
        return _Done(tally, lost, interrupt.came)

    def _go_through(
        self,
        bag: Storage,
        writer: BagWriter,
        tally: _Tally,
        lost: list[str],
        interrupt: Interrupt,
    ) -> None:
        now = TextColumn("{task.description}")
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), now)
        images = [camera.topics.image for camera in self.plan.cameras]
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task("", total=sum(bag.topics[name].count for name in images))

            def load() -> ImageSegmenter:
                progress.update(task, description="loading models")
                with interrupt.at_once():
                    return load_segmenter(self.settings)

            copied = [name for name in self.plan.copied if writer.add_topic(bag.topics[name])]
            lost.extend(
                f"{name}: is not copied, nothing describes {bag.topics[name].type}"
                for name in self.plan.copied
                if name not in copied
            )
            plan = replace(self.plan, copied=copied)
            labelling = BagLabelling(plan, self.settings, self.types, self.journal, writer, load)
            for outcome in labelling.run(bag):
                tally.add(outcome)
                progress.update(task, advance=1, description=plain(outcome.topic))
                if interrupt.came:
                    break
            lost.extend(labelling.lost())


def _plan(request: BagRequest, settings: NodeSettings, bag: Storage) -> Plan:
    topics = (request.depth_topic, request.camera_info_topic)
    cameras = choose_cameras(bag.topics, request.topics, settings.cameras, *topics)
    groups = ClassRegistry(chosen_file(settings.classes.file), patience=None).groups
    check_mask_topics(groups, [camera.name for camera in cameras])
    rows = {row.topic: row for row in (*OUTPUTS, *mask_outputs(groups))}
    for output in request.outputs:
        if output not in rows:
            raise BagError(f"--outputs {output}: is unknown (allowed: {', '.join(rows)})")
        if rows[output].type_name in CAMERA_INFOS:
            check_camera_infos(cameras, bag.topics, output)
    rotations(settings.rotation, [camera.name for camera in cameras])  # one each, or refused
    outputs = request.outputs or bag_outputs(settings)
    if settings.depth.enabled:
        cameras = with_depth(cameras, bag.topics)
    written = {camera.output(output) for camera in cameras for output in outputs}
    copied = [name for name in bag.topics if name not in written] if request.copy else []
    return Plan(cameras, outputs, request.rate, copied)


def _storage(bag: Path) -> str:
    """What a recording is stored as."""
    files = sorted(bag.iterdir()) if bag.is_dir() else [bag]
    return next(filter(None, map(storage_of, files)))


def _fingerprint(request: BagRequest, settings: NodeSettings, plan: Plan, key: str) -> str:
    """A text that differs where the bag would come out differently."""
    bag = request.bag
    paths = sorted(filter(storage_of, bag.iterdir())) if bag.is_dir() else [bag]
    files = [path.stat() for path in paths]
    given = flatten(settings)
    names = [setting.path for setting in list_settings(NodeSettings) if not setting.operation]
    values = {name: given[name] for name in names}
    parts = [
        key,
        values,
        [(state.st_size, state.st_mtime_ns) for state in files],
        [asdict(camera) for camera in plan.cameras],
        [sorted(plan.outputs), plan.rate, sorted(plan.copied)],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _report_earlier(target: Target, made: str, console: Console) -> int:
    """What is to say where there is a bag already.

    Raises:
        BagError: If it is another one.
    """
    about = target.facts()
    if about.get("run") != made:
        raise BagError(
            f"--out {target.path}: exists, and holds something else than this would write; "
            "--overwrite replaces it"
        )
    console.print(f"{plain(target.path)} is up to date", soft_wrap=True)
    return _report_lost(about["lost"], console)


def _report_lost(lost: list[str], console: Console) -> int:
    if not lost:
        return 0
    console.print("[red]Lost:[/]")
    for line in lost:
        console.print(f"  {plain(line)}", soft_wrap=True)
    return LOST


def _conclude(done: _Done, target: Target, console: Console) -> int:
    """Puts the bag in its place, and says what became of the images."""
    counts = done.tally.counts
    parts = [f"{counts[state]} {state.value}" for state in State if counts[state]]
    what = ", ".join(parts) or "no images"
    if done.stopped:
        console.print(
            f"{what}; stopped. What is done so far can be played from {plain(target.growing)}. "
            "Start the same command again to go on from there.",
            soft_wrap=True,
        )
        return INTERRUPTED
    if not done.tally.results:
        console.print(f"{what}; nothing is written")
        target.clear()
        return _report_lost(done.lost, console) or LOST
    target.finish()
    console.print(f"{what}; results in {plain(target.path)}", soft_wrap=True)
    return _report_lost(done.lost, console)

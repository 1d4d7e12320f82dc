"""Weights of public models: from the local cache, else from the Hugging Face hub; safetensors only.

A repository's revision is remembered when its first file is used, as a ref of the hub's own cache, and
kept from then on: files of one model never come from two revisions, and no later start gets others.
A download that broke off goes on where it stopped, and what the hub names a SHA-256 for is held
against it.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import (
    HfApi,
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import (
    WeakFileLock,
    are_progress_bars_disabled,
    build_hf_headers,
    disable_progress_bars,
    enable_progress_bars,
)

from zgs_ros.progress import Activity, activity

CONNECT_TIMEOUT = 5.0
PAUSES = (1.0, 4.0)
"""Seconds to wait before the hub is asked again when it is busy."""
BUSY = {408, 429, 500, 502, 503, 504}
NEWEST = "main"
PIN = "zgs_ros"
"""The cache's ref that keeps the revision in use."""
RESTARTS = 3
"""Times that a server may begin a broken download anew before it is given up."""
RESERVE = 64 << 20
"""Bytes of the disk that a download leaves free."""

Check = Callable[[Path], None]
"""Raises ValueError for a file that is not what it should be."""

logger = logging.getLogger(__name__)


class HubError(RuntimeError):
    """Weights that are neither in the cache nor to be had from the hub."""


@dataclass(frozen=True)
class HubFile:
    """A file of a repository.

    Attributes:
        repository: ``owner/model``.
        name: Of the file.
        revision: The commit that it is of, 40 hexadecimal digits.
        size: In bytes.
        etag: Its SHA-256, as of all large files, or another name of its content.
    """

    repository: str
    name: str
    revision: str
    size: int
    etag: str

    @property
    def sha256(self) -> str:
        """Its checksum, "" where the hub names none."""
        return self.etag if re.fullmatch(r"[0-9a-f]{64}", self.etag) else ""

    @property
    def blob(self) -> Path:
        """Where the cache keeps its content."""
        return _folder(self.repository) / "blobs" / self.etag


def weights_file(
    repository: str,
    names: tuple[str, ...],
    download: bool = True,
    check: Check = lambda path: None,
) -> Path:
    """Path of a model's weights, downloaded into the hub's own cache when they are not there yet.

    Args:
        repository: Hub name, ``owner/model``.
        names: File names to look for, best first. Only safetensors are asked for: pickles can run code.
        download: Whether to ask the hub for what the cache does not have.
        check: Tells whether a file is what it should be, before it is used or kept.

    Raises:
        HubError: If no such file is cached and none can be downloaded.
    """
    if (cached := find_in_cache(repository, names, check)) is not None:
        return cached
    if not download:
        raise HubError("they are not in the cache")
    return fetch(find_file(repository, names), check)


def find_in_cache(
    repository: str, names: Sequence[str], check: Check = lambda path: None
) -> Path | None:
    """The first of some files that the cache has of the revision in use, and keeps that revision.

    One that is not what it should be is passed over.
    """
    for name in names:
        found = try_to_load_from_cache(
            repository, name, cache_dir=constants.HF_HUB_CACHE, revision=_revision(repository)
        )
        if not isinstance(found, str):
            continue
        try:
            check(Path(found))
        except ValueError as error:
            logger.warning("%s is passed over: it %s", found, error)
            continue
        _pin(repository, Path(found))
        return Path(found)
    return None


def find_file(repository: str, names: Sequence[str], newest: bool = False) -> HubFile:
    """The first of some files that a repository on the hub has. Nothing is downloaded.

    Args:
        repository: Hub name, ``owner/model``.
        names: File names, best first.
        newest: Whether to ask for the newest revision, whichever is in use.

    Raises:
        HubError: If it has none, or does not answer.
    """
    require_network()
    revision = NEWEST if newest else _revision(repository)
    for name in names:
        found = _ask(repository, name, revision)
        if found is not None:
            return found
    raise HubError(f"{repository} on the hub has none of {', '.join(names)}")


def fetch(file: HubFile, check: Check = lambda path: None) -> Path:
    """Downloads a file into the cache, if it is not there, and keeps its revision.

    Args:
        file: What to fetch.
        check: Tells whether it is what it should be.

    Returns:
        Its path in the cache.

    Raises:
        HubError: If it can't be downloaded, or is not what it should be.
    """
    folder = _folder(file.repository)
    lock = folder.parent / ".locks" / folder.name / f"{file.etag}.lock"
    try:
        file.blob.parent.mkdir(parents=True, exist_ok=True)
        lock.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):  # of several processes one downloads
            if not file.blob.exists() or _damage(file.blob, file):
                partial = _download(file)
                _check_download(partial, file, check)
                partial.replace(file.blob)
    except OSError as error:
        raise HubError(f"{file.name} of {file.repository} can't be kept: {_line(error)}") from error
    try:
        path = Path(
            hf_hub_download(  # puts the content in its place, without downloading it again
                file.repository,
                file.name,
                revision=file.revision,
                cache_dir=constants.HF_HUB_CACHE,
                endpoint=constants.ENDPOINT,
            )
        )
    except Exception as error:  # the hub's client lets errors of several libraries pass
        raise HubError(_explain(file.repository, file.name, error)) from error
    try:
        check(path)
    except ValueError as error:
        raise HubError(f"{file.name} of {file.repository}: {error}") from error
    _pin(file.repository, path)
    return path


def verify(path: Path) -> bool:
    """Whether a file of the cache still has the checksum under which the cache keeps it.

    A file without one, or outside of the cache, is taken to be well. A damaged one is removed, so that
    it can be fetched again.
    """
    blob = path.resolve()
    if not re.fullmatch(r"[0-9a-f]{64}", blob.name) or sha256(blob) == blob.name:
        return True
    logger.warning("%s is damaged; it is removed from the cache", path)
    path.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)
    return False


def licence(repository: str) -> str:
    """What a repository's page names as its licence; "unknown" where it can't be asked."""
    try:
        info = HfApi(endpoint=constants.ENDPOINT).model_info(repository, timeout=CONNECT_TIMEOUT)
    except Exception as error:  # the hub's client lets errors of several libraries pass
        logger.debug("licence of %s: %s", repository, error)
        return "unknown"
    return str(getattr(info.card_data, "license", None) or "unknown")


def require_network() -> None:
    """Fails at once without a network; the hub client would retry for most of a minute.

    Raises:
        HubError: If the hub can't be reached or must not be asked.
    """
    if constants.HF_HUB_OFFLINE:
        raise HubError("they are not in the cache, and HF_HUB_OFFLINE forbids to ask the hub")
    if any(
        os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
    ):
        return
    endpoint = urlsplit(constants.ENDPOINT)
    port = endpoint.port or (80 if endpoint.scheme == "http" else 443)
    try:
        socket.create_connection((endpoint.hostname or "", port), CONNECT_TIMEOUT).close()
    except OSError as error:
        raise HubError(
            f"they are not in the cache, and {endpoint.hostname} can't be reached ({error})"
        ) from None


def _ask(repository: str, name: str, revision: str) -> HubFile | None:
    """What the hub says of a file; None if it has no such one."""
    url = hf_hub_url(repository, name, revision=revision, endpoint=constants.ENDPOINT)
    for pause in (*PAUSES, None):
        try:
            found = get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
            break
        except RevisionNotFoundError as error:
            raise HubError(
                f"revision {revision} of {repository}, which was used before, is gone from the hub; "
                "`zgs models pull --newest` takes the newest"
            ) from error
        except EntryNotFoundError:
            return None
        except Exception as error:  # the hub's client lets errors of several libraries pass
            status = _status(error)
            if status == 404 and not isinstance(error, RepositoryNotFoundError):
                return None
            if pause is None or (status is not None and status not in BUSY):
                raise HubError(_explain(repository, name, error)) from error
            logger.info("%s: %s; asking again in %.0f s", repository, _line(error), pause)
            time.sleep(pause)
    if not (found.commit_hash and found.etag and found.size is not None):
        raise HubError(
            f"{constants.ENDPOINT} does not answer as a hub does: revision, checksum or size of "
            f"{name} is missing; see HF_ENDPOINT and the proxy's settings"
        )
    if not re.fullmatch(r"[0-9a-f]{40}", found.commit_hash) or not re.fullmatch(
        r"[\w.-]{1,128}", found.etag
    ):
        raise HubError(f"{constants.ENDPOINT} names an impossible revision or checksum of {name}")
    return HubFile(repository, name, found.commit_hash, found.size, found.etag)


def _download(file: HubFile) -> Path:
    """A file's content under a temporary name; goes on with what an earlier download left there.

    Raises:
        HubError: If it does not come.
        OSError: If it can't be written.
    """
    partial = file.blob.with_name(f"{file.etag}.zgs.incomplete")
    have = partial.stat().st_size if partial.exists() else 0
    if have > file.size:
        partial.unlink()
        have = 0
    free = shutil.disk_usage(partial.parent).free
    if free < file.size - have + RESERVE:
        raise HubError(
            f"{file.name} of {file.repository} needs {_megabytes(file.size - have + RESERVE)} MB, "
            f"but {partial.parent} has {_megabytes(free)} MB free; make room, or set HF_HOME to "
            "another disk"
        )
    url = hf_hub_url(
        file.repository, file.name, revision=file.revision, endpoint=constants.ENDPOINT
    )
    what = f"fetching {file.name} of {file.repository}"
    bars = not are_progress_bars_disabled()
    disable_progress_bars()  # of the hub's client, which know nothing of logs and diagnostics
    try:
        with (
            activity(what, _megabytes(file.size), "MB", _megabytes(have)) as running,
            _Watched(partial, running) as target,
        ):
            headers = build_hf_headers()
            http_get(url, target, resume_size=have, headers=headers, expected_size=file.size)
    except HubError:
        raise
    except Exception as error:  # the hub's client lets errors of several libraries pass
        if isinstance(error, OSError) and error.errno is not None:  # of the disk
            partial.unlink(missing_ok=True)
            raise
        raise HubError(_explain(file.repository, file.name, error)) from error
    finally:
        if bars:
            enable_progress_bars()
    return partial


def _check_download(partial: Path, file: HubFile, check: Check) -> None:
    problem = _damage(partial, file)
    if not problem:
        try:
            check(partial)
        except ValueError as error:
            problem = str(error)
    if problem:
        partial.unlink()
        raise HubError(
            f"{file.name} of {file.repository}, as it was downloaded, {problem}. It was not kept; "
            "try again"
        )


def _damage(path: Path, file: HubFile) -> str:
    """What is wrong with a file's content; "" if it is what the hub has."""
    size = path.stat().st_size
    if size != file.size:
        return f"has {size} bytes instead of {file.size}"
    if file.sha256 and sha256(path) != file.sha256:
        return "does not have the checksum that the hub names"
    return ""


class _Watched(io.BufferedRandom):
    """A file that is downloaded into: reports its size, and gives up on servers that never get on."""

    def __init__(self, path: Path, running: Activity) -> None:
        path.touch()
        super().__init__(io.FileIO(path, "r+"))
        self.seek(0, io.SEEK_END)
        self._running = running
        self._restarts = 0

    def write(self, data: Any) -> int:
        written = super().write(data)
        self._running.report(_megabytes(self.tell()))
        return written

    def truncate(self, size: int | None = None) -> int:
        # The client does this when it has to begin anew.
        self._restarts += 1
        if self._restarts > RESTARTS:
            raise HubError(f"the hub broke the download off {RESTARTS + 1} times; try again later")
        return super().truncate(size)


def _explain(repository: str, name: str, error: Exception) -> str:
    """Why a file does not come, in one line with the way out."""
    status = _status(error)
    if isinstance(error, GatedRepoError) or status == 403:
        return (
            f"the hub does not give {repository} to this account: ask for access on "
            f"{constants.ENDPOINT}/{repository}, and log in with `hf auth login` or HF_TOKEN"
        )
    if status == 401 or isinstance(error, RepositoryNotFoundError):
        return (
            f"the hub has no {repository}, or gives it only to some ({status}): check the name, or log "
            "in with `hf auth login` or HF_TOKEN; a token that is not valid any more has this effect too"
        )
    if status == 429:
        return (
            f"the hub takes no more requests from here for now (429, {repository}); try again later"
        )
    if status is not None:
        return f"the hub answers {status} to {name} of {repository}; try again later"
    return f"{name} of {repository} does not come: {_line(error)}"


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None) if isinstance(error, HfHubHTTPError) else None
    return None if response is None else int(response.status_code)


def _line(error: BaseException) -> str:
    """An error in one line of bounded length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]} .."


def _folder(repository: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")


def _revision(repository: str) -> str:
    """The revision in use, else the newest."""
    try:
        pinned = (_folder(repository) / "refs" / PIN).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return NEWEST
    return pinned if re.fullmatch(r"[0-9a-f]{40}", pinned) else NEWEST


def _pin(repository: str, path: Path) -> None:
    """Keeps the revision that a file of the cache belongs to."""
    snapshots = _folder(repository) / "snapshots"
    try:
        revision = path.relative_to(snapshots).parts[0]
        ref = snapshots.parent / "refs" / PIN
        if not re.fullmatch(r"[0-9a-f]{40}", revision) or _revision(repository) == revision:
            return
        ref.parent.mkdir(exist_ok=True)
        temporary = ref.with_name(f"{PIN}.{os.getpid()}")
        temporary.write_text(revision, "ascii")
        temporary.replace(ref)
    except (OSError, ValueError) as error:  # a cache that is only read
        logger.debug("revision of %s is not kept: %s", repository, error)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _megabytes(size: int) -> int:
    return -(-size // 1_000_000)

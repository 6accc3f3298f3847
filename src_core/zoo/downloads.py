"""Fetch weights into the models folder: with progress, cancellable, resumable and checked.

pooch owns the folder, the checksum and the final move; it has no resume, so its downloader is our own. That
one writes to `<file>.part`, which an interruption leaves in place and the next attempt continues.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src_core.errors import CheckpointError
from src_core.types import Cancelled, Progress
from src_core.zoo.registry import FOLDER_VARIABLE, ModelInfo, named

if TYPE_CHECKING:
    import requests

TIMEOUT_S = (10.0, 30.0)
"""Seconds to wait for a connection, and for the next bytes of an open one."""

CHUNK_BYTES = 1 << 18


class DownloadCancelled(CheckpointError):
    """The caller asked to stop; what has arrived is kept, and the next attempt continues there."""


class _Interrupted(Exception):
    """The connection ended before the file did."""


def download(
    model: str | ModelInfo,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Path:
    """Return the file of a model, fetching it first if it is not on this machine.

    Parameters
    ----------
    model
        A name from `models()`, or the entry itself.
    progress
        Called as progress(done, total) in bytes after every chunk; total is 0 if the server does not say it.
    cancelled
        Asked after every chunk.

    Returns
    -------
    Path
        The file; its checksum is right.

    Raises
    ------
    DownloadCancelled
        `cancelled` returned True.
    CheckpointError
        Unknown name, nothing to download, no network, interrupted, a wrong checksum, or the folder cannot be
        written. After a wrong checksum nothing of the download stays behind.
    """
    info = named(model) if isinstance(model, str) else model
    if info.bundled or info.url is None:
        if info.downloaded is None:
            raise CheckpointError(_not_downloadable(info))
        return info.path
    import requests

    part = _part(info)
    fetch = functools.partial(_fetch, part=part, progress=progress, cancelled=cancelled)
    resumed = part.exists()
    try:
        try:
            return _retrieve(info, fetch)
        except ValueError:
            # The beginning may come from an older file on the server: once more, from scratch.
            if not resumed:
                raise
            return _retrieve(info, fetch)
    except CheckpointError:
        raise
    # Before ValueError and OSError: some of requests' errors are one or the other, too.
    except (requests.RequestException, _Interrupted) as error:
        raise CheckpointError(
            f"{info.name} could not be downloaded from {info.url} ({error}){_left_behind(info)}. "
            f"Check the network and try again, or {_by_hand(info)}"
        ) from error
    except ValueError as error:
        raise CheckpointError(
            f"the download of {info.name} from {info.url} does not have the checksum xxh128:{info.xxh128} "
            "and was deleted: it was damaged on the way, or the file there is another one now. "
            f"Try again later, or {_by_hand(info)}"
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"{info.name} cannot be stored in {info.path.parent} ({error}). "
            f"Free some space, or set {FOLDER_VARIABLE} to a folder that can be written"
        ) from error


def _retrieve(info: ModelInfo, fetch: Callable[[str, str, Any], None]) -> Path:
    import pooch

    known = None if info.xxh128 is None else f"xxh128:{info.xxh128}"
    folder = info.path.parent
    return Path(pooch.retrieve(info.url, known, fname=info.file, path=folder, downloader=fetch))


def _fetch(
    url: str,
    output_file: str,
    _pooch: Any,
    *,
    part: Path,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> None:
    """Download `url` to `output_file` by way of `part`; the signature is that of pooch's downloaders."""
    import requests

    done = part.stat().st_size if part.exists() else 0
    # Unpacking a compressed transfer would shift the byte positions that Range counts.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
        total = _total_bytes(response)
        if response.status_code == requests.codes.requested_range_not_satisfiable and done:
            # Either every byte is here already, or `part` is of another file.
            if done != total:
                part.unlink()
                raise _Interrupted("the part that was here is not of the server's file and was deleted")
        else:
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content or _first_byte(response) != done:
                if response.status_code == requests.codes.partial_content and _first_byte(response) != 0:
                    raise _Interrupted("the server sent another range than the one asked for")
                done = 0
            done = _receive(response, part, done, total, progress, cancelled)
        if total and done != total:
            raise _Interrupted(f"the connection ended after {done} of {total} bytes")
    part.replace(output_file)


def _receive(
    response: requests.Response,
    part: Path,
    done: int,
    total: int,
    progress: Progress | None,
    cancelled: Cancelled | None,
) -> int:
    """Append the body to the first `done` bytes of `part`; return how many bytes it has then."""
    with part.open("ab") as file:
        file.truncate(done)
        for chunk in response.iter_content(CHUNK_BYTES):
            file.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, total)
            if cancelled is not None and cancelled():
                raise DownloadCancelled(
                    f"download of {part.stem} cancelled after {done} bytes; the next attempt continues there"
                )
    return done


def _first_byte(response: requests.Response) -> int:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _total_bytes(response: requests.Response) -> int:
    """Size of the whole file, 0 if the server does not say."""
    found = re.match(r"bytes .*/(\d+)$", response.headers.get("Content-Range", ""))
    return int(found[1] if found else response.headers.get("Content-Length", 0))


def _part(info: ModelInfo) -> Path:
    return info.path.with_name(info.file + ".part")


def _left_behind(info: ModelInfo) -> str:
    if info.downloaded is not None:
        return f"; {info.path} is there but has a wrong checksum"
    part = _part(info)
    if part.exists():
        return f"; {part.stat().st_size} bytes are kept, and the next attempt continues there"
    return ""


def _by_hand(info: ModelInfo) -> str:
    return f"fetch {info.url} by hand and save it as {info.file} in {info.path.parent}"


def _not_downloadable(info: ModelInfo) -> str:
    if info.bundled:
        return f"{info.path} ships with this package but is missing: reinstall the package"
    return (
        f"{info.name} has no public address. {info.note} Save it as {info.file} in {info.path.parent}, "
        "or give the path of the file instead of the name"
    )

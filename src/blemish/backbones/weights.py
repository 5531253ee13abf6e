"""Published weights: pinned names, download, check and cache.

Each name stands for one file for ever: its sha256 is written here, and a file with another
one is never used. (The defaults of torchvision and timm have moved to other weights since the
papers were written, so "resnet18" without a tag would mean something else every year.)
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from blemish.errors import BackboneError

if TYPE_CHECKING:
    from tqdm import tqdm

CACHE_VARIABLE = "BLEMISH_CACHE"
"""Environment variable: the folder to keep downloaded weights in."""
CHUNK_BYTES = 2**20
TIMEOUT_SECONDS = 30.0

_TORCHVISION = "https://download.pytorch.org/models/"


@dataclass(frozen=True, slots=True)
class PinnedWeights:
    """One published file of weights.

    Attributes
    ----------
    name : str
        Architecture and tag, for example "resnet18.tv_in1k", as timm names it.
    url : str
        Where to download it.
    sha256 : str
        64 hex digits.
    size : int, bytes
    source, licence : str
        Who trained it, and the terms.
    """

    name: str
    url: str
    sha256: str
    size: int
    source: str
    licence: str

    @property
    def architecture(self) -> str:
        """The name without its tag."""
        return self.name.split(".")[0]

    @property
    def file_name(self) -> str:
        """Name in the cache: the published one."""
        return self.url.rsplit("/", 1)[-1]


def _torchvision(architecture: str, sha256: str, size: int, weights: str) -> PinnedWeights:
    return PinnedWeights(
        name=f"{architecture}.tv_in1k",
        url=f"{_TORCHVISION}{architecture}-{sha256[:8]}.pth",
        sha256=sha256,
        size=size,
        source=f"torchvision {weights}.IMAGENET1K_V1, trained on ImageNet-1k",
        licence="BSD-3-Clause",
    )


PINNED = {
    weights.name: weights
    for weights in (
        _torchvision(
            "resnet18",
            "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
            46_830_571,
            "ResNet18_Weights",
        ),
        _torchvision(
            "resnet34",
            "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
            87_319_819,
            "ResNet34_Weights",
        ),
        _torchvision(
            "resnet50",
            "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
            102_530_333,
            "ResNet50_Weights",
        ),
        _torchvision(
            "wide_resnet50_2",
            "95faca4d11227dddf8633dbb5ff6c8a9003c1aa5b8945c73834b8007b10950b8",
            138_223_492,
            "Wide_ResNet50_2_Weights",
        ),
    )
}
"""By full name.

torchvision publishes the first 8 hex digits of each sha256, in the file name. The whole hashes
and sizes are those that several projects, independent of each other, state for these files.
"""

ALIASES = {weights.architecture: weights.name for weights in PINNED.values()}
"""Architecture to the tag it is pinned to: the weights the PaDiM paper used."""


def cache_folder() -> Path:
    """Folder of downloaded weights: $BLEMISH_CACHE, or the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    from platformdirs import user_cache_path  # noqa: PLC0415 - not needed with the variable

    return user_cache_path("blemish", appauthor=False)


def cached_path(weights: PinnedWeights) -> Path:
    """Where the file is, or will be, in the cache."""
    return cache_folder() / weights.file_name


def sha256_of(path: Path) -> str:
    """Hash of a file: 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def is_cached(weights: PinnedWeights) -> bool:
    """Whether the cache has the file, complete and with the right hash."""
    path = cached_path(weights)
    return path.is_file() and sha256_of(path) == weights.sha256


def fetch_weights(weights: PinnedWeights) -> Path:
    """Take the file from the cache, or download it into the cache first.

    The download goes to a file of its own beside the cached one and takes its name only when
    its hash is right, so several processes may do this at once and an interrupted download
    leaves nothing that could be mistaken for the weights.

    Returns
    -------
    Path
        A complete file with the pinned hash.

    Raises
    ------
    BackboneError
        The download failed or is not the pinned file. The text says which file to put where.
    """
    path = cached_path(weights)
    if is_cached(weights):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise BackboneError(
            f"The cache must be a folder that can be written to, but {path.parent} is not "
            f"({error.strerror}). Set {CACHE_VARIABLE} to another folder, or give the file with "
            "--weights."
        ) from error
    part = Path(name)
    try:
        found = _download(weights, part)
        size = part.stat().st_size
        if size < weights.size:
            raise BackboneError(
                f"The download must have {weights.size} bytes, but {weights.url} gave {size}. "
                f"Try again: it was thrown away. {_by_hand(weights)}"
            )
        if found != weights.sha256:
            raise BackboneError(
                f"The download must have sha256 {weights.sha256}, but {weights.url} gave {found}. "
                f"It was thrown away. {_by_hand(weights)}"
            )
        part.chmod(0o644)  # a temporary file is for its owner alone, a cache need not be
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _by_hand(weights: PinnedWeights) -> str:
    path = cached_path(weights)
    state = " (the file there now is damaged)" if path.exists() else ""
    return (
        f"Without a connection: get {weights.url} on another machine and put it at "
        f"{path}{state}, or name the file with --weights."
    )


def _download(weights: PinnedWeights, target: Path) -> str:
    """Write the file and return its sha256."""
    from http.client import HTTPException  # noqa: PLC0415 - slow to import
    from urllib.request import urlopen  # noqa: PLC0415 - slow to import

    digest = hashlib.sha256()
    try:
        with (
            urlopen(weights.url, timeout=TIMEOUT_SECONDS) as response,
            target.open("wb") as stream,
            _progress(weights) as bar,
        ):
            while chunk := response.read(CHUNK_BYTES):
                stream.write(chunk)
                digest.update(chunk)
                bar.update(len(chunk))
                if stream.tell() > weights.size:
                    break  # longer than the pinned file: its hash cannot be right
    except (OSError, HTTPException) as error:
        raise BackboneError(
            f"The weights of {weights.name} are needed, but {weights.url} could not be downloaded "
            f"({_reason(error)}). {_by_hand(weights)}"
        ) from error
    return digest.hexdigest()


def _progress(weights: PinnedWeights) -> tqdm[NoReturn]:
    """Show a bar on a terminal, and nothing elsewhere."""
    from tqdm import tqdm  # noqa: PLC0415 - only for a download

    return tqdm(
        total=weights.size,
        unit="B",
        unit_scale=True,
        desc=weights.file_name,
        disable=not sys.stderr.isatty(),
    )


def _reason(error: Exception) -> str:
    from urllib.error import HTTPError, URLError  # noqa: PLC0415 - slow to import

    if isinstance(error, HTTPError):
        error.close()  # it is also the response
        return f"HTTP status {error.code} {error.reason}"
    if isinstance(error, URLError) and isinstance(error.reason, OSError):
        error = error.reason
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__

"""What a fit will take, before it starts."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blemish.backbones import Backbone
from blemish.errors import ResourceError
from blemish.gaussian import HELD_WHITENING_BYTES
from blemish.neighbourhood import PAIR_BYTES
from blemish.pyramid import Pyramid
from blemish.unusual import unusual_count

# The interpreter, NumPy, OpenCV and OpenVINO with a compiled network, in bytes.
_BASE_BYTES = 300 << 20
_BATCH = 16
# Slices of positions, on all cores.
_WORKING_BYTES = 100 << 20
# Input and the largest feature maps of the networks known, in float32.
_NETWORK_BYTES_PER_PIXEL = 300


@dataclass(frozen=True, slots=True)
class FitPlan:
    """Cost of a fit, estimated from its shapes.

    Attributes
    ----------
    images : int
    dims : tuple of int
        Embedding dimensions per level, coarse to fine.
    grid : (h, w)
        Of the finest level.
    memory_bytes : int
        Peak memory; does not depend on the number of images unless their features are kept in the
        model. Embeddings kept between the passes lie in the temporary folder (up to 4 GB), which
        some systems keep in memory.
    file_bytes : int
        Size of the model file.
    """

    images: int
    dims: tuple[int, ...]
    grid: tuple[int, int]
    memory_bytes: int
    file_bytes: int

    def check(self, available: int | None = None) -> None:
        """Refuse a fit that would not fit into memory.

        Parameters
        ----------
        available : int, bytes, optional
            Default: what this machine, or container, has free.

        Raises
        ------
        ResourceError
            More is needed than available.
        """
        available = available_memory() if available is None else available
        if self.memory_bytes > available:
            raise ResourceError(
                f"This fit needs about {gigabytes(self.memory_bytes)} of memory, but "
                f"{gigabytes(available)} are free. Use fewer dimensions (now {sum(self.dims)}), a "
                "smaller size, or one shared Gaussian."
            )

    def check_disk(self, out: Path) -> None:
        """Refuse a fit whose model would not fit beside `out`.

        Raises
        ------
        ResourceError
            The disk has not enough room.
        """
        free = shutil.disk_usage(out.parent).free
        if self.file_bytes > free:
            raise ResourceError(
                f"The model will take about {gigabytes(self.file_bytes)}, but {out.parent} has "
                f"{gigabytes(free)} free. Make room, or name another place."
            )

    def __str__(self) -> str:
        """One line for people."""
        height, width = self.grid
        return (
            f"{self.images} images, {sum(self.dims)} dimensions at {height}x{width} positions: "
            f"about {gigabytes(self.memory_bytes)} of memory, a model of about "
            f"{gigabytes(self.file_bytes)}"
        )


def plan_fit(
    pyramids: Sequence[Pyramid],
    images: int,
    *,
    backbone: Backbone,
    shared: bool = False,
    norms: bool = False,
    keep: bool = False,
    neighbourhood: int = 0,
) -> FitPlan:
    """Estimate what a fit will take.

    Parameters
    ----------
    pyramids : list of Pyramid
        Of the parts of the model; see `combination.part_pyramids`.
    images : int
    backbone : Backbone
    shared : bool
    norms : bool
        Whether Ledoit & Wolf's shrinkage is used, which needs more.
    keep : bool
        Whether the features of all images are kept.
    neighbourhood : int
        Of the settings; more than 0 takes more.

    Returns
    -------
    FitPlan
    """
    rows = packed = embedding = own = 0
    for pyramid, level in [(p, level) for p in pyramids for level in range(p.levels)]:
        dims, visible = pyramid.dims[level], pyramid.visible(level)
        cells = 1 if shared else pyramid.positions(level)
        rows += cells * dims * visible
        packed += cells * (dims * (visible - dims) + dims * (dims + 1) // 2)
        embedding += pyramid.positions(level) * visible
        own += pyramid.positions(level) * dims
    moments = 8 * rows
    # A batch's feature maps and embeddings, and what is worked on at a time.
    gathering = _BATCH * 4 * embedding + _WORKING_BYTES + (moments if norms else 0)
    held = moments if moments <= HELD_WHITENING_BYTES else 0
    leaving_out = held + _BATCH * 4 * embedding + _WORKING_BYTES
    leaving_out += PAIR_BYTES if neighbourhood else 0
    memory = _BASE_BYTES + moments + max(gathering, leaving_out)
    kept = 2 * own * (images if keep else unusual_count(images))
    memory += 2 * kept  # rounded batches, and all of them together
    file = 6 * packed + len(backbone.onnx) + kept
    dims_of_all = tuple(dims for pyramid in pyramids for dims in pyramid.dims)
    return FitPlan(images, dims_of_all, pyramids[-1].finest, memory + len(backbone.onnx) * 4, file)


def check_network_memory(size: tuple[int, int], available: int | None = None) -> None:
    """Refuse an input size whose feature maps would not fit into memory.

    Parameters
    ----------
    size : (H, W)
    available : int, bytes, optional
        Default: what this machine, or container, has free.

    Raises
    ------
    ResourceError
        More is needed than available.
    """
    available = available_memory() if available is None else available
    needed = _BASE_BYTES + size[0] * size[1] * _NETWORK_BYTES_PER_PIXEL
    if needed > available:
        raise ResourceError(
            f"A network on {size[0]}x{size[1]} pixels needs about {gigabytes(needed)} of memory, "
            f"but {gigabytes(available)} are free. Use a smaller size."
        )


def available_memory() -> int:
    """Bytes of memory free for this process, the limit of its container (cgroup v2) included."""
    import psutil  # noqa: PLC0415

    free = int(psutil.virtual_memory().available)
    limit = Path("/sys/fs/cgroup/memory.max")
    used, stat = Path("/sys/fs/cgroup/memory.current"), Path("/sys/fs/cgroup/memory.stat")
    try:
        allowed = limit.read_text().strip()
        if allowed != "max":
            cached = dict(line.split() for line in stat.read_text().splitlines())
            reclaimable = int(cached.get("inactive_file", 0))  # files read, given up when needed
            free = min(free, int(allowed) - int(used.read_text()) + reclaimable)
    except (OSError, ValueError):
        pass  # no container, or one that does not say
    return free


def gigabytes(count: int) -> str:
    """Bytes for people.

    Examples
    --------
    >>> gigabytes(1_230_000_000), gigabytes(48_000_000)
    ('1.2 GB', '48 MB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"

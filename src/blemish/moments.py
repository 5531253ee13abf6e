"""Count, mean and scatter of patch embeddings, gathered one batch of images at a time.

This is all that Eq. 1 of the PaDiM paper (arXiv:2011.08785, section III-B) needs. Two workers may
each see a part of the images: `merge` gives what one would have had. Images can be taken out
again with `remove`. Memory does not depend on the number of images.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from blemish.arrays import Float64Array, FloatArray, IntArray
from blemish.cores import for_each
from blemish.errors import InputError, NotFittedError, ShapeError
from blemish.norm_moments import NormMoments
from blemish.packing import round_to_48_bits
from blemish.pyramid import Pyramid
from blemish.whole_scatter import WholeScatter

# Of what is held at once per slice of positions, on each core.
_SLICE_BYTES = 8 << 20


class Moments:
    """Moments of the embeddings at every position of every level of a pyramid.

    Of a level only the rows of its own channels are kept: their scatter against everything
    visible there. The rows of the coarser channels are those of the coarser levels.

    Parameters
    ----------
    pyramid : Pyramid
    shared : bool, default False
        One Gaussian for all positions: every position of every image is a sample of it.
    weights : float64 (P of the finest level,), optional
        For `shared`: the weight of each position, 0 or 1; positions of weight 0 are no samples.
    norms : bool, default False
        Gather also what Ledoit & Wolf's shrinkage needs.

    Attributes
    ----------
    count : int
        Images seen.
    means : list of float64 (P, d)
        Per level; P is 1 if `shared`.
    scatters : list of float64 (P, d, D)
        Per level: sum over samples of ``own visible^T`` of the centred embeddings; divided by
        nothing. The last d columns are the symmetric own block. R18-Rd100 at 224: 56 MB.
    norms : NormMoments or None

    References
    ----------
    Schubert & Gertz, SSDBM 2018, doi:10.1145/3221269.3223036: merging centred moments.

    Examples
    --------
    >>> moments = Moments(Pyramid(grids=((1, 1),), dims=(1,)))
    >>> moments.update([np.array([[[1.0]], [[3.0]]])])
    >>> moments.means[0], moments.scatters[0]
    (array([[2.]]), array([[[2.]]]))
    """

    def __init__(
        self,
        pyramid: Pyramid,
        *,
        shared: bool = False,
        weights: Float64Array | None = None,
        norms: bool = False,
    ) -> None:
        self.pyramid = pyramid
        self.shared = shared
        self.count = 0
        self._weights = pyramid.level_weights(weights) if shared else None
        cells = [1 if shared else pyramid.positions(k) for k in range(pyramid.levels)]
        self.means: list[Float64Array] = [
            np.zeros((p, d)) for p, d in zip(cells, pyramid.dims, strict=True)
        ]
        self.scatters: list[Float64Array] = [
            np.zeros((p, pyramid.dims[k], pyramid.visible(k))) for k, p in enumerate(cells)
        ]
        dims = pyramid.visible(pyramid.levels - 1)
        self.norms = NormMoments.zeros(cells[-1], dims) if norms else None

    @property
    def weights(self) -> Float64Array | None:
        """Weight of each finest position, if `shared` and not all 1."""
        if self._weights is None or self._weights[-1].all():
            return None
        return self._weights[-1]

    @property
    def samples_per_image(self) -> float:
        """How many samples of one Gaussian an image holds: 1, or the positions if `shared`."""
        return 1.0 if self._weights is None else float(self._weights[-1].sum())

    @property
    def samples(self) -> float:
        """How many samples each Gaussian has seen."""
        return self.count * self.samples_per_image

    def update(self, levels: Sequence[FloatArray]) -> None:
        """Add a batch of images.

        Parameters
        ----------
        levels : list of float (N, P, d)
            Own embeddings per level, coarse to fine. N may be 0, which changes nothing.

        Raises
        ------
        ShapeError
            N, P or d are not those of the pyramid.
        """
        images = self.pyramid.check(levels)
        if images == 0:
            return
        if self.norms is not None:
            self.merge(self._of_batch(levels))
            return
        samples = [self._by_cell(array, k) for k, array in enumerate(levels)]
        added = images * self.samples_per_image
        factor = self.samples * added / (self.samples + added)
        batch_means = [self._mean(array, k) for k, array in enumerate(samples)]
        shifts = [b - m for b, m in zip(batch_means, self.means, strict=True)]
        self._accumulate(samples, batch_means, shifts, factor, sign=1.0)
        for mean, shift in zip(self.means, shifts, strict=True):
            mean += shift * (added / (self.samples + added))
        self.count += images

    def remove(self, levels: Sequence[FloatArray]) -> None:
        """Take out images seen before, as if they had never been added.

        Parameters
        ----------
        levels : list of float (N, P, d)
            Their embeddings, the very ones that were added.

        Raises
        ------
        ShapeError
            N, P or d are not those of the pyramid.
        InputError
            More images than were seen.
        """
        images = self.pyramid.check(levels)
        if images > self.count:
            raise InputError(
                f"At most the {self.count} images seen can be removed, but {images} were given. "
                "Give only images that were added before."
            )
        if images == 0:
            return
        if images == self.count:  # exactly nothing, not rounding noise
            self._clear()
            return
        samples = [self._by_cell(array, k) for k, array in enumerate(levels)]
        gone, kept = images * self.samples_per_image, self.samples - images * self.samples_per_image
        batch_means = [self._mean(array, k) for k, array in enumerate(samples)]
        for mean, batch in zip(self.means, batch_means, strict=True):
            mean -= (batch - mean) * (gone / kept)
        shifts = [b - m for b, m in zip(batch_means, self.means, strict=True)]
        self._accumulate(samples, batch_means, shifts, kept * gone / (kept + gone), sign=-1.0)
        if self.norms is not None:
            self.norms = self._parted_norms(self._of_batch(levels), shifts, kept, gone)
        self.count -= images

    def merge(self, other: Moments) -> None:
        """Add what `other` has seen, as if this object had seen it too.

        Commutative and associative up to rounding: the order of workers does not matter.

        Raises
        ------
        ShapeError
            `other` has another pyramid or other weights, or only one of the two is shared, or
            has norms.
        """
        self._check_alike(other)
        if other.count == 0:
            return
        total = self.samples + other.samples
        factor = self.samples * other.samples / total
        shifts = [b - m for b, m in zip(other.means, self.means, strict=True)]
        if self.norms is not None:
            self.norms = self._joined_norms(other, shifts, self.samples, other.samples)
        self._accumulate([], [], shifts, factor, sign=1.0)
        for k, shift in enumerate(shifts):
            self.scatters[k] += other.scatters[k]
            self.means[k] += shift * (other.samples / total)
        self.count += other.count

    def variances(self) -> list[Float64Array]:
        """Sample variance (divisor: samples - 1) of every own channel.

        Returns
        -------
        list of float64 (P, d), each >= 0

        Raises
        ------
        NotFittedError
            Fewer than 2 images seen.
        """
        self.require_images(2)
        return [diagonal / (self.samples - 1) for diagonal in self.squares()]

    def squares(self) -> list[Float64Array]:
        """Sum of squared deviations of every own channel: the diagonal of the scatter.

        Returns
        -------
        list of float64 (P, d), each >= 0
        """
        return [
            np.maximum(np.diagonal(rows[:, :, -rows.shape[1] :], axis1=1, axis2=2), 0.0)
            for rows in self.scatters
        ]

    def known_norms(self) -> NormMoments:
        """The norms, or an InputError that says how to gather them."""
        if self.norms is None:
            raise InputError(
                "Ledoit & Wolf's shrinkage needs moments gathered for it, but these were not. "
                "Gather them with norms=True."
            )
        return self.norms

    def _check_alike(self, other: Moments) -> None:
        """Refuse moments that were gathered in another way; say in which."""
        for what, mine, its in (
            ("pyramid", self.pyramid, other.pyramid),
            ("value of shared", self.shared, other.shared),
            ("value of norms", self.norms is not None, other.norms is not None),
            ("set of positions", _counted(self._weights), _counted(other._weights)),
        ):
            if mine != its:
                raise ShapeError(
                    f"Both moments must have one {what}, but one has {mine} and the other {its}. "
                    "Did both workers use the same settings?"
                )

    def require_images(self, least: int) -> None:
        """Raise NotFittedError if fewer than `least` images were seen."""
        if self.count < least:
            raise NotFittedError(
                f"This needs at least {least} images, but {self.count} were seen. "
                "Give more images of good parts."
            )

    def copy(self) -> Moments:
        """Return an independent copy."""
        twin = object.__new__(Moments)
        twin.pyramid, twin.shared, twin.count = self.pyramid, self.shared, self.count
        twin._weights, twin.norms = self._weights, self.norms
        twin.means = [mean.copy() for mean in self.means]
        twin.scatters = [scatter.copy() for scatter in self.scatters]
        return twin

    def _clear(self) -> None:
        self.count = 0
        for array in (*self.means, *self.scatters):
            array[:] = 0.0
        if self.norms is not None:
            self.norms = NormMoments.zeros(*self.norms.cubes.shape)

    @property
    def whole(self) -> WholeScatter:
        """The scatter of the whole embedding, as far as sums over it are needed."""
        return WholeScatter(self.pyramid, self.scatters, shared=self.shared)

    def _of_batch(self, levels: Sequence[FloatArray]) -> Moments:
        """Moments of a batch alone, norms included."""
        batch = Moments(self.pyramid, shared=self.shared, weights=self.weights)
        batch.update(levels)
        last = self.pyramid.levels - 1
        if self.shared:
            parts = [
                self._shared_samples([self._by_cell(a, k) for k, a in enumerate(levels)], last, k)
                for k in range(len(levels))
            ]
            whole = np.concatenate(parts, axis=2)
        else:
            moved = [array.transpose(1, 0, 2) for array in levels]
            whole = self.pyramid.visible_vectors(moved, last)
        weight = self._sample_weights(last, whole.shape[1])
        deviations = np.asarray(whole - self.whole.visible(batch.means)[:, None, :])
        batch.norms = NormMoments.of(deviations, None if weight is None else weight[1:])
        return batch

    def _about(self, shift: Float64Array, samples: float) -> NormMoments:
        return self.known_norms().moved(
            shift,
            samples=samples,
            product=self.whole.times(shift),
            trace=self.whole.trace(),
        )

    def _joined_norms(
        self, other: Moments, shifts: Sequence[Float64Array], own: float, added: float
    ) -> NormMoments:
        """Norms of both about their common mean; `self` is still without the other."""
        shift = self.whole.visible(shifts)
        total = own + added
        mine = self._about(-shift * (added / total), own)
        return mine.plus(other._about(shift * (own / total), added))

    def _parted_norms(
        self, gone: Moments, shifts: Sequence[Float64Array], kept: float, taken: float
    ) -> NormMoments:
        """Norms of what is kept; `self` is already without what is gone, but for the norms."""
        shift, total = self.whole.visible(shifts), kept + taken
        rest = self.known_norms().plus(gone._about(shift * (kept / total), taken), sign=-1.0)
        back = -shift * (taken / total)
        return rest.moved_back(
            back, samples=kept, product=self.whole.times(back), trace=self.whole.trace()
        )

    def round(self) -> None:
        """Round to what a model file keeps, so that a saved model scores as this one."""
        for array in (*self.means, *self.scatters):
            round_to_48_bits(array)

    def _by_cell(self, array: FloatArray, level: int) -> FloatArray:
        """(N, P, d) -> (cells, samples, d): what each Gaussian sees."""
        if self.shared:
            return np.asarray(array.reshape(1, -1, self.pyramid.dims[level]))
        return np.asarray(array.transpose(1, 0, 2))

    def _mean(self, samples: FloatArray, level: int) -> Float64Array:
        if self._weights is None:
            return np.asarray(samples.mean(axis=1, dtype=np.float64))
        weight = np.tile(self._weights[level], samples.shape[1] // len(self._weights[level]))
        return np.asarray(np.einsum("n,knd->kd", weight / weight.sum(), samples, dtype=np.float64))

    def _accumulate(
        self,
        samples: Sequence[FloatArray],
        batch_means: Sequence[Float64Array],
        shifts: Sequence[Float64Array],
        factor: float,
        *,
        sign: float,
    ) -> None:
        """Add (or subtract) a batch's scatter about its own mean, and that of the two means.

        The shift between the means enters as one more sample of weight `factor`, so that both
        are one matrix product.
        """
        root = np.sqrt(factor)
        for level, scatter in enumerate(self.scatters):

            def add(cells: slice, k: int = level, scatter: Float64Array = scatter) -> None:
                rows = []
                for j in range(k + 1):
                    index = cells if self.shared else self._indices(k, j, cells)
                    parts = [root * shifts[j][index, None, :]]
                    if samples:
                        seen = self._shared_samples(samples, k, j) if self.shared else samples[j]
                        parts.append(seen[index] - batch_means[j][index, None, :])
                    rows.append(np.concatenate(parts, axis=1))
                own = sign * rows[-1].transpose(0, 2, 1)
                weight = self._sample_weights(k, rows[-1].shape[1] - 1)
                own = own if weight is None else own * weight
                scatter[cells] += own @ np.concatenate(rows, axis=2)

            for_each(add, self._slices(level, len(samples[0][0]) if samples else 0))

    def _sample_weights(self, level: int, samples: int) -> Float64Array | None:
        if self._weights is None:
            return None
        weights = self._weights[level]
        return np.concatenate([[1.0], np.tile(weights, samples // len(weights))])

    def _shared_samples(self, samples: Sequence[FloatArray], level: int, j: int) -> FloatArray:
        """Samples of level j repeated to the positions of `level`, as one long list."""
        if j == level:
            return samples[j]
        dims = self.pyramid.dims[j]
        grid = samples[j].reshape(-1, self.pyramid.positions(j), dims)
        return grid[:, self.pyramid.ancestors(level, j)].reshape(1, -1, dims)

    def _indices(self, level: int, coarser: int, cells: slice) -> slice | IntArray:
        return cells if coarser == level else self.pyramid.ancestors(level, coarser)[cells]

    def _slices(self, level: int, samples: int) -> Iterator[slice]:
        cells, dims, visible = self.scatters[level].shape
        step = max(1, _SLICE_BYTES // (8 * (dims * visible + (samples + 1) * visible)))
        for start in range(0, cells, step):
            yield slice(start, min(start + step, cells))


def _counted(weights: list[Float64Array] | None) -> str:
    """Which positions count, short enough to be compared and shown."""
    if weights is None:
        return "all"
    return f"{int(weights[-1].sum())}, {zlib.crc32(weights[-1].tobytes()):x}"

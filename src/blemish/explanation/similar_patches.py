"""Which good image looks most alike at one place, in the model's own metric.

Two embeddings of a place are as far apart as the Gaussian there says: the Mahalanobis distance of
their difference. Scores without a distance compare by the channel that differs most, in standard
deviations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import Float32Array, Float64Array, FloatArray
from blemish.combination import split_levels
from blemish.errors import InputError
from blemish.gaussian import Regularisation
from blemish.scorer import Scorer
from blemish.scoring import left_out_distance, left_out_ridge
from blemish.whitening import inverse_triangular


@dataclass(frozen=True, slots=True)
class Probe:
    """One part's view of one place.

    Attributes
    ----------
    scorer : Scorer
        Of the part.
    position, judged_by : int
        Position of the part's finest level, and the one whose Gaussian judges it.
    factor : float
        Of the part's distances in the image score.
    """

    scorer: Scorer
    position: int
    judged_by: int
    factor: float

    def whitening(self) -> Float64Array:
        """Matrix (K, D) that brings embeddings (D,) of the place to the model's metric."""
        pyramid = self.scorer.pyramid
        last, dims = pyramid.levels - 1, pyramid.visible(pyramid.levels - 1)
        matrix = np.zeros((dims, dims))
        end = 0
        for level in range(pyramid.levels):
            start, end = end, pyramid.visible(level)
            cell = pyramid.ancestors(last, level)[self.judged_by]
            if self.scorer.gaussian is not None:
                rows = self.scorer.gaussian.whitening[level]
                matrix[start:end, :end] = rows[cell if len(rows) > 1 else 0]
            else:
                variances = self.scorer.variances[level]
                own = variances[cell if len(variances) > 1 else 0]
                matrix[np.arange(start, end), np.arange(start, end)] = 1.0 / np.sqrt(own)
        return matrix

    def here(self, levels: Sequence[FloatArray]) -> Float64Array:
        """Embeddings of the place: levels (N, P, d) of the part to float64 (N, D)."""
        pyramid = self.scorer.pyramid
        cells = [
            pyramid.ancestors(pyramid.levels - 1, k)[self.position] for k in range(len(levels))
        ]
        own = [array[:, cell] for array, cell in zip(levels, cells, strict=True)]
        return np.concatenate(own, axis=1).astype(np.float64)

    def everywhere(self, levels: Sequence[FloatArray]) -> FloatArray:
        """Embeddings of all positions of one image: levels (P, d) to float (P, D)."""
        last = self.scorer.pyramid.levels - 1
        own = [array[self.scorer.pyramid.ancestors(last, k)] for k, array in enumerate(levels)]
        return np.concatenate(own, axis=1)

    def lengths(self, differences: FloatArray) -> FloatArray:
        """Size of whitened differences (..., K), in the unit of the part's scores."""
        if self.scorer.gaussian is not None:
            return np.asarray(np.sqrt(np.square(differences).sum(axis=-1)))
        return np.asarray(np.abs(differences).max(axis=-1, initial=0.0))


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Good images beside an image, at one place.

    Attributes
    ----------
    here : list of float64 (D,), one per probe
        Embedding of the image.
    good : list of float64 (n, D), one per probe
        Of the good images at the same place.
    elsewhere : (int, int, float) or None
        The most similar patch at any place: number of the good image, position on `finest_grid`,
        distance.
    """

    here: list[Float64Array]
    good: list[Float64Array]
    elsewhere: tuple[int, int, float] | None

    def distances(self, probes: Sequence[Probe]) -> tuple[Float64Array, float]:
        """Distance of every good image, float64 (n,), and what is usual between good images.

        Usual is the median, over the good images, of the distance to the nearest other.
        """
        count = len(self.good[0])
        found, between = np.zeros(count), np.zeros((count, count))
        for probe, here, good in zip(probes, self.here, self.good, strict=True):
            if probe.factor > 0:
                matrix = probe.whitening().T
                whitened = good @ matrix
                found += probe.factor * probe.lengths(whitened - here @ matrix)
                for row in range(count):
                    between[row] += probe.factor * probe.lengths(whitened - whitened[row])
        np.fill_diagonal(between, np.inf)
        return found, float(np.median(between.min(axis=1)))


def neighbours(
    levels: Sequence[FloatArray],
    good: Iterable[Sequence[FloatArray]],
    probes: Sequence[Probe],
    *,
    anywhere: bool = False,
) -> Neighbours:
    """Gather what good images look like at one place.

    Parameters
    ----------
    levels : list of float (P, d)
        Embedding of the image.
    good : iterable of lists of float (N, P, d)
        Embeddings of at least 2 good images, in batches.
    probes : list of Probe, one per part
        At least one with a factor above 0.
    anywhere : bool, default False
        Look for the most similar patch at all places, too.

    Returns
    -------
    Neighbours

    Raises
    ------
    InputError
        Fewer than 2 good images.
    """
    parts = len(probes)
    here = [
        probe.here([array[None] for array in own])[0]
        for probe, own in zip(probes, split_levels(levels, parts), strict=True)
    ]
    used = [k for k, probe in enumerate(probes) if probe.factor > 0]
    matrices = {k: probes[k].whitening().astype(np.float32) for k in used if anywhere}
    seen: list[list[Float64Array]] = [[] for _ in probes]
    best: tuple[int, int, float] | None = None
    count = 0
    for batch in good:
        for probe, rows, own in zip(probes, seen, split_levels(batch, parts), strict=True):
            rows.append(probe.here(own))
        for image in range(len(batch[0]) if anywhere else 0):
            one = split_levels([array[image] for array in batch], parts)
            distances = _distances_everywhere(one, probes, matrices, here)
            place = int(distances.argmin())
            if best is None or distances[place] < best[2]:
                best = (count + image, place, float(distances[place]))
        count += len(batch[0])
    if count < 2:
        raise InputError(
            "There must be at least 2 good images other than the one explained, but there "
            f"{'is' if count == 1 else 'are'} {count}. Give more."
        )
    return Neighbours(here, [np.concatenate(rows) for rows in seen], best)


def _distances_everywhere(
    parts: Sequence[Sequence[FloatArray]],
    probes: Sequence[Probe],
    matrices: dict[int, Float32Array],
    here: Sequence[Float64Array],
) -> Float64Array:
    """Distance of every position of the finest grid that is looked at: float64 (P,)."""
    finest = finest_grid(probes)
    total = np.zeros(finest[0] * finest[1])
    for k, matrix in matrices.items():
        probe = probes[k]
        whitened = (probe.everywhere(parts[k]) - here[k].astype(np.float32)) @ matrix.T
        grid = probe.scorer.pyramid.finest
        rows = np.arange(finest[0]) * grid[0] // finest[0]
        columns = np.arange(finest[1]) * grid[1] // finest[1]
        lengths = probe.lengths(whitened).reshape(grid)[np.ix_(rows, columns)]
        total += probe.factor * lengths.ravel()
    return total


def finest_grid(probes: Sequence[Probe]) -> tuple[int, int]:
    """Grid (h, w) of the finest part that has a say."""
    return max(probe.scorer.pyramid.finest for probe in probes if probe.factor > 0)


def p_value_at_place(value: Float64Array, learned: Float64Array, how: Regularisation) -> float:
    """How unusual an embedding is among those that were learned from at one place.

    By counting. The F law of such distances is not used, as features are not Gaussian: with
    ResNet-18 (preset paper) on MVTec AD bottle, 0.004 % of the left-out distances of good images
    lie where it promises 0.0001 %, and 0.04 % where it promises 10 %.

    Parameters
    ----------
    value : float64 (D,)
    learned : float64 (n, D)
        All that the Gaussian of the place was learned from.
    how : Regularisation

    Returns
    -------
    float in (0, 1]
        Conformal p-value of its distance among theirs, each left out.

    Examples
    --------
    >>> learned = np.array([[-1.0], [0.0], [1.0], [2.0]])
    >>> [p_value_at_place(np.array([v]), learned, Regularisation(ridge=0.0)) for v in (0.5, 9.0)]
    [1.0, 0.2]
    """
    count, dims = len(learned), np.arange(len(value))
    mean = learned.mean(axis=0)
    covariance = how.weight * np.atleast_2d(np.cov(learned, rowvar=False))

    def squared(embeddings: Float64Array, ridge: float) -> Float64Array:
        regular = covariance.copy()
        regular[dims, dims] += ridge
        inverse = inverse_triangular(np.linalg.cholesky(regular)[None])[0]
        return np.asarray(np.square((embeddings - mean) @ inverse.T).sum(axis=1))

    within = squared(learned, left_out_ridge(how.ridge, count))
    left_out = left_out_distance(within, count, how.weight)
    higher = left_out >= squared(value[None], how.ridge)[0]
    return float((1 + higher.sum()) / (count + 1))

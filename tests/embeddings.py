"""Made-up embeddings, and the dull way to do everything: one position, one full covariance."""

import numpy as np

from blemish.moments import Moments
from blemish.pyramid import Pyramid

PYRAMID = Pyramid(grids=((1, 2), (2, 4), (4, 8)), dims=(3, 2, 4))


def made_up_levels(count, pyramid=PYRAMID, seed=0):
    """Correlated embeddings per level: list of float64 (N, P, d)."""
    generator = np.random.default_rng(seed)
    levels = []
    for level, dims in enumerate(pyramid.dims):
        mixing = generator.normal(size=(dims, dims)) + 2 * np.eye(dims)
        own = generator.normal(size=(count, pyramid.positions(level), dims)) @ mixing
        if level:  # correlated with the coarser level
            parents = pyramid.ancestors(level, level - 1)
            own += levels[-1][:, parents, :1]
        levels.append(own + generator.normal(size=dims))
    return levels


def moments_of(levels, pyramid=PYRAMID, **settings):
    moments = Moments(pyramid, **settings)
    moments.update(levels)
    return moments


def whole(levels, pyramid=PYRAMID):
    """The whole embedding at every finest position: (N, P, D), as PaDiM concatenates it."""
    last = pyramid.levels - 1
    return np.concatenate(
        [array[:, pyramid.ancestors(last, k)] for k, array in enumerate(levels)], axis=2
    )


def dull_distance(fitted, judged, epsilon=0.01, weight=1.0):
    """Mahalanobis distance (N, P) with a full covariance and a solve per position."""
    distances = np.empty(judged.shape[:2])
    for position in range(judged.shape[1]):
        samples = fitted[:, position]
        covariance = weight * np.cov(samples, rowvar=False) + epsilon * np.eye(samples.shape[1])
        centred = judged[:, position] - samples.mean(axis=0)
        solved = np.linalg.solve(covariance, centred.T).T
        distances[:, position] = np.sqrt((centred * solved).sum(axis=1))
    return distances


def subset(levels, index):
    return [array[index] for array in levels]

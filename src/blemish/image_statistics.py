"""A few numbers that say how an image was taken, not what it shows: light, focus, exposure.

They are kept of every training image. Suspicious images are found by them, and a camera that
drifts is seen before its scores do.
"""

from __future__ import annotations

import numpy as np

from blemish.arrays import Float32Array, Float64Array

STATISTICS = ("brightness", "contrast", "focus", "clipped")
"""Mean gray value in 0..1; its standard deviation; log of the mean squared Laplacian over the
variance, larger is sharper; share of pixels that are black or white in any channel."""

_BLACK, _WHITE = 1 / 255, 254 / 255
_LEAST = 1e-12


def image_statistics(inputs: Float32Array) -> Float64Array:
    """Measure preprocessed images.

    Parameters
    ----------
    inputs : float32 (N, 3, H, W), 0..1

    Returns
    -------
    float64 (N, 4)
        `STATISTICS` of every image.

    Examples
    --------
    >>> image_statistics(np.full((1, 3, 8, 8), 0.5, np.float32))[0, 0]
    np.float64(0.5)
    """
    gray = inputs.mean(axis=1, dtype=np.float32)
    inner = gray[:, 1:-1, 1:-1]
    laplacian = (
        gray[:, :-2, 1:-1] + gray[:, 2:, 1:-1] + gray[:, 1:-1, :-2] + gray[:, 1:-1, 2:] - 4 * inner
    )
    pixels = gray.reshape(len(gray), -1).astype(np.float64)
    variance = pixels.var(axis=1)
    detail = np.square(laplacian, dtype=np.float64).mean(axis=(1, 2))
    clipped = ((inputs <= _BLACK) | (inputs >= _WHITE)).any(axis=1)
    return np.stack(
        [
            pixels.mean(axis=1),
            np.sqrt(variance),
            np.log((detail + _LEAST) / (variance + _LEAST)),
            clipped.mean(axis=(1, 2)),
        ],
        axis=1,
    )

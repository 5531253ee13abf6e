"""How a part lies in an image, against a reference: shifted, or turned by any angle and shifted.

Coarse to fine, on gray images. The spectrum of an image turns with it and does not feel a shift,
so that its angle can be read off a polar spectrum (Fourier-Mellin, Reddy and Chatterji, IEEE
Trans. Image Processing 5(8), 1996), up to half a turn. At every angle that is likely, the shift is
the peak of a cross-correlation. The best are refined by Gauss-Newton steps on the correlation
coefficient (ECC, Evangelidis and Psarakis, IEEE PAMI 30(10), 2008), in the inverse compositional
form: gradients are those of the reference, and taken once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.arrays import Float32Array, Float64Array
from blemish.errors import ShapeError

_SEARCHED = 32  # pixels of the longer side: shifts are searched for,
_COARSE = 64  # the likely ones compared,
_FINE = 128  # angles searched for, and the best refined
_ANGLES = 256  # directions of the spectrum in half a turn
_INNERMOST = 3  # radii of the spectrum below are light, not shape
_PEAKS = 3  # of the correlation of spectra; each is two angles
_REFINED = 2  # of the turned candidates
_STEPS = 8
_STILL, _ROUGHLY_STILL = 0.01, 0.05  # pixels: steps that are shorter are the last
_BLUR = 1.0  # pixels, for gradients
_LEAST_SEEN = 0.25  # of the pixels of the reference
_AS_GOOD = 1.18
"""A symmetric part fits at several angles. Of those with at most so many times the least lack of
correlation, 1 - r, the one that turns the image least is taken."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a part lies, against where the reference has it.

    A point x of the reference, in pixels from the middle of the image, is seen in the image at
    ``turn(x, angle) + (dx, dy)``.

    Attributes
    ----------
    dx, dy : float, pixels
        To the right and down.
    angle : float, degrees, -180 to 180
        Clockwise as seen.
    correlation : float, -1 to 1
        Of the gray values of the image, brought back, and the reference, where both are seen;
        times the root of the share of the reference's variance that is seen.
    """

    dx: float
    dy: float
    angle: float
    correlation: float = 1.0

    def matrix(self, size: tuple[int, int], canvas: tuple[int, int] | None = None) -> Float64Array:
        """Affine matrix (2, 3) from pixels (x, y) of the reference to those of the image.

        Parameters
        ----------
        size : (H, W)
            Of the image.
        canvas : (H, W), optional
            Of the reference, with the same middle; default `size`.

        Examples
        --------
        >>> Placement(2.0, 0.0, 90.0).matrix((5, 5)).round(6) @ [0, 0, 1]
        array([6., 0.])
        """
        rotation = _rotation(math.radians(self.angle))
        shift = _centre(size) - rotation @ _centre(canvas or size) + (self.dx, self.dy)
        return np.column_stack([rotation, shift])

    def after(self, other: Placement) -> Placement:
        """Placement, against a new reference, of what lies in the image as this one says.

        `other` is that of the new reference in the old one.

        Examples
        --------
        >>> found = Placement(1.0, 0.0, 90.0).after(Placement(2.0, 0.0, 100.0))
        >>> round(found.dx, 6), round(found.dy, 6), found.angle
        (1.0, 2.0, -170.0)
        """
        x, y = _rotation(math.radians(self.angle)) @ (other.dx, other.dy)
        angle = math.remainder(self.angle + other.angle, 360)
        return Placement(float(x) + self.dx, float(y) + self.dy, angle, self.correlation)

    def inverse(self) -> Placement:
        """Placement of the image in the reference."""
        x, y = _rotation(math.radians(-self.angle)) @ (-self.dx, -self.dy)
        return Placement(float(x), float(y), -self.angle, self.correlation)


class Registration:
    """Finds how a part lies in images, against a reference.

    Parameters
    ----------
    reference : float32 (H, W), gray
    turned : bool, default True
        Whether the part may be turned, too.

    Examples
    --------
    >>> rows, columns = np.mgrid[:64, :64].astype(np.float32)
    >>> def blob(x, y):
    ...     return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 50)
    >>> found = Registration(blob(30, 30), turned=False)(blob(37.5, 26))
    >>> round(found.dx, 1), round(found.dy, 1), found.angle
    (7.5, -4.0, 0.0)
    """

    def __init__(self, reference: Float32Array, *, turned: bool = True) -> None:
        self.size, self._turned = reference.shape, turned
        fine, coarse, small = (_shrunk(reference, side) for side in (_FINE, _COARSE, _SEARCHED))
        self._fine = _Level(fine, turned, _STILL)
        self._coarse = _Level(coarse, turned, _ROUGHLY_STILL)
        self._spectrum = np.conj(_polar_spectrum(fine))
        self._window, self._padded = _hann(small.shape), _padded(small.shape)
        self._template = self._transformed(self._centred(small))

    def __call__(self, image: Float32Array) -> Placement:
        """Find where the part lies.

        Parameters
        ----------
        image : float32 (H, W), gray

        Returns
        -------
        Placement
            The best there is; whether it is one at all, its correlation says.

        Raises
        ------
        ShapeError
            The image has not the size of the reference.
        """
        if image.shape != self.size:
            raise ShapeError.of(
                "image",
                f"{self.size}, that of the reference",
                image.shape,
                "Preprocess both alike.",
            )
        fine = _shrunk(image, _FINE)
        coarse, small = _shrunk(fine, _COARSE), _shrunk(fine, _SEARCHED)
        candidates = [
            motion.scaled(coarse.shape[1] / small.shape[1])
            for motion in self._candidates(small, self._angles(fine) if self._turned else [])
        ]
        best = self._best(candidates, _blurred(coarse))
        motion, fit = self._fine.refine(
            _blurred(fine), best.scaled(fine.shape[1] / coarse.shape[1])
        )
        correlation = fit * math.sqrt(self._fine.share(motion))
        motion = motion.scaled(self.size[1] / fine.shape[1])
        angle = math.degrees(math.remainder(motion.angle, math.tau))
        return Placement(motion.x, motion.y, angle, correlation)

    def _candidates(self, image: Float32Array, angles: list[float]) -> list[_Motion]:
        """Likely motions: unturned, and by the angles, or their opposites, that fit best."""
        turned = [angle + half for angle in angles for half in (0.0, math.pi)]
        found = sorted((self._shifted(image, angle) for angle in turned), key=lambda m: -m[1])
        return [self._shifted(image, 0.0)[0], *(motion for motion, _ in found[:_REFINED])]

    def _shifted(self, image: Float32Array, angle: float) -> tuple[_Motion, float]:
        """The best shift at an angle, by cross-correlation, and how well it fits."""
        centred = self._centred(_warped(image, _Motion(0.0, 0.0, angle)))
        product = cv2.mulSpectrums(self._transformed(centred), self._template, 0, conjB=True)
        fits = cv2.idft(product, flags=cv2.DFT_SCALE)
        row, column = divmod(int(fits.argmax()), fits.shape[1])
        x, y = _rotation(angle) @ (_signed(column, fits.shape[1]), _signed(row, fits.shape[0]))
        power = float(np.square(centred).sum())
        return _Motion(float(x), float(y), angle), float(fits[row, column]) / math.sqrt(
            max(power, 1e-12)
        )

    def _best(self, candidates: list[_Motion], coarse: Float32Array) -> _Motion:
        """Of the refined candidates that fit best, the one that turns least."""
        refined = [self._coarse.refine(coarse, motion) for motion in candidates]
        least = min(1 - fit for _, fit in refined)
        as_good = [motion for motion, fit in refined if 1 - fit <= _AS_GOOD * least + 1e-6]
        return min(as_good, key=lambda motion: abs(math.remainder(motion.angle, math.tau)))

    def _angles(self, image: Float32Array) -> list[float]:
        """Angles in half a turn at which the spectra agree best, in radians."""
        product = (_polar_spectrum(image) * self._spectrum).sum(axis=1)
        fits = np.fft.irfft(product, n=_ANGLES)
        peaks = np.flatnonzero((fits >= np.roll(fits, 1)) & (fits > np.roll(fits, -1)))
        best = peaks[np.argsort(-fits[peaks], kind="stable")][:_PEAKS]
        return [float(k) * math.pi / _ANGLES for k in best]

    def _centred(self, image: Float32Array) -> Float32Array:
        """An image without its mean, faded out to the border."""
        mean = float((image * self._window).sum()) / float(self._window.sum())
        return np.asarray((image - mean) * self._window, np.float32)

    def _transformed(self, image: Float32Array) -> Float32Array:
        """Fourier transform of an image among zeros, packed as OpenCV does."""
        padded = np.zeros(self._padded, np.float32)
        padded[: image.shape[0], : image.shape[1]] = image
        return np.asarray(cv2.dft(padded, nonzeroRows=image.shape[0]))


@dataclass(frozen=True, slots=True)
class _Motion:
    """A `Placement` in radians, at one size."""

    x: float
    y: float
    angle: float

    def scaled(self, factor: float) -> _Motion:
        return _Motion(self.x * factor, self.y * factor, self.angle)

    def matrix(self, size: tuple[int, ...]) -> Float64Array:
        centre, rotation = _centre(size), _rotation(self.angle)
        return np.column_stack([rotation, centre - rotation @ centre + (self.x, self.y)])

    def after_inverse(self, x: float, y: float, angle: float) -> _Motion:
        """Motion that does the inverse of a small one first."""
        back = _rotation(self.angle - angle) @ (x, y)
        return _Motion(self.x - float(back[0]), self.y - float(back[1]), self.angle - angle)


class _Level:
    """Refines a motion at one size."""

    def __init__(self, reference: Float32Array, turned: bool, still: float) -> None:
        self._still = still
        smooth = _blurred(reference)
        self._reference = smooth.ravel()
        self._power = float(np.square(smooth - smooth.mean()).sum())
        across, down = (
            cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3, scale=1 / 8)
            for order in ((1, 0), (0, 1))
        )
        x, y = _centre(reference.shape)
        rows, columns = np.mgrid[: reference.shape[0], : reference.shape[1]].astype(np.float32)
        self._radius = max(reference.shape) / 2
        around = ((columns - x) * down - (rows - y) * across) / self._radius
        gradients = np.stack([across, down, around][: 3 if turned else 2])
        self._gradients = gradients.reshape(len(gradients), -1).astype(np.float32)
        self._ones = np.ones(reference.shape, np.float32)

    def refine(self, image: Float32Array, motion: _Motion) -> tuple[_Motion, float]:
        """A motion that fits better, and the correlation where image and reference are seen."""
        mask = self._seen(motion)
        if mask.mean() < _LEAST_SEEN:
            return motion, -1.0
        gradients = self._gradients * mask
        gradients -= (gradients.sum(axis=1) / mask.sum())[:, None] * mask
        hessian = (gradients @ gradients.T).astype(np.float64)
        hessian += (1e-6 * np.trace(hessian) + 1e-12) * np.eye(len(hessian))
        inverse = np.linalg.inv(hessian)
        reference = _zero_mean(self._reference, mask)
        for _ in range(_STEPS):
            warped = _zero_mean(_warped(image, motion).ravel(), mask)
            gain = _gain(warped, reference)
            x, y, *turn = (inverse @ (gradients @ (gain * warped - reference))).tolist()
            around = turn[0] if turn else 0.0
            motion = motion.after_inverse(x, y, around / self._radius)
            if max(abs(x), abs(y), abs(around)) < self._still:
                break
        return motion, self._fit(image, motion)

    def share(self, motion: _Motion) -> float:
        """Share of the variance of the reference that lies within the image."""
        seen = _zero_mean(self._reference, self._seen(motion))
        return float(seen @ seen) / self._power if self._power > 0 else 0.0

    def _fit(self, image: Float32Array, motion: _Motion) -> float:
        mask = self._seen(motion)
        if mask.mean() < _LEAST_SEEN:
            return -1.0
        warped, seen = (
            _zero_mean(values, mask) for values in (_warped(image, motion).ravel(), self._reference)
        )
        power = float(warped @ warped) * float(seen @ seen)
        return min(float(warped @ seen) / math.sqrt(power), 1.0) if power > 1e-12 else 0.0

    def _seen(self, motion: _Motion) -> Float32Array:
        """1 where a pixel of the reference lies within the image, else 0."""
        return _warped(self._ones, motion, outside=0.0).ravel()


def _gain(image: Float32Array, reference: Float32Array) -> float:
    """Factor that brings an image to the contrast of the reference."""
    power, product = float(image @ image), float(image @ reference)
    if product > 0:
        return product / power
    return math.sqrt(float(reference @ reference) / power) if power > 0 else 1.0


def _zero_mean(values: Float32Array, mask: Float32Array) -> Float32Array:
    centred: Float32Array = (values - (values @ mask) / mask.sum()) * mask
    return centred


def _warped(image: Float32Array, motion: _Motion, *, outside: float | None = None) -> Float32Array:
    """An image as the reference would have it; the nearest pixels, or a value, where unseen."""
    height, width = image.shape
    border = cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT
    flags = (cv2.INTER_LINEAR if outside is None else cv2.INTER_NEAREST) | cv2.WARP_INVERSE_MAP
    matrix = motion.matrix(image.shape)
    return np.asarray(
        cv2.warpAffine(
            image, matrix, (width, height), flags=flags, borderMode=border, borderValue=outside or 0
        )
    )


def _polar_spectrum(image: Float32Array) -> NDArray[np.complex64]:
    """Spectrum over directions in half a turn, transformed along them: (129, radii)."""
    window = _hann(image.shape)
    faded = (image - (image * window).sum() / window.sum()) * window
    side = _FINE
    square = np.zeros((side, side), np.float32)
    square[: image.shape[0], : image.shape[1]] = faded
    real, imaginary = cv2.split(cv2.dft(square, flags=cv2.DFT_COMPLEX_OUTPUT))
    shown = np.fft.fftshift(cv2.log(1 + cv2.magnitude(real, imaginary)))
    middle, radius = side / 2, side // 2
    polar = cv2.warpPolar(shown, (radius, 2 * _ANGLES), (middle, middle), radius, cv2.INTER_LINEAR)[
        :_ANGLES, _INNERMOST:
    ]
    return np.asarray(np.fft.rfft(polar - polar.mean(axis=0), axis=0))


def _shrunk(image: Float32Array, longer: int) -> Float32Array:
    """An image whose longer side has at most so many pixels."""
    height, width = image.shape
    factor = longer / max(height, width)
    if factor >= 1:
        return image
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _blurred(image: Float32Array) -> Float32Array:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), _BLUR))


def _hann(shape: tuple[int, ...]) -> Float32Array:
    """Window that fades to 0 just outside the border."""
    rows, columns = (np.hanning(length + 2)[1:-1] for length in shape)
    return np.outer(rows, columns).astype(np.float32)


def _padded(shape: tuple[int, ...]) -> tuple[int, int]:
    """Size at which no shift wraps around."""
    return cv2.getOptimalDFTSize(2 * shape[0]), cv2.getOptimalDFTSize(2 * shape[1])


def _signed(place: int, length: int) -> int:
    return place - length if place > length // 2 else place


def _centre(size: tuple[int, ...]) -> Float64Array:
    """Middle of an image (H, W) as (x, y)."""
    return np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])


def _rotation(angle: float) -> Float64Array:
    """Matrix of a turn, in radians; clockwise as seen, since y points down."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]])

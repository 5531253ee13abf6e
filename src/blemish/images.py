"""From an image file (or an array) to RGB; what cannot be read in full is refused.

PNG, JPEG, BMP, TIFF and WebP are recognised by their first bytes, not by their names.

What happens to what:

* 8 bits or fewer per sample become uint8; deeper data become float32 in 0..1, scaled by the
  depth the file declares (sBIT in PNG; BitsPerSample and MaxSampleValue in TIFF), else by the full
  depth of the container, or by the `value_range` the caller states. No value is ever cut off.
* Gray is repeated for three channels; palettes are looked up; CMYK becomes RGB.
* Transparent pixels are laid over black.
* EXIF orientation is applied. Colour profiles are not.
* A file that holds several images (animation, pages) is an error. ``clip.avi/000123`` is a frame.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import BoolArray, Float32Array, UInt8Array
from blemish.errors import DatasetError, ImageError, InputError, ShapeError
from blemish.image_formats import Header, Pixels, bmp, jpeg, over_black, png, tiff, webp
from blemish.videos import decoded_frame, frame_of, frame_size

DEFAULT_MAX_PIXELS = 100_000_000
"""Images that declare more pixels are refused: 100 megapixels, a 10,000 x 10,000 image."""

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

_AS_RANGE = "--value-range LOW,HIGH of blemish fit, or value_range=(low, high) in Python"
_TOO_LARGE = "Use a smaller image, or read it in Python: read_image(path, max_pixels=...)."
_BYTES_PER_PIXEL, _METADATA_BYTES = 32, 64 * 1024 * 1024
_PILLOW_MODES = ("L", "RGB", "RGBA", "I;16", "F")

_FORMATS: tuple[
    tuple[tuple[bytes, ...], Callable[[bytes], Header], Callable[[bytes], Pixels]], ...
] = (
    ((png.SIGNATURE,), png.read_header, png.decode),
    ((jpeg.SIGNATURE,), jpeg.read_header, jpeg.decode),
    ((bmp.SIGNATURE,), bmp.read_header, bmp.decode),
    (tiff.SIGNATURES, tiff.read_header, tiff.decode),
    ((webp.SIGNATURE,), webp.read_header, webp.decode),
)


def read_image(
    path: Path,
    *,
    value_range: tuple[float, float] | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> UInt8Array | Float32Array:
    """Read an image file as RGB.

    Parameters
    ----------
    path : Path
    value_range : (low, high), optional
        The stored values that mean black and white, for files of more than 8 bits per sample:
        ``(0, 4095)`` for a 12-bit camera whose files do not say so. Needed for float, signed and
        32-bit samples, which declare no depth.
    max_pixels : int, default 100 million
        Files that declare more are refused before anything is decoded.

    Returns
    -------
    uint8 (H, W, 3) in 0..255, or float32 (H, W, 3) in 0..1
        uint8 if the file has at most 8 bits per sample, float32 if it has more.

    Raises
    ------
    ImageError
        The file is missing, unreadable, not an image, truncated, damaged, too large or of
        several pages; its depth is unknown; or a value lies outside `value_range`.
    """
    if frame_of(path) is not None:
        return decoded_frame(path).read(value_range=value_range)
    _, pixels = _read(path, max_pixels)
    try:
        return _to_rgb(pixels, value_range)
    except InputError as error:
        raise _unreadable(path, error) from error


def read_mask(path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> BoolArray:
    """Read a ground-truth mask.

    Parameters
    ----------
    path : Path
        An image of any kind `read_image` reads.
    max_pixels : int, default 100 million

    Returns
    -------
    bool (H, W)
        True where the defect is: where the image is not black. Lossy compression (JPEG, lossy
        WebP) turns black into nearly black, so there it is where a channel reaches half of white.

    Raises
    ------
    ImageError
        As in `read_image`.
    """
    header, pixels = _read(path, max_pixels)
    lowest = 128 if header.lossy else 1
    brightness = pixels.samples if pixels.samples.ndim == 2 else pixels.samples.max(axis=-1)
    is_defect: BoolArray = brightness >= lowest if pixels.white is not None else brightness != 0
    return is_defect


def image_size(path: Path) -> tuple[int, int]:
    """Height and width in pixels, EXIF orientation applied; no pixel is decoded.

    Raises
    ------
    ImageError
        The file is missing, unreadable or not an image, or its header is damaged.
    """
    if frame_of(path) is not None:
        return frame_size(path)
    header = _open(path, None)[0]
    sides = (header.height, header.width)
    return sides if header.orientation <= 4 else sides[::-1]


def list_images(folder: Path) -> tuple[list[Path], int]:
    """List the image files in a folder and all folders below it; none is opened.

    A file is an image if its suffix is one of `SUFFIXES`, in upper or lower case, and its name
    does not start with a dot.

    Returns
    -------
    images : list of Path
        Sorted.
    others : int
        How many files are no images (hidden ones and the like of Thumbs.db included).

    Raises
    ------
    DatasetError
        The folder, or one below it, is missing or cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise DatasetError(
            f"{error.filename} must be a folder that can be listed, but the system says: "
            f"{error.strerror}. Check the path and its permissions."
        ) from error

    images, others = [], 0
    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if not _leads_back(Path(place, name), folder)]
        found = [n for n in files if not n.startswith(".") and n.lower().endswith(SUFFIXES)]
        images += [Path(place, name) for name in found]
        others += len(files) - len(found)
    return sorted(images), others


def to_rgb(
    image: object, *, value_range: tuple[float, float] | None = None
) -> UInt8Array | Float32Array:
    """Bring an image that is already in memory into the form `read_image` returns.

    Parameters
    ----------
    image : uint8, uint16 or float (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)
        Gray, RGB or RGB with alpha (laid over black). Floats are in 0..1, or in `value_range`.
        See `as_array` for what may stand for an array.
    value_range : (low, high), optional
        The values that mean black and white in uint16 and float arrays; otherwise 0 and 65535, and
        0 and 1.

    Returns
    -------
    uint8 (H, W, 3) in 0..255, or float32 (H, W, 3) in 0..1

    Raises
    ------
    ShapeError
        `image` has none of these shapes, or no pixels.
    InputError
        `image` is no array or of another type, or has values that are not finite or out of range.

    Examples
    --------
    >>> to_rgb(np.array([[0, 65535]], np.uint16))
    array([[[0., 0., 0.],
            [1., 1., 1.]]], dtype=float32)
    """
    array = as_array(image)
    is_float = array.dtype.kind == "f"
    if array.dtype not in (np.uint8, np.uint16) and not is_float:
        raise InputError(
            f"An image array must be uint8, uint16 or float, but is {array.dtype}. "
            "Convert it so that its black and white are known."
        )
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or array.size == 0:
        raise ShapeError.of(
            "An image array",
            "(H, W), (H, W, 1), (H, W, 3) or (H, W, 4)",
            array.shape,
            "Is it a batch, or are its channels first?",
        )
    white = 1 if is_float else int(np.iinfo(array.dtype).max)
    samples = array[..., 0] if array.ndim == 3 and channels == 1 else array[..., :3]
    if array.ndim == 2:
        samples = array
    if channels == 4:
        samples = over_black(samples, array[..., 3], white)
    if is_float and value_range is None:
        value_range = (0.0, 1.0)
    return _to_rgb(Pixels(samples, white), value_range)


def as_array(image: object) -> NDArray[Any]:
    """Take an array, or an object that holds one, such as an image of Pillow.

    Pillow's EXIF orientation is not applied; `read_image` applies it.

    Raises
    ------
    InputError
        `image` is something else, a list for example, or cannot be decoded.

    Examples
    --------
    >>> as_array([[0, 255]])
    Traceback (most recent call last):
    blemish.errors.InputError: An image must be a path or an array, but is a list. Give one image: \
its file, or its pixels as uint8, uint16 or float.
    """
    if isinstance(image, np.ndarray):
        return image
    if not hasattr(type(image), "__array_interface__"):
        kind = type(image).__name__
        found = "None" if image is None else f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
        raise InputError(
            f"An image must be a path or an array, but is {found}. "
            "Give one image: its file, or its pixels as uint8, uint16 or float."
        )
    mode = getattr(image, "mode", _PILLOW_MODES[0])
    if mode not in _PILLOW_MODES:
        raise InputError(
            f"An image of Pillow must have one of the modes {', '.join(_PILLOW_MODES)}, "
            f'but has {mode}. Call its convert("RGB").'
        )
    try:
        return np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow decodes now
        raise InputError(
            f"An image must have pixels to give, but its decoder says: {error}. "
            "Replace its file, or take it out."
        ) from error


def _read(path: Path, max_pixels: int) -> tuple[Header, Pixels]:
    """Header and upright pixels of a file."""
    header, decode, content = _open(path, max_pixels)
    try:
        pixels = decode(content)
    except ImageError as error:
        raise _unreadable(path, error) from error
    if pixels.samples.shape[:2] != (header.height, header.width):
        raise _unreadable(
            path,
            f"it must hold {header.height}x{header.width} pixels, as it declares, but holds "
            f"{pixels.samples.shape[0]}x{pixels.samples.shape[1]}. The file is damaged.",
        )
    return header, Pixels(_turn_upright(pixels.samples, header.orientation), pixels.white)


def _open(path: Path, max_pixels: int | None) -> tuple[Header, Callable[[bytes], Pixels], bytes]:
    """Header, decoder and content of a file whose declared size is within the limit."""
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise _unreadable(path, f"it must be a file, but is {kind}. Name an image file.")
        _check_length(path, DEFAULT_MAX_PIXELS if max_pixels is None else max_pixels)
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(
            path,
            f"the system says: {error.strerror or error}. Check the path and its permissions.",
        ) from error
    for signatures, read_header, decode in _FORMATS:
        if content.startswith(signatures):
            try:
                header = read_header(content)
            except ImageError as error:
                raise _unreadable(path, error) from error
            _check_size(path, header, max_pixels)
            return header, decode, content
    found = f"starts with {content[:8]!r}" if content else "is empty"
    raise _unreadable(
        path,
        f"it must be a PNG, JPEG, BMP, TIFF or WebP image, but {found}. "
        "Replace the file, or take it out.",
    )


def _check_length(path: Path, max_pixels: int) -> None:
    """Refuse a file longer than any image in the limit, before it fills the memory."""
    longest = _BYTES_PER_PIXEL * max_pixels + _METADATA_BYTES
    if path.exists() and (length := path.stat().st_size) > longest:
        raise _unreadable(
            path,
            f"an image of at most {max_pixels} pixels must have at most {longest} bytes, but the "
            f"file has {length}. {_TOO_LARGE}",
        )


def _check_size(path: Path, header: Header, max_pixels: int | None) -> None:
    if header.height < 1 or header.width < 1:
        raise _unreadable(
            path,
            f"its height and width must be at least 1, but are {header.height} and "
            f"{header.width}. The file is damaged.",
        )
    if max_pixels is not None and header.height * header.width > max_pixels:
        raise _unreadable(
            path,
            f"it must have at most {max_pixels} pixels, but declares "
            f"{header.height}x{header.width}. {_TOO_LARGE}",
        )


def _unreadable(path: Path, reason: object) -> ImageError:
    return ImageError(f"{path} cannot be read: {reason}")


def _turn_upright(samples: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo an EXIF orientation: 5 to 8 are stored with rows and columns exchanged."""
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)


def _to_rgb(pixels: Pixels, value_range: tuple[float, float] | None) -> UInt8Array | Float32Array:
    """Scale samples to full brightness and repeat gray for three channels."""
    samples = pixels.samples
    if samples.dtype == np.uint8 and pixels.white == 255:
        if value_range is not None:
            raise InputError(
                "images must have more than 8 bits per sample, since the model or the call states "
                "a range of values, but this one has 8. Give a deep image, or leave the range out."
            )
    else:
        samples = _scale(samples, pixels.white, value_range)
    if samples.ndim == 2:
        return np.repeat(samples[..., None], 3, axis=-1)
    return np.ascontiguousarray(samples)


def _scale(
    samples: NDArray[Any], white: int | None, value_range: tuple[float, float] | None
) -> Float32Array:
    """Map black to 0 and white to 1, and refuse values beyond them."""
    if value_range is None:
        if white is None:
            raise InputError(
                f"{samples.dtype} samples need a stated range of values, but none is given. "
                f"State the values that mean black and white: {_AS_RANGE}."
            )
        value_range = (0, white)
    low, high = (float(value) for value in value_range)
    if not (np.isfinite([low, high]).all() and low < high):
        raise InputError(f"value_range must be (low, high) with low < high, but is {value_range}.")
    lowest, highest = float(samples.min()), float(samples.max())
    if not (low <= lowest and highest <= high):  # NaN compares false
        raise InputError(
            f"values must lie in {low:g} to {high:g}, but reach from {lowest:g} to {highest:g}. "
            f"State the range of values the camera can give: {_AS_RANGE}."
        )
    wide = np.float32 if samples.dtype.itemsize <= 2 else np.float64
    scaled = (samples.astype(wide) - wide(low)) / wide(high - low)
    narrow: Float32Array = scaled.astype(np.float32, copy=False)
    return narrow


def _leads_back(place: Path, folder: Path) -> bool:
    """Whether `place` is a link to a folder on the way from `folder` to it: an endless circle."""
    if not place.is_symlink():
        return False
    way = [parent.resolve() for parent in place.parents if parent.is_relative_to(folder)]
    return place.resolve() in way

"""Array types, and the shape letters used in every file of this package.

N images, C channels of a feature map, D embedding dimensions, H x W image size in pixels,
h x w grid size in positions, P = h * w positions. Images are RGB; grids and images are row-major.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]
Float32Array = NDArray[np.float32]
Float16Array = NDArray[np.float16]
FloatArray = NDArray[np.floating]
UInt8Array = NDArray[np.uint8]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

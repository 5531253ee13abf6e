"""Every exception this package raises on purpose.

    BlemishError
    ├── InputError          the caller gave something unusable
    │   ├── ShapeError          an array of the wrong shape
    │   ├── ImageError          a file that is not an image we can read in full
    │   ├── AlignmentError      a part that cannot be brought to where it should be
    │   ├── DatasetError        a folder that does not follow its layout
    │   ├── BackboneError       a network or its weights cannot be used
    │   └── ModelFileError      a file that is not a model this version can load
    ├── NotFittedError      the object has not seen enough images yet
    ├── CameraError         a camera cannot be reached, or no longer
    ├── OutputError         a result could not be written
    └── ResourceError       the machine has not enough memory or disk for the job

Anything else that escapes is a bug in this package.

    BlemishWarning          the result stands, but the user should know something
    ├── FewImagesWarning        the covariance rests on fewer images than dimensions
    ├── OtherShapeWarning       images of several shapes are stretched to one
    ├── ShiftedImagesWarning    labelled good images look unlike those learned from
    └── UnreachableThresholdWarning     a bounded score cannot reach the threshold
"""

from __future__ import annotations


class BlemishError(Exception):
    """Base class: `except BlemishError` catches all of the above and nothing else.

    Every class here takes one argument, the message: an exception with more
    could not be unpickled, and so could not leave a worker process.
    """


class InputError(BlemishError, ValueError):
    """The caller gave something unusable."""


class ShapeError(InputError):
    """An array of the wrong shape."""

    @classmethod
    def of(cls, name: str, expected: str, got: tuple[int, ...], hint: str) -> ShapeError:
        """Say what shape `name` must have, what it has, and what to do about it."""
        return cls(f"{name} must have shape {expected}, but has shape {got}. {hint}")


class ImageError(InputError):
    """A file that is not an image or video, or not one that can be read in full."""


class AlignmentError(InputError):
    """A part that cannot be brought to where it should be, since it looks too different."""


class DatasetError(InputError):
    """A folder that does not follow its layout."""


class BackboneError(InputError):
    """A network, or its weights, cannot be used."""


class ModelFileError(InputError):
    """A file that is not a model, is damaged, or was written by a newer version."""


class NotFittedError(BlemishError):
    """The object has not seen enough images yet."""


class CameraError(BlemishError):
    """A camera cannot be reached, or no longer."""


class OutputError(BlemishError):
    """A result could not be written; what was there before is untouched."""


class ResourceError(BlemishError):
    """The machine has not enough memory or disk for the job."""


class BlemishWarning(UserWarning):
    """The result stands, but the user should know something; the command line shows one line."""


class FewImagesWarning(BlemishWarning):
    """The covariance rests on fewer images than it has dimensions."""


class OtherShapeWarning(BlemishWarning):
    """Images of several shapes are stretched to one."""


class ShiftedImagesWarning(BlemishWarning):
    """Labelled good images look unlike those that were learned from."""


class UnreachableThresholdWarning(BlemishWarning):
    """A bounded score cannot reach the threshold, so the model never raises an alarm."""

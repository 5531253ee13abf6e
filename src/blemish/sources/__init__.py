"""Where images come from: lists of files, folders being filled, videos and cameras.

    ImageList(images, names=None)                       files that are there
    VideoSource(path, every=1, name=None)               a video file
    FolderSource(folder, idle_timeout=None, poll=0.2, value_range=None, leave_out=None)
                                                        a folder that is being filled
    CameraSource(address, every=1, reconnects=10)       a USB camera (0) or rtsp://... , http://...
    SourceChain(sources)                                one after another

Each takes ``stop=threading.Event()`` and has `stop()`, `counts` (given, dropped, reconnects),
`is_live` and `length`. Iterating gives `Frame`: name, image (for `loading.load_input`), time, path.
`inspection.inspect_source` judges the frames of any of them.
"""

from blemish.sources.camera import (
    DEFAULT_RECONNECTS,
    CameraSource,
    is_camera_address,
    without_credentials,
)
from blemish.sources.finite import ImageList, SourceChain, VideoSource
from blemish.sources.folder import FolderSource
from blemish.sources.source import Frame, ImageSource, SourceCounts

__all__ = [
    "DEFAULT_RECONNECTS",
    "CameraSource",
    "FolderSource",
    "Frame",
    "ImageList",
    "ImageSource",
    "SourceChain",
    "SourceCounts",
    "VideoSource",
    "is_camera_address",
    "without_credentials",
]

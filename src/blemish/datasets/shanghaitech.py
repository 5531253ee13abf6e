"""Reads ShanghaiTech Campus: 13 scenes filmed by fixed cameras.

<root>/training/videos/<scene>_<clip>.avi          as published, or extracted:
<root>/training/frames/<scene>_<clip>/000.jpg
<root>/testing/frames/<scene>_<clip>/000.jpg
<root>/testing/test_frame_mask/<scene>_<clip>.npy  (frames,), not 0 where a frame is anomalous
<root>/testing/test_pixel_mask/<scene>_<clip>.npy  (frames, H, W), not 0 where the anomaly is

A scene ("01" ... "13") is a category here: a model of positions fits one camera only. Scene 13
has no test clips. Each frame of a clip belongs to the mask of its number, counted from 0. The
frame masks are opened, since nothing else says which frames are anomalous, and the training videos
of the scene are decoded to count their frames. The defect is "anomaly" throughout. Luo et al.,
ICCV 2017.
"""

from __future__ import annotations

from pathlib import Path

from blemish.datasets.category import choose_category
from blemish.datasets.listing import entries, folders_in, found_in, images_in, names
from blemish.datasets.masks import load_stack
from blemish.datasets.sample import ANOMALOUS, NORMAL, TRAIN, Sample, check_split
from blemish.errors import DatasetError
from blemish.videos import is_video, video_frames

FOLDERS = {"train": "training", "test": "testing"}


def is_shanghaitech_layout(root: Path) -> bool:
    """Whether `root` holds ``training`` and ``testing``, one of them with frames or videos."""
    both = all((root / folder).is_dir() for folder in FOLDERS.values())
    return both and ((root / "testing" / "frames").is_dir() or _clips(root / "training") != [])


def shanghaitech_scenes(root: Path) -> list[str]:
    """Scenes that have clips in either split, sorted."""
    clips = [clip for folder in FOLDERS.values() for clip in _clips(root / folder)]
    return sorted({_scene(clip) for clip in clips})


def read_shanghaitech(root: Path, *, split: str, category: str | None = None) -> list[Sample]:
    """List one split of one scene, sorted by clip and then by frame.

    Parameters
    ----------
    root : Path
        Folder that holds ``training`` and ``testing``.
    split : "train" or "test"
    category : str or None
        The scene, "01" for example. May be left out if there is only one.

    Raises
    ------
    DatasetError
        The tree is another, or masks are missing or do not fit the frames.
    ImageError
        A training video of the scene is damaged.
    """
    check_split(split)
    top = root / FOLDERS[split]
    scenes = shanghaitech_scenes(root)
    scene = choose_category(root, category, scenes) if scenes else None
    samples: list[Sample] = []
    for clip in _clips(top):
        if _scene(clip) == scene:
            samples += _train_clip(clip) if split == TRAIN else _test_clip(clip, top)
    if not samples:
        raise DatasetError(
            f"{top / 'frames'} must hold clips of frames as {scene or '<scene>'}_001/000.jpg, "
            f"but {found_in(top / 'frames')}. Restore them, or choose another scene or folder."
        )
    return samples


def _clips(top: Path) -> list[Path]:
    """Folders of frames, and videos whose frames are not extracted, sorted by name."""
    folders = folders_in(top / "frames")
    extracted = {folder.name for folder in folders}
    videos = [file for file in entries(top / "videos") if is_video(file)]
    return sorted(
        [*folders, *(video for video in videos if video.stem not in extracted)],
        key=_name,
    )


def _name(clip: Path) -> str:
    return clip.name if clip.is_dir() else clip.stem


def _scene(clip: Path) -> str:
    return clip.name.split("_")[0]


def _train_clip(clip: Path) -> list[Sample]:
    frames = images_in(clip) if clip.is_dir() else video_frames(clip)
    return [Sample(frame, NORMAL, category=_scene(clip), clip=_name(clip)) for frame in frames]


def _test_clip(clip: Path, top: Path) -> list[Sample]:
    frame_file, pixel_file = (
        top / kind / f"{_name(clip)}.npy" for kind in ("test_frame_mask", "test_pixel_mask")
    )
    for file in (frame_file, pixel_file):
        if not file.is_file():
            raise DatasetError(
                f"The test clip {clip} must have masks, but {file} is missing. "
                "Restore it, or take the clip out of the dataset."
            )
    is_anomalous = load_stack(frame_file, ndim=1) != 0
    frames = _frames_by_number(clip)
    counts = {len(is_anomalous), len(load_stack(pixel_file, ndim=3)), len(frames)}
    if len(counts) > 1 or sorted(frames) != list(range(len(frames))):
        raise DatasetError(
            f"The frames of {clip} must be numbered from 0 and each have its masks, but "
            f"{_numbering(frames)}, {frame_file} has {len(is_anomalous)} and "
            f"{pixel_file} has {len(load_stack(pixel_file, ndim=3))}. "
            "Download the clip and its masks again."
        )
    scene = _scene(clip)
    return [
        Sample(image, ANOMALOUS, pixel_file, mask_frame=number, category=scene, clip=_name(clip))
        if is_anomalous[number]
        else Sample(image, NORMAL, category=scene, clip=_name(clip))
        for number, image in sorted(frames.items())
    ]


def _frames_by_number(clip: Path) -> dict[int, Path]:
    if not clip.is_dir():
        return dict(enumerate(video_frames(clip)))
    images = images_in(clip)
    odd = [image.name for image in images if not image.stem.isdecimal()]
    if odd:
        raise DatasetError(
            f"The frames of {clip} must be named by their number as 000.jpg, "
            f"but there are: {names(odd)}. Rename or remove them."
        )
    return {int(image.stem): image for image in images}


def _numbering(frames: dict[int, Path]) -> str:
    if not frames:
        return "there are no frames"
    return f"there are {len(frames)} frames from {min(frames)} to {max(frames)}"

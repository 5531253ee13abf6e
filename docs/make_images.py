"""Makes the pictures of the README and the guide again, from generated images only.

python docs/make_images.py [WORK_FOLDER]

WORK_FOLDER (default: a temporary one) keeps the two demos that the pictures come from. The picture
of the report needs Chromium; without it that one picture is left as it is.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import blemish
from blemish.arrays import UInt8Array
from blemish.images import read_image
from blemish.results import colour_scale
from blemish.visuals import displayable, heat_map, resized

IMAGES = Path(__file__).parent / "images"
PANELS = {"plate": "scratch/000.png", "fabric": "snag/000.png"}
SCALE_EXAMPLES = ("scratch/000.png", "missing_part/000.png")
QUALITY = 88
GAP = 12
HEADER = 22


def make_all(work: Path) -> None:
    """Run both demos in `work` and write every picture."""
    IMAGES.mkdir(exist_ok=True)
    for product, name in PANELS.items():
        demo = ("demo", "--product", product, "--out", str(work), "--no-open", "--quiet")
        subprocess.run([sys.executable, "-m", "blemish", *demo], check=True)
        panel = Image.open(work / f"{product}-results" / "five-panel" / name)
        _write(panel, f"{product}-five-panel.jpg")
    _write(which_scale(work / "plate.blemish", work / "plate" / "test"), "which-scale.jpg")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is not None:
        _write(_screenshot(chromium, work / "plate-results" / "report.html"), "report.jpg")


def which_scale(model_file: Path, test: Path) -> Image.Image:
    """Draw, for two defects, the image, the map, and the map of every level."""
    model = blemish.load(model_file)
    scale = colour_scale(model)
    rows: list[list[UInt8Array]] = []
    names: list[str] = []
    for name in SCALE_EXAMPLES:
        score = model.score(test / name)
        levels = model.level_maps(score)
        names = ["image", "anomaly map", *levels]
        pixels = resized(displayable(read_image(test / name)), model.size)
        rows.append([pixels, *(heat_map(m, scale) for m in (score.anomaly_map, *levels.values()))])
    return _table(names, rows)


def _table(names: list[str], rows: list[list[UInt8Array]]) -> Image.Image:
    height, width = rows[0][0].shape[:2]
    size = (
        len(names) * (width + GAP) + GAP,
        len(rows) * (height + GAP) + HEADER + GAP // 2,
    )
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for column, name in enumerate(names):
        left = GAP + column * (width + GAP)
        draw.text((left, 4), name, fill=(70, 70, 70), font_size=14)
        for row, pictures in enumerate(rows):
            picture = np.ascontiguousarray(pictures[column])
            canvas.paste(Image.fromarray(picture), (left, HEADER + row * (height + GAP)))
    return canvas


def _screenshot(chromium: str, page: Path) -> Image.Image:
    """Take a picture of the top of a report."""
    flags = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --disable-quic --window-size=1280,900"
    )
    with tempfile.TemporaryDirectory() as profile:
        picture = Path(profile) / "report.png"
        command = [chromium, *flags.split(), f"--user-data-dir={profile}"]
        target = [f"--screenshot={picture}", page.resolve().as_uri()]
        subprocess.run([*command, *target], check=True, capture_output=True)
        return Image.open(picture).convert("RGB")


def _write(picture: Image.Image, name: str) -> None:
    picture.convert("RGB").save(IMAGES / name, quality=QUALITY, optimize=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        make_all(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            make_all(Path(folder))

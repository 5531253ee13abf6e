"""A model -> a folder that another program can use, checked against the model.

Read from the top: `export_model` is the whole way in order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from blemish.arrays import Float32Array, Float64Array
from blemish.datasets import Sample
from blemish.engines.engine import EngineSettings
from blemish.errors import InputError, OutputError
from blemish.export.description import describe, example
from blemish.export.exported import Export, load_export
from blemish.export.folder import DESCRIPTION_FILE, EXAMPLE_FILE, check_folder, written_whole
from blemish.export.int8 import quantise
from blemish.export.onnx import export_graph, halve_constants, write_onnx
from blemish.export.onnxruntime_import import import_onnxruntime
from blemish.export.openvino import write_openvino
from blemish.export.parity import LIMITS, Comparison
from blemish.export.ranking import Batches, Ranking, rank_synthetic_defects, rank_test_images
from blemish.export.report import ExportReport, write_report
from blemish.export.synthetic import made_up_images
from blemish.loading import ImageLike, load_batches
from blemish.model import Model, Progress
from blemish.writing import write_bytes

TARGETS = ("onnx", "openvino")
PRECISIONS = tuple(LIMITS)
AUROC_DROP = 0.005
"""Half a point: below what another choice of training images changes, see decision 0010."""

LEAST_IMAGES, MOST_IMAGES = 3, 100
_MADE_UP = 16
_BATCH = 8


def export_model(
    model: Model,
    folder: Path | str,
    *,
    target: str = "onnx",
    precision: str = "fp32",
    images: Sequence[ImageLike] | None = None,
    test: Sequence[Sample] | None = None,
    made_up: bool = False,
    auroc_drop: float = AUROC_DROP,
    seed: int = 0,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a model as a folder for another runtime, and make sure that it says the same.

    Parameters
    ----------
    model : Model
    folder : Path
        Made, or replaced if it is an older export. Written whole or not at all.
    target : {"onnx", "openvino"}, default "onnx"
    precision : {"fp32", "fp16", "int8"}, default "fp32"
        fp16 stores constants in 16 bits and computes in 32. int8 computes the backbone's
        convolutions in 8 bits (and stores the rest in 16), and needs ONNX Runtime.
    images : sequence of files or arrays, optional
        Good images, at least 3, for the comparison and for int8; of more than 100, 100 evenly
        spread ones are taken.
    test : sequence of Sample, optional
        Labelled images, good and defective: compared as well, and their AUROC must not drop.
    made_up : bool, default False
        Compare on made-up images for want of `images` and `test`. Not for int8.
    auroc_drop : float >= 0, default 0.005
        By how much the AUROC may drop: on `test`, else, for int8, on synthetic defects.
    seed : int, default 0
        Of made-up images and synthetic defects.
    progress : function, optional

    Returns
    -------
    ExportReport
        Also written as `parity.json` and `parity.md`.

    Raises
    ------
    InputError
        The settings do not fit together, or images are missing or cannot be used; the model has
        no graph; int8 without ONNX Runtime.
    OutputError
        The export says other than the model; or the folder cannot be written. Nothing is left.
    """
    _check(target, precision, auroc_drop)
    _check_not_aligned(model)
    check_folder(Path(folder))
    _check_images(images, test, precision, made_up)
    if precision == "int8":
        import_onnxruntime()  # missing: say so before any work
    model = Model(model.fitted, EngineSettings(precision="f32"))
    batches = _batches(model, images, seed)
    with written_whole(Path(folder)) as place:
        names, cannot = _write_graph(model, place, target, precision, batches)
        about = describe(model, place, names, target=target, precision=precision)
        write_bytes(place / DESCRIPTION_FILE, (json.dumps(about, indent=2) + "\n").encode())
        write_bytes(place / EXAMPLE_FILE, example(model, target).encode())
        found = load_export(place)
        only_made_up = images is None and test is None
        check = _Check(model, found, precision, made_up=only_made_up, progress=progress)
        if images is not None or only_made_up:
            check.compare(batches, _MADE_UP if images is None else len(_spread(images)))
        ranking = None
        if test is not None:
            ranking = check.rank_test(test, auroc_drop)
        elif precision == "int8":
            ranking = check.rank_synthetic(batches, auroc_drop, seed)
        report = ExportReport(
            target=target,
            precision=precision,
            sizes={name: (place / name).stat().st_size for name in names},
            runtime=found.runtime,
            whole_constants=len(cannot),
            parity=check.comparison.result(),
            ranking=ranking,
        )
        if report.failures:
            raise OutputError(
                f"The export must say what the model says, but {'; '.join(report.failures)}. "
                f"Nothing was written. {_advice(precision)}"
            )
        write_report(report, place)
    return report


class _Check:
    """Runs a model and its export on the same images."""

    def __init__(
        self,
        model: Model,
        export: Export,
        precision: str,
        *,
        made_up: bool,
        progress: Progress | None,
    ) -> None:
        self._model, self._export, self._progress = model, export, progress
        self.comparison = Comparison(model, LIMITS[precision], made_up=made_up)

    def compare(self, batches: Batches, count: int) -> None:
        done = 0
        for batch in batches():
            self._tell("comparison", done, count)
            self.comparison.add(self._model.score_inputs(batch), self._export.score_inputs(batch))
            done += len(batch)
        self._tell("comparison", done, count)

    def rank_test(self, samples: Sequence[Sample], most_drop: float) -> Ranking:
        scores: tuple[list[float], list[float]] = ([], [])
        paths = [sample.image for sample in samples]
        for batch in _read(self._model, paths):
            self._tell("test images", len(scores[0]), len(paths))
            both = self._model.score_inputs(batch), self._export.score_inputs(batch)
            self.comparison.add(*both)
            for gathered, found in zip(scores, both, strict=True):
                gathered.extend(score.image_score for score in found)
        self._tell("test images", len(paths), len(paths))
        labels = np.array([sample.is_anomalous for sample in samples])
        return rank_test_images(
            np.array(scores[0]), np.array(scores[1]), labels, most_drop=most_drop
        )

    def rank_synthetic(self, batches: Batches, most_drop: float, seed: int) -> Ranking:
        return rank_synthetic_defects(
            lambda inputs: _scores(self._model, inputs),
            lambda inputs: _scores(self._export, inputs),
            batches,
            most_drop=most_drop,
            ignored=self._model.ignored,
            seed=seed,
            progress=self._progress,
        )

    def _tell(self, stage: str, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(stage, done, total)


def _scores(scorer: Model | Export, inputs: Float32Array) -> Float64Array:
    return np.array([score.image_score for score in scorer.score_inputs(inputs)])


def _write_graph(
    model: Model, place: Path, target: str, precision: str, batches: Batches
) -> tuple[list[str], list[str]]:
    """Write the files of the graph; return their names, and what 16 bits cannot hold."""
    graph = export_graph(model)
    if precision == "int8":
        graph = quantise(graph, batches())
    cannot = halve_constants(graph) if precision != "fp32" else []
    if target == "onnx":
        return write_onnx(graph, place), cannot
    return write_openvino(graph.SerializeToString(), place), cannot


def _check(target: str, precision: str, auroc_drop: float) -> None:
    for name, value, allowed in (
        ("target", target, TARGETS),
        ("precision", precision, PRECISIONS),
    ):
        if value not in allowed:
            raise InputError(
                f"{name} must be one of {', '.join(allowed)}, but is {value!r}. Choose one."
            )
    if not 0 <= auroc_drop <= 1:
        raise InputError(
            f"auroc_drop must be between 0 and 1, but is {auroc_drop}. The default is {AUROC_DROP}."
        )


def _check_not_aligned(model: Model) -> None:
    if model.fitted.alignment is not None:
        raise InputError(
            "A model must score images as they come to be exported, but this one aligns parts "
            f"first ({model.settings.align}), which no graph does. Run it with blemish, or fit it "
            "without align."
        )


def _check_images(
    images: Sequence[ImageLike] | None,
    test: Sequence[Sample] | None,
    precision: str,
    made_up: bool,
) -> None:
    if images is None and precision == "int8":
        raise InputError(
            "INT8 needs good images to find its scales, but none were given. Give a folder of "
            "them: --images FOLDER, or images=[...] in Python."
        )
    if images is None and test is None and not made_up:
        raise InputError(
            "An export is compared with its model on good images, but none were given. Give a "
            "folder of them: --images FOLDER, or images=[...] in Python. For want of any, "
            "--made-up-images (made_up=True) compares on made-up ones."
        )
    if images is not None and len(images) < LEAST_IMAGES:
        raise InputError(
            f"An export needs at least {LEAST_IMAGES} good images, but there "
            f"{'is' if len(images) == 1 else 'are'} {len(images)}. Give more; 50 are plenty."
        )
    if test is not None:
        defective = sum(sample.is_anomalous for sample in test)
        if not 0 < defective < len(test):
            raise InputError(
                f"The test images must be good and defective ones, but of {len(test)} images "
                f"{defective} are defective. Give both kinds, or none."
            )


def _spread(images: Sequence[ImageLike]) -> Sequence[ImageLike]:
    """At most `MOST_IMAGES`, evenly spread."""
    if len(images) <= MOST_IMAGES:
        return images
    chosen = np.linspace(0, len(images) - 1, MOST_IMAGES).round().astype(int)
    return [images[k] for k in chosen]


def _batches(model: Model, images: Sequence[ImageLike] | None, seed: int) -> Batches:
    """Function that reads the images anew each time: they need not all fit into memory."""
    if images is None:
        made_up = made_up_images(_MADE_UP, model.size, seed=seed)
        return lambda: np.split(made_up, len(made_up) // _BATCH)
    chosen = _spread(images)
    return lambda: _read(model, chosen)


def _read(model: Model, images: Sequence[ImageLike]) -> Iterator[Float32Array]:
    return load_batches(
        images, model.preprocessing, batch=_BATCH, value_range=model.settings.value_range
    )


def _advice(precision: str) -> str:
    if precision == "int8":
        return "Use fp16, or more and other good images."
    if precision == "fp16":
        return "Use fp32."
    return "Please report this, with the model's `blemish info`."

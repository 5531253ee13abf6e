"""Learn a model from images of good parts. The whole algorithm in order; start reading here.

images -> preprocessing -> backbone -> embedding      what a position looks like
       -> moments -> Gaussian per position            what it looks like in good parts
       -> distance per position -> map -> image score how far an image is from that
       -> leave-one-out scores -> threshold           how far is too far
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from blemish.alignment import Alignment
from blemish.arrays import BoolArray, Float32Array
from blemish.backbones import Backbone, load_backbone
from blemish.combination import part_pyramids
from blemish.embedding import (
    Embedding,
    choose_embedding,
    constant_channels,
    layer_covariances,
    sum_layers,
)
from blemish.engines.engine import EngineSettings
from blemish.errors import InputError, UnreachableThresholdWarning
from blemish.inference import TRIED_IMAGES, feature_extractor
from blemish.input_size import check_size, full_size_for, position_mask
from blemish.loading import ImageLike
from blemish.model import Model, Progress, never_reached
from blemish.passes import learn_images
from blemish.plan import FitPlan, check_network_memory, plan_fit
from blemish.preprocessing import Preprocessing
from blemish.settings import FitSettings
from blemish.training_features import TrainingFeatures
from blemish.training_images import (
    learn_to_align,
    source_sizes,
    training_images,
    warn_of_other_shapes,
)

DEFAULT_DIMS = 100
_PROBED = 4


def fit(
    images: Path | str | Iterable[ImageLike],
    settings: FitSettings | None = None,
    *,
    backbone: Backbone | None = None,
    weights: Path | str | None = None,
    ignore_mask: BoolArray | None = None,
    reference: ImageLike | None = None,
    engine: EngineSettings | None = None,
    progress: Progress | None = None,
    on_plan: Callable[[FitPlan], None] | None = None,
) -> Model:
    """Learn what good parts look like.

    Parameters
    ----------
    images : folder, or files or arrays
        Good parts only, at least 3. Of a folder in the layout of a data set, the good training
        images are used.
    settings : FitSettings, optional
    backbone : Backbone, optional
        Instead of the one that the settings name.
    weights : Path, optional
        State dict of the backbone that the settings name.
    ignore_mask : bool (H, W), optional
        In the frame of the source images: True where positions neither score nor calibrate.
    reference : file or array, optional
        Image to align parts with, if the settings say `align`; by default the mean of the images.
    engine : EngineSettings, optional
        What runs the network, here and in the model that is returned. Precision "auto" means f32
        here: what is learned should not depend on the machine.
    progress : function, optional
    on_plan : function, optional
        Called with what the fit will take, before the images are gone through.

    Returns
    -------
    Model

    Raises
    ------
    InputError
        Too few or unusable images, settings that do not fit together.
    AlignmentError
        Images cannot be aligned; names them.
    ResourceError
        The fit would not fit into memory.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).integers(100, 120, (24, 64, 64, 3), dtype=np.uint8)
    >>> model = fit(list(noise[:20]), FitSettings(size=(64, 64), dims=(6, 6, 6)))
    >>> model.count, model.size, model.threshold().method
    (20, (64, 64), 'order-statistic')
    >>> model.score(noise[20]).anomaly_map.shape
    (64, 64)
    >>> pierced = noise[20].copy()
    >>> pierced[20:44, 20:44] = 0
    >>> model.classify(noise[20]).is_anomalous, model.classify(pierced).is_anomalous
    (False, True)
    """
    settings = FitSettings() if settings is None else settings
    if not isinstance(settings, FitSettings):
        raise InputError(
            f"settings must be FitSettings, but is a {type(settings).__name__}. "
            "Give FitSettings(dims=100), for example."
        )
    found = training_images(images)
    if backbone is None:
        path = None if weights is None else Path(weights)
        backbone = load_backbone(settings.backbone, weights=path, layers=settings.network_layers)
    else:
        settings = replace(settings, backbone=backbone.name)
    settings = settings.resolved(backbone)
    sizes = source_sizes(found)
    preprocessing = _preprocessing(settings, backbone, sizes[0])
    warn_of_other_shapes(sizes)
    check_network_memory(preprocessing.size)
    ignored = None if ignore_mask is None else _ignored(ignore_mask, preprocessing, sizes[0])
    engine = engine or EngineSettings()
    alignment = _alignment(found, settings, preprocessing, reference, ignored)
    source = TrainingFeatures(
        found,
        feature_extractor(backbone, preprocessing.size, engine),
        backbone,
        preprocessing,
        value_range=settings.value_range,
        progress=progress,
        keep=settings.keep_features,
        alignment=alignment,
    )
    with closing(source):
        embedding = _embedding(source, settings, backbone, ignored)
        plan = plan_fit(
            part_pyramids(embedding.pyramid(source.grids), separate=settings.separate),
            len(found),
            backbone=backbone,
            shared=settings.shared,
            norms=settings.shrinkage == "ledoit-wolf",
            keep=settings.keep_features,
            neighbourhood=settings.neighbourhood,
        )
        if on_plan is not None:
            on_plan(plan)
        plan.check()
        fitted = learn_images(source, embedding, backbone, settings, ignored)
        drift = Model(fitted).bf16_drift(source.some_inputs(TRIED_IMAGES))
        model = Model(replace(fitted, bf16_drift=drift), engine)
    _warn_if_never_reached(model)
    return model


def _warn_if_never_reached(model: Model) -> None:
    """A Chebyshev bound ends at its scale; a threshold beyond it would never alarm."""
    threshold = model.threshold()
    if not model.can_alarm(threshold):
        warnings.warn(never_reached(model, threshold), UnreachableThresholdWarning, stacklevel=3)


def _preprocessing(
    settings: FitSettings, backbone: Backbone, first: tuple[int, int]
) -> Preprocessing:
    windows = settings.averaging or (1,) * len(backbone.layers)
    strides = [  # averaging may halve a grid, which must then be even
        layer.stride * (2 if window == 4 else 1)
        for layer, window in zip(backbone.layers, windows, strict=True)
    ]
    if settings.preset == "paper":
        preset = Preprocessing.paper(roi=settings.roi)
    else:
        source = settings.roi[:1:-1] if settings.roi else first
        size = settings.size or full_size_for((source[0], source[1]), strides)
        preset = Preprocessing.full(size, roi=settings.roi)
    check_size(preset.size, strides)
    return replace(preset, interpolation=settings.interpolation)


def _alignment(
    images: Sequence[ImageLike],
    settings: FitSettings,
    preprocessing: Preprocessing,
    reference: ImageLike | None,
    ignored: BoolArray | None,
) -> Alignment | None:
    if settings.align == "none":
        if reference is not None:
            raise InputError(
                "A reference is what parts are aligned with, but align is none. Use align shift or "
                "rigid, or leave the reference out."
            )
        return None
    if ignored is not None:
        raise InputError(
            "An ignore mask needs parts that all lie alike, but align moves them under it. Use "
            "one of the two."
        )
    return learn_to_align(
        images, settings.align, preprocessing, reference=reference, value_range=settings.value_range
    )


def _embedding(
    source: TrainingFeatures, settings: FitSettings, backbone: Backbone, ignored: BoolArray | None
) -> Embedding:
    channels = [layer.channels for layer in backbone.layers]
    dims = settings.dims
    if dims is None and settings.reduction != "none":
        dims = min(backbone.default_dims or DEFAULT_DIMS, sum(channels))

    def reduced(maps: Sequence[Float32Array]) -> Sequence[Float32Array]:
        """What the reduction will be applied to."""
        return sum_layers(maps) if settings.layer_sums else maps

    covariances, constant = None, None
    if settings.reduction == "pca":
        covariances = layer_covariances(
            (reduced(maps) for maps in source.maps("principal components")),
            ignored=None
            if ignored is None
            else [position_mask(ignored, grid) for grid in source.grids],
        )
    elif settings.reduction in ("random", "stratified"):
        constant = constant_channels(reduced(source.probe(_PROBED)))
    return choose_embedding(
        channels,
        reduction=settings.reduction,
        dims=dims,
        seed=settings.seed,
        layer_sums=settings.layer_sums,
        averaging=settings.averaging or (),
        covariances=covariances,
        constant=constant,
    )


def _ignored(mask: BoolArray, preprocessing: Preprocessing, source: tuple[int, int]) -> BoolArray:
    if mask.shape != source:
        raise InputError(
            f"The ignore mask must have the size of the images, {source[0]}x{source[1]}, but has "
            f"{mask.shape[0]}x{mask.shape[1]}. Draw it on one of the images."
        )
    ignored = preprocessing.apply_to_mask(mask)
    if ignored.all():
        raise InputError(
            "The ignore mask must leave something to look at, but covers the whole image. "
            "White means ignored; perhaps it is inverted."
        )
    return ignored

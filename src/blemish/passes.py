"""All passes of a fit over its images, once it is known how they are embedded."""

from __future__ import annotations

from blemish.arrays import BoolArray
from blemish.backbones import Backbone
from blemish.embedding import Embedding
from blemish.fitted import Fitted
from blemish.learning import gather, learn
from blemish.rejected import fit_entry
from blemish.robust import without_outliers
from blemish.settings import FitSettings
from blemish.training_features import TrainingFeatures


def learn_images(
    source: TrainingFeatures,
    embedding: Embedding,
    backbone: Backbone,
    settings: FitSettings,
    ignored: BoolArray | None,
) -> Fitted:
    """Go through the images as often as a fit needs, in order.

    Parameters
    ----------
    source : TrainingFeatures
    embedding, backbone, settings, ignored
        As in `Fitted`; the settings resolved.
    """
    gathered = gather(
        source.levels(embedding, "moments"), embedding.pyramid(source.grids), settings, ignored
    )
    learned, rejected = None, None
    if settings.reject_outliers:
        learned, rejected = without_outliers(gathered, source, embedding, settings, ignored)
    learned = learned or learn(
        gathered,
        lambda stage: source.levels(embedding, stage),
        embedding=embedding,
        preprocessing=source.preprocessing,
        settings=settings,
        ignored=ignored,
    )
    return Fitted(
        settings=settings,
        backbone=backbone,
        preprocessing=source.preprocessing,
        embedding=embedding,
        parts=learned.parts,
        weights=learned.weights,
        calibration=learned.calibration,
        records=source.records,
        rejected=rejected,
        mean_image=source.mean_image,
        alignment=source.alignment,
        kept=source.kept,
        unusual=None if settings.keep_features else learned.unusual,
        journal=(fit_entry(source.records, rejected),),
        ignored=ignored,
    )

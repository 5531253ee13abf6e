"""Real bottles, real ResNet-18: every way to a set of images leads to the same model."""

import warnings

import numpy as np
import pytest

from blemish.datasets import read_dataset
from blemish.errors import BlemishWarning
from blemish.fitting import fit
from blemish.lifecycle.steps import calibrate, forget, merge, update
from blemish.settings import FitSettings

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("keep", [False, True])
def test_update_merge_and_forget_lead_to_one_fit(real_data, real_weights, keep):
    bottle = real_data / "mvtec" / "bottle"
    images = [sample.image for sample in read_dataset(bottle, split="train")][:60]
    probes = [sample.image for sample in read_dataset(bottle, split="test")][::12]
    settings = FitSettings(backbone="resnet18", preset="paper", dims=100, keep_features=keep)

    def fitted(some):
        return fit(some, settings, weights=real_weights)

    def scores(model):
        return np.array([model.score(probe).image_score for probe in probes])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BlemishWarning)
        a, b, both = fitted(images[:40]), fitted(images[40:]), fitted(images)
        for change, expected in (
            (update(a, images[40:]), both),
            (merge([a, b]), both),
            (forget(both, images[40:]), a),
        ):
            model = change.model
            np.testing.assert_allclose(scores(model), scores(expected), rtol=1e-6)
            assert model.calibration.approximate is not keep
            exact = model if keep else calibrate(model, images).model
            for rate in (0.05, 0.2):
                assert exact.threshold(rate).value == pytest.approx(
                    expected.threshold(rate).value, rel=1e-6
                )

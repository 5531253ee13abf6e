"""A tiny network and a tiny product, so that whole fits take milliseconds."""

import dataclasses
from contextlib import nullcontext
from functools import lru_cache
from unittest.mock import patch

import numpy as np
import onnx

from blemish import inference
from blemish.backbones import Backbone, Layer
from blemish.fitting import fit
from blemish.settings import FitSettings
from tiny_onnx import tiny_model

SIZE = (32, 24)


@lru_cache(maxsize=1)
def tiny_backbone():
    model = tiny_model(image="image", outputs=("fine", "coarse"))
    layers = (Layer("fine", 4, 2), Layer("coarse", 5, 4))
    return Backbone("tiny", model.SerializeToString(), layers, "made up", "CC0-1.0", 6)


def good_image(number, size=SIZE):
    """A bright disc on a gradient, shaded and noisy a little differently each time."""
    generator = np.random.default_rng([7, number])
    rows, columns = np.mgrid[: size[0], : size[1]]
    disc = (rows - size[0] / 2) ** 2 + (columns - size[1] / 2) ** 2 < 64
    image = 60 + rows[..., None] + 90 * disc[..., None] * np.array([1.0, 0.9, 0.7])
    image = image * generator.uniform(0.95, 1.05) + generator.normal(0, 3, (*size, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def spoiled_image(number, size=SIZE):
    """A good image with a dark spot, and its mask."""
    image = good_image(number, size).copy()
    mask = np.zeros(size, bool)
    mask[8:13, 10:15] = True
    image[mask] = 10
    return image, mask


def good_images(count, start=0):
    return [good_image(start + number) for number in range(count)]


def small_model(
    count=40, images=None, ignore_mask=None, backbone=None, tries_bf16=False, **settings
):
    """A fit in f32; trying bf16 compiles two more graphs, which takes longer than all else."""
    settings = {"size": SIZE, "sigma": 1.0, **settings}
    with nullcontext() if tries_bf16 else patch.object(inference, "has_bf16", lambda: False):
        return fit(
            good_images(count) if images is None else images,
            FitSettings(**settings),
            backbone=tiny_backbone() if backbone is None else backbone,
            ignore_mask=ignore_mask,
        )


def doubled_backbone():
    """A backbone whose coarse layer has twice the channels of the fine one, for layer sums."""
    model = onnx.load_model_from_string(tiny_backbone().onnx)
    weight = next(w for w in model.graph.initializer if w.name == "coarse.weight")
    kernel = onnx.numpy_helper.to_array(weight)
    wider = np.concatenate([kernel, kernel[:3] * np.float32(0.5)])
    weight.CopyFrom(onnx.numpy_helper.from_array(wider, "coarse.weight"))
    del model.graph.output[1].type.tensor_type.shape.dim[:]
    fine, coarse = tiny_backbone().layers
    return dataclasses.replace(
        tiny_backbone(),
        onnx=model.SerializeToString(),
        layers=(fine, dataclasses.replace(coarse, channels=8)),
    )


def model_of(settings, score="gaussian"):
    backbone = doubled_backbone() if settings.get("layer_sums") else None
    return small_model(score=score, backbone=backbone, **settings)


def inputs_of(model):
    images = [good_image(5), spoiled_image(6)[0], spoiled_image(7)[0]]
    return np.stack([model.preprocessing.apply(image) for image in images])

"""Made-up data sets and runs for the tests of the benchmark."""

from pathlib import Path

import onnx

from blemish.benchmark import METRICS
from blemish.generated import write_product
from blemish.run_log import Run
from blemish.settings import FitSettings
from tiny_onnx import tiny_model


def write_tiny_backbone(path):
    model = tiny_model()
    model.metadata_props.append(
        onnx.StringStringEntryProto(key="blemish.layers", value='["fine", "coarse"]')
    )
    path.write_bytes(model.SerializeToString())
    return path


def write_data(root, *names):
    """Small generated products as categories of one data set."""
    for seed, name in enumerate(names):
        write_product(Path(root) / name, seed=seed, train=6, good=3, defective=1, size=(64, 64))
    return Path(root)


def made_up_run(category, score, seed, *, backbone="resnet18.tv_in1k", dims=100, **metrics):
    settings = FitSettings(backbone="resnet18", preset="paper", score=score, seed=seed)
    return Run(
        identity={
            "category": category,
            "data_sha256": "00",
            "settings": settings.to_json(),
            "backbone": backbone,
            "backbone_sha256": "11",
            "versions": {"blemish": "1", "numpy": "2"},
        },
        dims=dims,
        metrics=dict.fromkeys(METRICS) | metrics,
        counts={
            "train_images": 200,
            "good_images": 20,
            "anomalous_images": 63,
            "unreadable": 0,
            "false_alarms": 1 + seed,
            "missed": 0,
        },
        fit_seconds=5.0 + seed,
        ms_per_image=20.0,
    )

"""Feature extractors: names and files to one ONNX graph with its description."""

from blemish.backbones.backbone import Backbone, Layer
from blemish.backbones.describe import BackboneInfo, describe_backbone, list_backbones
from blemish.backbones.load import backbone_names, load_backbone
from blemish.backbones.openvino_import import import_openvino

__all__ = [
    "Backbone",
    "BackboneInfo",
    "Layer",
    "backbone_names",
    "describe_backbone",
    "import_openvino",
    "list_backbones",
    "load_backbone",
]

"""Models for other runtimes: one file per target, and the check that they say the same."""

from blemish.export.exported import Export, load_export
from blemish.export.exporting import AUROC_DROP, PRECISIONS, TARGETS, export_model
from blemish.export.report import ExportReport

__all__ = [
    "AUROC_DROP",
    "PRECISIONS",
    "TARGETS",
    "Export",
    "ExportReport",
    "export_model",
    "load_export",
]

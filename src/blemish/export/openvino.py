"""A model as OpenVINO's own two files, `model.xml` and `model.bin`."""

from __future__ import annotations

from pathlib import Path

from blemish.backbones.openvino_import import import_openvino
from blemish.errors import BackboneError, OutputError

XML_FILE, BIN_FILE = "model.xml", "model.bin"


def write_openvino(onnx_graph: bytes, folder: Path) -> list[str]:
    """Convert a graph, and write it.

    Constants are stored as the graph stores them: OpenVINO's own way to 16 bits would round means,
    too, and would leave quantised models alone.

    Parameters
    ----------
    onnx_graph : bytes
    folder : Path

    Returns
    -------
    list of str
        Names of the files written.

    Raises
    ------
    BackboneError
        OpenVINO cannot read the graph.
    OutputError
        The files cannot be written.
    """
    openvino = import_openvino()
    try:
        network = openvino.Core().read_model(model=onnx_graph)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise BackboneError(
            f"The graph must be one that OpenVINO can read, but it cannot ({lines[-1]}). "
            "Export to onnx, or use another backbone."
        ) from error
    try:
        openvino.save_model(network, str(folder / XML_FILE), compress_to_fp16=False)
    except RuntimeError as error:
        raise OutputError(
            f"{folder} must be a folder that can be written, but writing {XML_FILE} failed. "
            "Name another place, or make room."
        ) from error
    return [XML_FILE, BIN_FILE]

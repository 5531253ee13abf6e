"""`blemish info`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from blemish.cli.options import PATH
from blemish.descriptions import journal_lines, model_facts
from blemish.model import Model
from blemish.model_file import read_model


@click.command()
@click.argument("model", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def info(*, model: Path, as_json: bool) -> None:
    """Say what a MODEL is: settings, backbone, images, thresholds."""
    fitted, header = read_model(model)
    loaded = Model(fitted)
    threshold = loaded.threshold()
    if as_json:
        header["file_bytes"] = model.stat().st_size
        header["images"] = loaded.count
        header["threshold"] = asdict(threshold)
        header["pixel_threshold"] = loaded.pixel_threshold()
        click.echo(json.dumps(header, indent=2, sort_keys=True))
        return
    facts = {
        "file": f"{model}, {model.stat().st_size / 1e6:.1f} MB, format {header['version']}, "
        f"written by blemish {header['written_by']}",
        **model_facts(loaded),
        "backbone source": loaded.backbone.source,
        "backbone sha256": loaded.backbone.sha256,
    }
    for name, value in facts.items():
        click.echo(f"{name:<20} {value}")
    for line in journal_lines(loaded.fitted.journal):
        click.echo(f"{'journal':<20} {line}")

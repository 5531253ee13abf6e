"""`blemish fit`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from blemish.alignment import ALIGNMENTS
from blemish.cli.options import PATH, Numbers, data_options, device_options, quiet_option
from blemish.cli.progress import ProgressBar
from blemish.cli.sources import every_option
from blemish.datasets import read_dataset
from blemish.descriptions import rejected_text, threshold_text
from blemish.embedding import REDUCTIONS
from blemish.engines.engine import EngineSettings
from blemish.fitting import fit as fit_model
from blemish.gaussian import SHRINKAGES
from blemish.images import read_mask
from blemish.lifecycle.steps import fit_like
from blemish.maps import BLURS, UPSAMPLINGS
from blemish.model import load_model
from blemish.plan import FitPlan
from blemish.presets import PRESETS
from blemish.scoring import SCORES
from blemish.settings import MOST_OUTLIERS, FitSettings
from blemish.training_check.check import check_model, check_summary, check_training
from blemish.training_check.report import write_check
from blemish.writing import check_writable

_DEFAULTS = FitSettings()


class _Share(click.FloatRange):
    """Share of outliers, which may be left out; what follows it then is often a folder."""

    def __init__(self) -> None:
        super().__init__(0, MOST_OUTLIERS)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Text to a number."""
        try:
            float(value)
        except ValueError:
            self.fail(
                f"{value!r} is no share. Write {MOST_OUTLIERS} after it, or put the option last.",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


def _option(name: str, kind: Any, text: str, *flags: str) -> Any:
    """Option of the setting with the same name and default."""
    default = getattr(_DEFAULTS, name)
    return click.option(
        f"--{name.replace('_', '-')}",
        *flags,
        type=kind,
        default=default,
        show_default=default is not None,
        help=text,
    )


def _flag(name: str, text: str) -> Any:
    return click.option(f"--{name.replace('_', '-')}", is_flag=True, default=False, help=text)


def _decided(name: str, kind: Any, text: str) -> Any:
    """Option of a setting that the preset decides if it is left out."""
    text = f"{text} Default: the preset's."
    return click.option(f"--{name.replace('_', '-')}", type=kind, default=None, help=text)


def _tristate(yes: str, no: str, text: str) -> Any:
    """Pair of flags for a setting that the preset decides if both are left out."""
    text = f"{text} Default: the preset's."
    return click.option(f"--{yes}/--{no}", yes, default=None, help=text)


_SETTINGS = [
    _option("backbone", str, "builtin, a ResNet, or an ONNX feature extractor."),
    _option("layers", Numbers(","), "Layers from 1 to 4, such as 1,2,3. Default: those three."),
    _option("preset", click.Choice(PRESETS), "What the settings left out are; see the guide."),
    _option("size", Numbers("x", 2), "HEIGHTxWIDTH of the network's input. Default: about 256."),
    _option("roi", Numbers(",", 4), "Region of interest: x,y,width,height in image pixels."),
    _option("value_range", Numbers(",", 2, float), "LOW,HIGH: black and white of deep images."),
    _option("interpolation", click.Choice(["bicubic", "bilinear"]), "Of the resize."),
    _option("align", click.Choice(ALIGNMENTS), "Bring parts to one place: shifted, or turned too."),
    _option("reduction", click.Choice(REDUCTIONS), "How channels are chosen."),
    _option("dims", Numbers(","), "Dimensions kept in all, or per layer as 16,64,256."),
    _flag("layer_sums", "Add to each layer the finer one."),
    _option("seed", click.IntRange(0), "Of the random choice."),
    _decided("averaging", Numbers(","), "Window per layer, 1, 3 or 4, to average features over."),
    _decided("epsilon", click.FloatRange(0), "Added to the diagonal of the covariance."),
    _decided("relative_epsilon", click.FloatRange(0), "The same, times the mean variance."),
    _option("shrinkage", click.Choice(SHRINKAGES), "Of the covariance, for few images."),
    _flag("shared", "One Gaussian for all positions, for textures."),
    _option("neighbourhood", click.IntRange(0), "Judge by the best Gaussian so many cells around."),
    _tristate("separate", "joint", "One Gaussian per layer, or one over all."),
    _tristate("standardise", "as-is", "Make the scores of all positions alike."),
    _decided("map_weights", Numbers(",", kind=float), "Separate layers' weights in the map."),
    _decided("image_weights", Numbers(",", kind=float), "Their weights in the image score."),
    _option("score", click.Choice(SCORES), "What is measured at every position."),
    _option("chebyshev_scale", click.FloatRange(0, 1, min_open=True), "Of the Chebyshev bound."),
    _option("upsampling", click.Choice(UPSAMPLINGS), "From positions to pixels."),
    _option("blur", click.Choice(BLURS), "Of the map."),
    _option("sigma", click.FloatRange(0, min_open=True), "Of the blur, in pixels of the input."),
    _option("top_k", click.IntRange(1), "Image score: mean of so many highest pixels."),
    _option(
        "false_alarm_rate",
        click.FloatRange(0, 1, min_open=True, max_open=True),
        "Share of good images that may be called anomalous.",
    ),
    _option(
        "pixel_false_alarm_rate",
        click.FloatRange(0, 1, min_open=True, max_open=True),
        "Share of their pixels that may lie in a predicted mask.",
    ),
    _flag("keep_features", "Keep the images' features, to calibrate later without them."),
    click.option(
        "--reject-outliers",
        type=_Share(),
        is_flag=False,
        flag_value=MOST_OUTLIERS,
        default=_DEFAULTS.reject_outliers,
        show_default=True,
        metavar="[SHARE]",
        help="Leave out evident outliers, at most this share of the images (alone: 0.2).",
    ),
]


def setting_options(command: Any) -> Any:
    """All settings of a fit as options."""
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


def settings_from(options: dict[str, Any]) -> FitSettings:
    """Settings from the values of `setting_options`."""
    dims = options["dims"]
    if dims is not None and len(dims) == 1:
        dims = dims[0]
    return FitSettings(**{**{f.name: options[f.name] for f in fields(FitSettings)}, "dims": dims})


@click.command()
@click.argument("images", type=PATH)
@click.option("--out", "-o", type=PATH, help="Model file to write. Default: IMAGES.blemish.")
@click.option("--like", type=PATH, help="Model whose settings are taken, so that both can merge.")
@click.option("--weights", type=PATH, help="State dict of the ResNet: .safetensors or .pth.")
@click.option("--reference", type=PATH, help="Image to align parts with. Default: their mean.")
@click.option("--ignore-mask", type=PATH, help="Image, not black where nothing is to be scored.")
@click.option("--check-report", type=PATH, help="Folder for a check of the images, with pictures.")
@data_options
@every_option
@setting_options
@device_options
@quiet_option
def fit(
    *,
    images: Path,
    out: Path | None,
    like: Path | None,
    weights: Path | None,
    reference: Path | None,
    ignore_mask: Path | None,
    check_report: Path | None,
    layout: str | None,
    category: str | None,
    every: int,
    engine: str,
    device: str,
    threads: int | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Learn what good parts look like, from a folder of IMAGES.

    Of a data set the good training images are used; its layout is found by itself. A plain folder,
    or a video, is taken to hold good images only.

    \b
    Example:
        blemish fit parts/bottle/good
        blemish fit datasets/mvtec/bottle --backbone resnet18 --preset paper --dims 100
    """  # noqa: D301
    settings = None if like is not None else settings_from(options)
    out = out or default_output(images)
    samples = read_dataset(images, split="train", layout=layout, category=category)[::every]
    check_writable(out)
    mask = None if ignore_mask is None else read_mask(ignore_mask)
    runs = EngineSettings(engine=engine, device=device, threads=threads)
    chosen = [sample.image for sample in samples]
    with ProgressBar(quiet=quiet) as progress:
        model = (
            fit_model(
                chosen,
                settings,
                weights=weights,
                ignore_mask=mask,
                reference=reference,
                engine=runs,
                progress=progress,
                on_plan=lambda plan: _show_plan(plan, out, quiet=quiet),
            )
            if like is None
            else fit_like(load_model(_alone(like), runs), chosen, progress=progress)
        )
    model.save(out)
    if not quiet:
        click.echo(f"Learned from {model.count} images, wrote {out}.")
        click.echo(f"Threshold {threshold_text(model.threshold())}.")
        if model.fitted.rejected is not None:
            click.echo(f"Rejected {rejected_text(model)}.")
        if summary := check_summary(check_model(model)):
            click.echo(f"Look at {summary}")
    if check_report is not None:
        found = check_training(chosen, model=model)
        click.echo(f"Report: {write_check(check_report, found, chosen, title=str(images))}")


def _alone(like: Path) -> Path:
    """--like, given without what it decides.

    Raises
    ------
    click.UsageError
        Another setting is given, too.
    """
    context = click.get_current_context()
    decided = [
        "weights",
        "reference",
        "ignore_mask",
        *(field.name for field in fields(FitSettings)),
    ]
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name in decided and source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--like decides {option.opts[0]}; leave one of them out.")
    return like


def _show_plan(plan: FitPlan, out: Path, *, quiet: bool) -> None:
    """Say what the fit will take, before it starts; refuse it if the disk is too small."""
    if not quiet:
        click.echo(f"Plan: {plan}.", err=True)
    plan.check_disk(out)


def default_output(images: Path) -> Path:
    """FOLDER -> FOLDER.blemish, beside the folder.

    Examples
    --------
    >>> default_output(Path("parts/bottle/"))
    PosixPath('parts/bottle.blemish')
    """
    folder = images.resolve() if images.name in ("", "..") else images
    return folder.with_name(f"{folder.name}.blemish")

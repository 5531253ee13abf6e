"""Options of `blemish benchmark` that say what is done to the data."""

from __future__ import annotations

from typing import Any

import click

from blemish.datasets import BORDERS, ROTATIONS, RdMvtec

NO_PROTOCOL = "none"
_DEFAULTS = RdMvtec()


def _option(flag: str, kind: Any, text: str, default: object = None) -> Any:
    return click.option(
        flag, type=kind, default=default, show_default=default is not None, help=text
    )


_PARAMETERS = {
    "max_rotation": _option(
        "--max-rotation",
        click.FloatRange(0, 180),
        "Protocol: degrees by which an image is turned at most.",
        _DEFAULTS.max_rotation,
    ),
    "protocol_size": _option(
        "--protocol-size",
        click.IntRange(1),
        "Protocol: shorter side to which an image is resized.",
        _DEFAULTS.size,
    ),
    "protocol_crop": _option(
        "--protocol-crop",
        click.IntRange(1),
        "Protocol: side of the square that is cut out.",
        _DEFAULTS.crop,
    ),
    "centre_crop": click.option(
        "--centre-crop", is_flag=True, help="Protocol: cut it out of the centre."
    ),
    "border": _option(
        "--border",
        click.Choice(BORDERS),
        "Protocol: what is seen where a turned image ends.",
        _DEFAULTS.border,
    ),
    "rotation": _option(
        "--rotation",
        click.Choice(ROTATIONS),
        "Protocol: interpolation of the rotation.",
        _DEFAULTS.rotation,
    ),
    "rotate_first": click.option(
        "--rotate-first", is_flag=True, help="Protocol: turn before the resize, not after."
    ),
    "channel_seed": _option(
        "--channel-seed",
        click.IntRange(0),
        "Protocol: of the choice of channels in all versions. Default: the version's.",
    ),
}


def protocol_options(command: Any) -> Any:
    """--protocol and its parameters."""
    for option in reversed(list(_PARAMETERS.values())):
        command = option(command)
    return click.option(
        "--protocol",
        type=click.Choice([NO_PROTOCOL, RdMvtec.name]),
        default=NO_PROTOCOL,
        show_default=True,
        help="rd-mvtec: randomly turned and cropped images, one version per seed.",
    )(command)


def protocol_from(options: dict[str, Any]) -> RdMvtec | None:
    """Protocol from the values of `protocol_options`, which are taken out of the options."""
    name = options.pop("protocol")
    if name == NO_PROTOCOL:
        _refuse_parameters()
    rotate_first, centre_crop = options.pop("rotate_first"), options.pop("centre_crop")
    found = RdMvtec(
        max_rotation=options.pop("max_rotation"),
        size=options.pop("protocol_size"),
        crop=options.pop("protocol_crop"),
        random_crop=not centre_crop,
        border=options.pop("border"),
        order="rotate-first" if rotate_first else "resize-first",
        rotation=options.pop("rotation"),
        channel_seed=options.pop("channel_seed"),
    )
    return None if name == NO_PROTOCOL else found


def _refuse_parameters() -> None:
    """A parameter without the protocol is wrong usage: it would do nothing."""
    context = click.get_current_context()
    for name in _PARAMETERS:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            flag = name.replace("_", "-")
            raise click.UsageError(f"--{flag} needs --protocol {RdMvtec.name}.")

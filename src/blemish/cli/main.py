"""The group of all commands, and the one place where errors become one line.

A command's module is imported only when that command is used, so that `blemish --help` does not
wait for NumPy and OpenVINO.
"""

from __future__ import annotations

import importlib
import warnings

import click

from blemish import __version__
from blemish.errors import BlemishError, BlemishWarning

_COMMANDS = {
    "demo": "Generate a product, learn it, inspect it, and show the report.",
    "fit": "Learn what good parts look like.",
    "check": "Name suspicious images among those to learn from.",
    "inspect": "Judge images by a model.",
    "explain": "Say why an image got its score.",
    "watch": "Notice when images drift from those of the fit.",
    "evaluate": "Measure a model on labelled images.",
    "benchmark": "Fit and measure many categories, scores and seeds.",
    "export": "Write a model for another program: ONNX or OpenVINO.",
    "update": "Add good images to a model.",
    "forget": "Take images out of a model.",
    "merge": "Put models of one product together.",
    "calibrate": "Make the thresholds of a changed model exact.",
    "threshold": "List, set and remove a model's operating points.",
    "info": "Say what a model is.",
    "backbone": "List, show and download feature extractors.",
}


class Commands(click.Group):
    """Finds commands by name; shows a `BlemishError` as one line and exit status 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the order a new user needs them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"blemish.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; expected failures become one line."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", BlemishWarning)
                warnings.showwarning = _show_warning  # type: ignore[assignment]
                return super().invoke(ctx)
        except BlemishError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt as error:
            raise click.ClickException(
                "Interrupted. Files written before are whole; nothing is half-written."
            ) from error
        except MemoryError as error:
            raise click.ClickException(
                "The memory of this machine did not suffice. Use fewer dimensions or a smaller "
                "size."
            ) from error
        except BrokenPipeError:
            raise  # the reader has seen enough: click ends quietly
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{where}{error.strerror or error}.") from error


def _show_warning(message: Warning, *_: object, **__: object) -> None:
    click.echo(f"Warning: {message}", err=True)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="blemish")
def main() -> None:
    """Find defects on parts and surfaces, learning from images of good parts only.

    \b
    Start with:
        blemish demo                    see it work on a generated product
        blemish fit GOOD_IMAGES         learn; writes GOOD_IMAGES.blemish
        blemish inspect MODEL IMAGES    judge; pictures and a report with --out
    """  # noqa: D301

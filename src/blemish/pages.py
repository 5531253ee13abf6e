"""HTML pages: their templates, and what these may call."""

from __future__ import annotations

import base64
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from jinja2 import Template


@lru_cache
def page_template(name: str) -> Template:
    """Template of a page, such as ``report.html.jinja``; everything put into it is escaped.

    Its filters are `data_uri`, of a JPEG file's bytes, and `href`, of a relative path.
    """
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - slow to import

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["data_uri"] = _data_uri
    environment.filters["href"] = _href
    text = resources.files("blemish").joinpath(name).read_text(encoding="utf-8")
    return environment.from_string(text)


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


def _href(link: str) -> str:
    """Quote a relative path as a URL; a colon is quoted too, so it cannot name a scheme."""
    return quote(link.replace("\\", "/").encode("utf-8", "surrogateescape"), safe="/")

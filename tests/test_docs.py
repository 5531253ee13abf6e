"""What README, guide and the other pages say is there, is there."""

import ast
import importlib
import inspect
import re
import shlex
from pathlib import Path

import click
import pytest
from PIL import Image

from blemish.cli import main
from blemish.datasets.read import LAYOUTS
from blemish.embedding import REDUCTIONS
from blemish.results import PICTURES
from blemish.scoring import SCORES

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *ROOT.glob("docs/**/*.md"),
    ]
)
FOR_USERS = [ROOT / "README.md", ROOT / "docs" / "guide.md"]
IMAGES = sorted((ROOT / "docs" / "images").iterdir())
MOST_IMAGE_BYTES = 700_000

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
COMMAND = re.compile(r"(\S+ ){0,2}blemish( |$)")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def text_of(page):
    return page.read_text(encoding="utf-8")


def prose_of(page):
    return FENCE.sub("", text_of(page))


def command_lines():
    """Every `blemish ...` of a code block or a table, as (page, words)."""
    for page in PAGES:
        blocks = [code for language, code in FENCE.findall(text_of(page)) if language != "python"]
        lines = [line.removeprefix("$ ") for code in blocks for line in code.splitlines()]
        for line in [*lines, *SPAN.findall(prose_of(page))]:
            if not COMMAND.match(line):
                continue
            words = shlex.split(line.replace("...", ""), comments=True)
            if words[-1] != "blemish":
                yield pytest.param(
                    words[words.index("blemish") + 1 :], id=f"{name_of(page)}:{line}"
                )


def parse(words):
    """Let click parse a command line, types and choices included, without running it."""
    command, context = main, click.Context(main, info_name="blemish")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no command {words[0]}"
        command, context = found, click.Context(found, parent=context, info_name=words[0])
        words = words[1:]
    arguments = [p.name for p in command.params if isinstance(p, click.Argument) and p.required]
    if not isinstance(command, click.Group) and words:
        if not any(not word.startswith("-") for word in words):
            words = [*words, *arguments]  # prose that names options only
        command.make_context(context.info_name, list(words), parent=context.parent)
    elif isinstance(command, click.Group):
        known = {flag for p in command.get_params(context) for flag in p.opts}
        assert set(words) <= known


def public_commands(group=main, path=()):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from public_commands(command, (*path, name))
        else:
            yield (*path, name), command


def public_options():
    flags = {
        flag
        for _, command in public_commands()
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for flag in (*parameter.opts, *parameter.secondary_opts)
        if flag.startswith("--") and flag != "--help"
    }
    return sorted(flags)


@pytest.mark.parametrize("words", list(command_lines()))
def test_every_command_line_is_one_that_click_takes(words):
    parse(words)


def test_command_lines_are_found():
    assert len(list(command_lines())) > 50


def test_an_unknown_option_in_a_command_line_would_be_found():
    with pytest.raises(click.UsageError):
        parse(["fit", "parts/good", "--no-such-option"])


def test_every_command_is_shown():
    shown = "\n".join(text_of(page) for page in FOR_USERS)
    missing = [
        " ".join(path) for path, _ in public_commands() if f"blemish {' '.join(path)}" not in shown
    ]
    assert missing == []


def test_every_option_is_explained():
    shown = set(re.findall(r"--[a-z][a-z-]*", "\n".join(text_of(page) for page in FOR_USERS)))
    assert [flag for flag in public_options() if flag not in shown] == []


def test_every_option_shown_is_there():
    for page in FOR_USERS:
        shown = set(re.findall(r"`(--[a-z][a-z-]*)", prose_of(page)))
        assert shown - {*public_options(), "--help", "--version"} == set()


@pytest.mark.parametrize("words", [SCORES, REDUCTIONS, LAYOUTS, PICTURES], ids=str)
def test_every_choice_is_explained_in_the_guide(words):
    guide = text_of(ROOT / "docs" / "guide.md")
    assert [word for word in words if f"`{word}`" not in guide] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page):
    for target in LINK.findall(prose_of(page)):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        found = page.parent / file if file else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors_of(found), target


def anchors_of(page):
    headings = re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_pictures_are_small_whole_and_shown():
    assert sum(path.stat().st_size for path in IMAGES) < MOST_IMAGE_BYTES
    shown = "\n".join(text_of(page) for page in PAGES)
    for path in IMAGES:
        assert f"images/{path.name})" in shown
        with Image.open(path) as picture:
            picture.load()


def python_blocks():
    for page in PAGES:
        for number, (language, code) in enumerate(FENCE.findall(text_of(page))):
            if language == "python":
                yield pytest.param(code, id=f"{name_of(page)}:{number}")


@pytest.mark.parametrize("code", list(python_blocks()))
def test_python_compiles_and_its_imports_exist(code):
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "blemish":
            module = importlib.import_module(node.module)
            assert [a.name for a in node.names if not hasattr(module, a.name)] == []
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name, attribute = node.value.id, node.attr
            owner = {"blemish": "", "model": "Model", "decision": "Decision"}.get(name)
            if owner is not None:
                assert has(owner, attribute), f"{name}.{attribute}"


def has(owner, attribute):
    package = importlib.import_module("blemish")
    if not owner:
        return hasattr(package, attribute)
    kind = getattr(package, owner)
    return hasattr(kind, attribute) or f"self.{attribute}" in inspect.getsource(kind)


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/decisions/*.md")), ids=name_of)
def test_a_decision_has_its_parts_and_a_date(page):
    text = text_of(page)
    assert text.startswith(f"# {page.name[:4]} ")
    assert re.search(r"^2\d{3}-\d{2}-\d{2}\b", text, re.MULTILINE)
    for part in ("Context", "Decision", "Consequences"):
        assert f"\n## {part}\n" in text


def test_the_table_of_contributing_names_files_that_exist():
    text = text_of(ROOT / "CONTRIBUTING.md")
    table = [line for line in text.splitlines() if line.startswith("| ")]
    for name in re.findall(r"`([a-z_/]+(?:\.py|\.csv|/))`", "\n".join(table)):
        folders = (ROOT / "src" / "blemish", ROOT / "tests", ROOT)
        assert any((folder / name).exists() for folder in folders), name

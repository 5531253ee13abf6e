"""Published figures: typed off without an error, and found for the right setting."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from blemish.cli.benchmark import benchmark
from blemish.datasets import LAYOUTS
from blemish.errors import InputError
from blemish.published import (
    CLAIMS,
    MVTEC_CATEGORIES,
    find_published,
    published,
    published_systems,
)

REFERENCE = Path(__file__).parents[2] / "shared" / "reference.md"
METRICS = {
    "image_auroc": "### Image AUROC",
    "pixel_auroc": "### Pixel AUROC",
    "pro": "### PRO",
    "image_f1_max": "### Image F1",
}


def reference_rows(metric):
    """Numbers of each row of a table of the reference, as they stand there."""
    section = REFERENCE.read_text().split(METRICS[metric])[1].split("\n#")[0]
    table = [line.strip("| \n").split("|") for line in section.splitlines() if "|" in line]
    assert [cell.strip() for cell in table[0][1:16]] == list(MVTEC_CATEGORIES)
    return [[float(cell) for cell in row[1:]] for row in table[2:]]


@pytest.mark.skipif(not REFERENCE.is_file(), reason="needs ../shared/reference.md")
@pytest.mark.parametrize("metric", METRICS)
def test_every_figure_is_that_of_the_reference(metric):
    ours = [
        [*(one.values[name] for name in MVTEC_CATEGORIES), one.stated_mean]
        for one in published()
        if one.metric == metric and one.values
    ]
    assert ours == reference_rows(metric)


def test_every_row_has_all_categories_or_none():
    for one in published():
        assert set(one.values) in ({*MVTEC_CATEGORIES}, set())
        assert one.source


def test_figures_are_fractions_but_for_time_and_memory():
    for one in published():
        if one.metric not in ("seconds_per_image", "memory_gb"):
            assert all(0.6 < value <= 1 for value in [*one.values.values(), one.stated_mean])


def test_no_system_has_two_figures_of_one_metric_and_data_set():
    keys = [(one.metric, one.dataset, one.system) for one in published()]
    assert len(set(keys)) == len(keys)


def test_stated_averages_agree_with_their_rows_up_to_rounding():
    assert [one for one in published() if one.contradiction is not None] == []


def test_a_stated_average_that_contradicts_its_rows_is_found():
    one = find_published("pro", backbone="wide_resnet50_2", dims=550)
    wrong = type(one)(**{name: getattr(one, name) for name in one.__slots__} | {"stated_mean": 0.9})
    assert wrong.contradiction == pytest.approx(np.mean(list(one.values.values())))


@pytest.mark.parametrize(
    ("metric", "backbone", "dims", "reduction", "expected"),
    [
        ("image_auroc", "resnet18.tv_in1k", 100, "random", "anomalib 0.3.6 R18-100"),
        ("image_auroc", "wide_resnet50_2", 550, "random", "anomalib 0.3.6 WR50-550"),
        ("pixel_auroc", "resnet18", 100, "random", "anomalib 0.3.6 R18-100"),
        ("pixel_auroc", "wide_resnet50_2.tv_in1k", 550, "random", "PaDiM paper WR50-Rd550"),
        ("pro", "wide_resnet50_2", 550, "random", "PaDiM paper WR50-Rd550"),
        ("pro", "resnet18", 100, "random", "PaDiM paper R18-Rd100"),
        ("pro", "resnet18", 448, "none", "PaDiM paper R18 all 448 (study)"),
        ("pro", "wide_resnet50_2", 300, "semi-orthogonal", "Semi-orthogonal paper WR50-300"),
        ("image_auroc", "wide_resnet50_2", 300, "semi-orthogonal", "Anomaly.Paddle WR50-300 ortho"),
        ("image_auroc", "resnet18", 101, "random", None),
        ("image_auroc", "resnet18", 100, "pca", None),
        ("image_auroc", "builtin", 100, "random", None),
    ],
)
def test_the_figures_of_the_same_setting_are_found(metric, backbone, dims, reduction, expected):
    found = find_published(metric, backbone=backbone, dims=dims, reduction=reduction)
    assert (found and found.system) == expected


def test_a_named_system_is_found_for_any_setting():
    found = find_published("image_auroc", backbone="builtin", dims=7, system="xiahaifeng R18-100")
    assert found.values["screw"] == 0.745


def test_an_unknown_system_is_an_error():
    with pytest.raises(InputError) as caught:
        find_published("pro", backbone="builtin", dims=7, system="mine")
    assert str(caught.value) == (
        f"The system must be one of {'; '.join(published_systems())}; but is 'mine'. Choose one."
    )


def test_a_mean_is_of_the_same_categories():
    rows = find_published("pixel_auroc", backbone="resnet18", dims=100)
    assert rows.mean(["screw", "bottle"]) == pytest.approx((0.978 + 0.983) / 2)
    assert rows.mean(["screw", "plate"]) is None
    assert rows.mean([]) is None
    average = find_published("pro", backbone="resnet18", dims=100)
    assert average.mean(MVTEC_CATEGORIES) == 0.901
    assert average.mean(["screw"]) is None


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.dataset} {claim.system}")
def test_the_command_of_a_claim_is_one_that_can_be_run(claim):
    program, command, *arguments = claim.command.split()
    assert (program, command) == ("blemish", "benchmark")
    benchmark.make_context("benchmark", arguments)  # raises where an option is unknown
    assert claim.layout in LAYOUTS


def test_claims_are_listed_with_their_commands():
    result = CliRunner().invoke(benchmark, ["--claims"])
    assert result.exit_code == 0
    blocks = result.output.split("\n\n")
    assert len(blocks) == len(CLAIMS) == 7
    assert blocks[3] == (
        "VisA: pro 0.859, PaDiM\n"
        "  claimed by  a public results page, unverified there\n"
        "  verify      blemish benchmark datasets/visa --backbone wide_resnet50_2 --dims 550 "
        "--out claim-visa\n"
        "  note        The claim names neither backbone nor input size."
    )

"""A benchmark in figures and in words: means computed, published figures where they belong."""

from dataclasses import replace

import numpy as np
import pytest

from benchmark_data import made_up_run
from blemish.benchmark import METRICS, Benchmark, Failed
from blemish.benchmark_summary import Spread, Summary, runs_csv
from blemish.benchmark_tables import as_markdown, as_text, notes
from blemish.errors import InputError
from blemish.published import MVTEC_CATEGORIES
from blemish.settings import FitSettings


def made_up_benchmark(names=("bottle", "screw"), scores=("gaussian",), seeds=(0, 1, 2)):
    """Image AUROC 0.9, 0.92, 0.94 for the first category, 0.1 less for every other."""
    return Benchmark(
        "mvtec",
        list(names),
        list(scores),
        list(seeds),
        [
            made_up_run(name, score, seed, image_auroc=0.9 - place / 10 + seed / 50, pro=0.9)
            for place, name in enumerate(names)
            for seed in seeds
            for score in scores
        ],
    )


def test_spread_is_the_sample_standard_deviation():
    values = [0.9, 0.93, 0.99, 0.4]
    spread = Spread.of(values)
    assert spread.mean == pytest.approx(np.mean(values))
    assert spread.std == pytest.approx(np.std(values, ddof=1))
    assert Spread.of([0.5]).std is None


def test_the_mean_row_averages_the_categories_per_seed():
    found = made_up_benchmark()
    table = np.array([[run.metrics["image_auroc"] for run in found.runs]]).reshape(2, 3)
    row = Summary(found).of("image_auroc")[-1]
    assert row.label == "mean of 2"
    assert row.spread.mean == pytest.approx(table.mean())
    assert row.spread.std == pytest.approx(table.mean(axis=0).std(ddof=1))
    assert row.published == pytest.approx((0.994 + 0.759) / 2)
    assert row.difference == pytest.approx(table.mean() - row.published)


def test_a_category_that_is_not_whole_is_not_in_the_mean():
    found = made_up_benchmark()
    found.runs.pop()
    found.failed.append(Failed("screw", "Its disk broke."))
    summary = Summary(found)
    rows = summary.of("image_auroc")
    assert [(row.label, row.spread.seeds) for row in rows] == [
        ("bottle", 3),
        ("screw", 2),
        ("mean of 1 (of 2)", 3),
    ]
    assert rows[2].spread.mean == rows[0].spread.mean
    assert rows[2].published == rows[0].published == 0.994
    assert notes(summary)[-1] == "screw: not finished. Its disk broke."


def test_a_stated_average_stands_beside_the_mean_of_all_categories_only():
    whole = Summary(made_up_benchmark(MVTEC_CATEGORIES, seeds=(0,)))
    pro = whole.of("pro")
    assert {row.published for row in pro[:-1]} == {None}
    assert (pro[-1].published, pro[-1].system) == (0.901, "PaDiM paper R18-Rd100")
    assert Summary(made_up_benchmark()).of("pro")[-1].published is None


def test_claims_stand_below_a_benchmark_that_can_verify_them():
    found = made_up_benchmark(MVTEC_CATEGORIES, seeds=(0,))
    found.runs = [replace(run, metrics=run.metrics | {"pixel_auroc": 0.96}) for run in found.runs]
    expected = (
        "Claim for MVTec AD: Pixel AUROC 0.967 by PaDiM-R18-Rd100 (a public results page, "
        "unverified there). Here, with score gaussian: 0.9600. The mean of 10 random selections, "
        "on the files as published before the transistor images were revised."
    )
    claims = [note for note in notes(Summary(found)) if note.startswith("Claim")]
    assert claims == [expected]
    found.failed.append(Failed("screw", "Its disk broke."))
    assert not [note for note in notes(Summary(found)) if note.startswith("Claim")]


def test_nothing_is_compared_where_nothing_was_published():
    found = made_up_benchmark()
    found.runs = [replace(run, dims=99) for run in found.runs]
    summary = Summary(found)
    assert {row.published for row in summary.rows} == {None}
    assert (
        "Published: nothing known for this data set with resnet18.tv_in1k, random 99 dimensions."
    ) in notes(summary)
    chosen = Summary(found, against="xiahaifeng R18-100")
    assert [row.published for row in chosen.of("image_auroc")][:2] == [0.996, 0.745]
    found.layout = "folder"  # a folder of screws is not MVTec AD's
    assert {row.published for row in Summary(found).rows} == {None}


def test_an_unknown_system_is_an_error():
    with pytest.raises(InputError, match=r"^The system must be one of .*; but is 'mine'\. Choose"):
        Summary(made_up_benchmark(), against="mine")


def test_the_text_has_tables_and_what_must_be_known():
    found = made_up_benchmark(scores=("gaussian", "hybrid"), seeds=(0, 1))
    found.reused = 3
    assert (
        as_text(Summary(found))
        == """\
Image AUROC

category    score       mean     std    published    difference
----------  --------  ------  ------  -----------  ------------
bottle      gaussian  0.9100  0.0141        0.994        -0.084
bottle      hybrid    0.9100  0.0141        0.994        -0.084
screw       gaussian  0.8100  0.0141        0.759        +0.051
screw       hybrid    0.8100  0.0141        0.759        +0.051
mean of 2   gaussian  0.8600  0.0141        0.877        -0.016
mean of 2   hybrid    0.8600  0.0141        0.877        -0.016

PRO (FPR <= 0.3)

category    score       mean     std    published    difference
----------  --------  ------  ------  -----------  ------------
bottle      gaussian  0.9000  0.0000            -             -
bottle      hybrid    0.9000  0.0000            -             -
screw       gaussian  0.9000  0.0000            -             -
screw       hybrid    0.9000  0.0000            -             -
mean of 2   gaussian  0.9000  0.0000            -             -
mean of 2   hybrid    0.9000  0.0000            -             -

Decisions and time, medians over the seeds

category    score       false alarms    missed    fit s    ms/image
----------  --------  --------------  --------  -------  ----------
bottle      gaussian       1.5 of 20   0 of 63      5.5        20.0
bottle      hybrid         1.5 of 20   0 of 63      5.5        20.0
screw       gaussian       1.5 of 20   0 of 63      5.5        20.0
screw       hybrid         1.5 of 20   0 of 63      5.5        20.0

std: sample standard deviation over 2 seeds (divisor n - 1). A mean row averages the categories \
per seed, computed from the rows.
PRO: mean overlap per connected defect region, integrated over false-positive rates from 0 to 0.3 \
and divided by 0.3.
fit s: from files to model, calibration included, backbone loaded before. ms/image: median over \
20 images, one at a time, from file to score and map.
Published Image AUROC: anomalib 0.3.6 R18-100 (README of anomalib 0.3.6; repeated in the README \
of the hybrid Gaussian-Chebyshev code).
Published PRO (FPR <= 0.3): PaDiM paper R18-Rd100 (arXiv:2011.08785, stated average; its \
reduction study has 0.905). Only its average over all 15 categories, 0.901.
Published figures are of PaDiM (score gaussian), on MVTec AD files of the original size; they are \
compared by the name of the category. Other sizes, selections and machines give other figures.
3 of 8 runs were known from before: same data, settings and versions. Their times are those of \
then."""
    )


def test_one_seed_has_no_spread():
    text = as_text(Summary(made_up_benchmark(["bottle"], seeds=(0,))))
    assert "bottle      gaussian  0.9000      -        0.994        -0.094\n" in text
    assert (
        "One seed shows no spread: another choice of channels can move an image AUROC by several "
        "points.\n"
    ) in text
    assert "mean of" not in text


def test_markdown_is_the_same_tables():
    text = as_markdown(Summary(made_up_benchmark(["bottle"], seeds=(0,))))
    assert text.startswith(
        "# Benchmark\n\n## Image AUROC\n\n"
        "| category   | score    |   mean |   std |   published |   difference |\n"
        "|------------|----------|--------|-------|-------------|--------------|\n"
        "| bottle     | gaussian | 0.9000 |     - |       0.994 |       -0.094 |\n"
    )
    assert "\n- PRO: mean overlap per connected defect region, integrated" in text


def test_a_benchmark_without_runs_says_why():
    found = Benchmark("mvtec", ["cup"], ["gaussian"], [0], failed=[Failed("cup", "Broken.")])
    assert as_text(Summary(found)) == "cup: not finished. Broken."
    assert runs_csv([]) == ""


def test_the_csv_has_a_line_per_run_with_all_settings():
    found = made_up_benchmark(["bottle"], seeds=(0, 1))
    header, first, second = runs_csv(found.runs).splitlines()
    names = header.split(",")
    assert names[:5] == ["category", "score", "seed", "backbone", "dims"]
    assert set(METRICS) <= set(names)
    for setting in FitSettings().to_json():
        assert setting in ("score", "seed") or f"setting:{setting}" in names
    cells = dict(zip(names, first.split(","), strict=True))
    assert (cells["image_auroc"], cells["pro"], cells["pixel_auroc"]) == ("0.9", "0.9", "")
    assert (cells["version:numpy"], cells["setting:preset"]) == ("2", "paper")
    assert dict(zip(names, second.split(","), strict=True))["seed"] == "1"

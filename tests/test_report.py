import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.charts import Line, curve_svg
from blemish.errors import OutputError
from blemish.report import (
    Failure,
    Report,
    ReportRow,
    ReportRows,
    RowPictures,
    render_report,
    row_pictures,
    write_report,
)
from blemish.visuals import ColourScale

SCALE = ColourScale(1.0, 3.0, 7.0)
HOSTILE = "<script>alert('1')</script>&\"x.png"


class Page(HTMLParser):
    """Every element with its attributes, and the text of the page."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.text += " " + data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def rows(self):
        return [attributes for attributes in self.all("tr") if "data-name" in attributes]

    @property
    def words(self):
        return " ".join(self.text.split())


def pictures(truth=True):
    anomaly = np.ones((24, 24))
    anomaly[4:9, 4:9] = 9
    mask = anomaly >= 3
    return row_pictures(
        np.full((24, 24, 3), 99, np.uint8), anomaly, mask, SCALE, truth=mask if truth else None
    )


def full_report():
    return Report(
        title="plate",
        threshold=4.0,
        rows=[
            ReportRow("good/1.png", 2.0, "normal", "good", pictures()),
            ReportRow("dent/1.png", 3.0, "normal", "dent", pictures()),
            ReportRow("dent/2.png", 8.0, "anomalous", "dent", pictures(), link="five/dent 2#.png"),
        ],
        facts={"Backbone": "builtin", "False-alarm rate": "1 %"},
        scale=SCALE,
        failures=[Failure("bad.png", "It ends after 3 bytes.")],
        not_images=7,
        metrics={"Image AUROC": 0.98765, "PRO": "none: no masks"},
        charts=[curve_svg([Line("a", np.array([0.0, 1.0]), np.array([0.0, 1.0]))], title="ROC")],
        training_scores=np.array([1.0, 2.0]),
    )


def test_the_page_says_everything_it_was_given():
    page = Page(render_report(full_report()))
    for words in (
        "images inspected 3",
        "anomalous 1",
        "normal 2",
        "unlike their label 1",
        "could not be inspected 1",
        "files that are no images 7",
        "Backbone builtin",
        "bad.png It ends after 3 bytes.",
        "Image AUROC 0.9877",
        "PRO none: no masks",
        "good 1 of 1 100 %",
        "dent 1 of 2 50 %",
        "learned from (2)",
        "0.987",
        "threshold 4",
    ):
        assert words in page.words, words
    assert len(page.all("svg")) == 2


def test_rows_are_sorted_by_score_and_carry_what_the_page_sorts_and_filters_by():
    rows = Page(render_report(full_report())).rows
    assert [row["data-score"] for row in rows] == ["8.0", "3.0", "2.0"]
    assert [row["data-decision"] for row in rows] == ["anomalous", "normal", "normal"]
    assert [row["data-label"] for row in rows] == ["dent", "dent", "good"]
    assert ["data-wrong" in row for row in rows] == [False, True, False]


def test_the_page_requests_nothing_and_every_picture_is_inside():
    page = Page(render_report(full_report()))
    images = [image["src"] for image in page.all("img")]
    assert len(images) == 12
    assert all(source.startswith("data:image/jpeg;base64,/9j/") for source in images)
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base"}
        assert "src" not in attributes or tag == "img"
    [policy] = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'; img-src data:;")
    outside = render_report(full_report()).replace("http://www.w3.org/2000/svg", "")
    assert "http" not in re.sub(r"http-equiv", "", outside)


@pytest.mark.parametrize("where", ["row", "failure", "title", "fact", "label", "metric"])
def test_a_hostile_name_stays_text(where):
    rows = [ReportRow(HOSTILE, 2.0, "normal", HOSTILE, pictures(), link=HOSTILE)]
    report = {
        "row": Report("t", 1.0, rows),
        "failure": Report("t", 1.0, [], failures=[Failure(HOSTILE, HOSTILE)]),
        "title": Report(HOSTILE, 1.0, []),
        "fact": Report("t", 1.0, [], facts={HOSTILE: HOSTILE}),
        "label": Report("t", 1.0, rows),
        "metric": Report("t", 1.0, rows, metrics={HOSTILE: HOSTILE}),
    }[where]
    page = Page(render_report(report))
    assert len(page.all("script")) == 1
    assert HOSTILE in page.text


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=30))
def test_law_any_name_comes_back_from_the_page_unchanged(name):
    page = Page(render_report(Report("t", 1.0, [ReportRow(name, 2.0, "anomalous")])))
    carried = page.rows[0]["data-name"]
    assert carried.replace("\r", "\n") == name.replace("\r", "\n").replace("\0", "\0")


def test_a_link_is_a_relative_path_whatever_it_is_called():
    rows = [
        ReportRow("a", 2.0, "normal", link="five/a b#1?.png"),
        ReportRow("b", 1.0, "normal", link="javascript:alert(1)"),
    ]
    links = [a["href"] for a in Page(render_report(Report("t", 1.0, rows))).all("a")]
    assert links == ["five/a%20b%231%3F.png", "javascript%3Aalert%281%29"]


def test_a_name_that_is_no_unicode_can_be_written(tmp_path):
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    write_report(tmp_path / "r.html", Report("t", 1.0, [ReportRow(name, 2.0, "normal", link=name)]))
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "caf\\udce9.png" in text and 'href="caf%E9.png"' in text


def test_pictures_are_kept_of_wrong_decisions_and_then_of_the_highest_scores():
    collected = ReportRows(picture_limit=3)
    for index in range(50):
        row = ReportRow(f"{index}", float(index), "anomalous", "defect", pictures(truth=False))
        collected.add(row)
    collected.add(ReportRow("missed", 0.5, "normal", "defect", pictures(truth=False)))
    kept = [row.name for row in collected.rows if row.pictures]
    assert kept == ["48", "49", "missed"]
    assert len(collected.rows) == 51
    page = Page(render_report(Report("t", 1.0, collected.rows)))
    assert len(page.all("img")) == 9 and len(page.rows) == 51
    assert "Pictures are in this page for 3 of 51 images" in page.words


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["good", "dent"])), max_size=30),
    st.integers(0, 5),
)
def test_law_not_drawing_unwanted_pictures_changes_nothing(images, limit):
    shown = RowPictures(b"", b"", b"")
    lazy, eager = ReportRows(limit), ReportRows(limit)
    for score, label in images:
        row = ReportRow("a", float(score), "normal", label)
        pictured = ReportRow("a", float(score), "normal", label, shown)
        eager.add(pictured)
        lazy.add(pictured if lazy.wants_pictures(row) else row)
    kept = sorted((row.is_wrong, row.score) for row in lazy.rows if row.pictures)
    assert kept == sorted((row.is_wrong, row.score) for row in eager.rows if row.pictures)
    assert kept == sorted((row.is_wrong, row.score) for row in eager.rows)[-limit or len(images) :]


def test_the_page_stays_small_for_thousands_of_images():
    collected = ReportRows(picture_limit=20)
    large = RowPictures(b"x" * 30_000, b"x" * 30_000, b"x" * 30_000)
    for index in range(3000):
        collected.add(ReportRow(f"{index:05d}.png", float(index), "normal", pictures=large))
    assert len(render_report(Report("t", 1e9, collected.rows))) < 6_000_000


def test_the_same_report_gives_the_same_bytes(tmp_path):
    for name in "ab":
        write_report(tmp_path / name, full_report())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_report_of_nothing_says_so():
    page = Page(render_report(Report("t", 1.0, [])))
    assert "images inspected 0" in page.words and "No image was inspected." in page.words
    assert not page.all("svg")


def test_without_labels_there_is_no_column_for_them_and_no_truth():
    rows = [ReportRow("a", 2.0, "anomalous", pictures=pictures(truth=False))]
    page = Page(render_report(Report("t", 1.0, rows)))
    assert "Agreement with the labels" not in page.text
    assert [image["alt"] for image in page.all("img")] == ["Image", "Heat map", "Contour"]
    assert [head["data-key"] for head in page.all("th")[:3]] == ["name", "score", "decision"]
    assert not any(select["id"] == "label" for select in page.all("select"))


def test_negative_scores_and_thresholds_are_shown():
    rows = [ReportRow("a", -2.0, "normal"), ReportRow("b", -0.5, "anomalous")]
    page = Page(render_report(Report("t", -1.0, rows)))
    assert "threshold -1" in page.words and "-0.5" in page.words


def test_controls_can_be_reached_by_keyboard_and_have_names():
    page = Page(render_report(full_report()))
    for button in page.all("button"):
        assert button.get("type") == "button"
    for tag in ("input", "select"):
        for control in page.all(tag):
            assert control.get("aria-label") or control.get("type") == "radio"
    assert all(image["alt"] for image in page.all("img"))
    assert all("aria-label" in b for b in page.all("button") if b.get("class") == "thumb")


def test_a_report_that_cannot_be_written_is_an_error_and_keeps_the_old_one(tmp_path):
    path = tmp_path / "report.html"
    path.mkdir()
    with pytest.raises(OutputError) as caught:
        write_report(path, full_report())
    assert str(caught.value) == (
        f"{path} must be a file that can be written, but writing it failed: "
        "Is a directory. Name another place, or make room."
    )
    assert list(tmp_path.iterdir()) == [path]

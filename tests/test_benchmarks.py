"""The pure parts of the benchmarks: tables, medians, counting, arguments. No time is judged."""

import itertools
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # `benchmarks` is run from the root, not installed

from benchmarks import against_torch, bare, materials, measure, roofline, run, sizes, tables  # noqa: E402

from blemish.backbones import load_backbone  # noqa: E402


def clock_of(*durations):
    """A clock that lets the given seconds pass, one call after the other."""
    ends = np.cumsum(durations)
    return itertools.chain.from_iterable(zip(ends - durations, ends, strict=True)).__next__


def test_calls_take_turns_and_the_ratio_is_taken_within_each_turn():
    made = []
    calls = {"a": lambda: made.append("a"), "b": lambda: made.append("b")}
    clock = clock_of(2, 2, 9, 1, 1, 1, 20, 20, 20, 10, 10, 10)
    timings = measure.alternate(calls, turns=2, block=3, warm=1, pause=0, clock=clock)
    assert made == [*"aaaa", *"bbbb", *"aaaa", *"bbbb"]
    assert timings.median("a") == pytest.approx(11)
    assert timings.shortest("a") == pytest.approx(2)
    assert timings.ratio("a", "b") == pytest.approx(2)


@pytest.mark.parametrize("wrong", [{"turns": 0}, {"block": 0}, {"calls": {}}])
def test_nothing_to_time_is_an_error(wrong):
    with pytest.raises(ValueError, match="Give at least one of each"):
        measure.alternate(**{"calls": {"a": int}, **wrong})


def test_a_process_is_measured_and_its_failure_raised():
    seconds, megabytes = measure.run_process([sys.executable, "-c", "pass"])
    assert seconds > 0
    assert 1 < megabytes < 1000
    assert measure.output_of([sys.executable, "-c", "print(1)"], {"A": "b"}) == "1\n"
    with pytest.raises(RuntimeError, match="failed: 3"):
        measure.run_process([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(RuntimeError, match="failed: no"):
        measure.output_of([sys.executable, "-c", "raise SystemExit('no')"])


def test_the_machine_is_named():
    assert f"{len(os.sched_getaffinity(0))} cores" in measure.machine()
    assert "numpy" in measure.versions()
    assert measure.has_amx() == ("amx_bf16" in measure.cpu_flags())


def test_a_row_that_does_not_fit_its_header_is_an_error():
    with pytest.raises(ValueError, match="must have 2 cells, but has 1"):
        tables.Table("t", ["a", "b"], [["1"]]).markdown()


def test_a_table_without_rows_is_its_notes():
    assert tables.Table("", [], [], ["Not measured here."]).markdown().strip() == (
        "Not measured here."
    )


def test_bars_are_kept_at_their_edge():
    assert tables.verdict(1.3, at_most=1.3) == tables.verdict(12, at_least=12) == "met"
    assert tables.verdict(1.31, at_most=1.3) == tables.verdict(11.9, at_least=12) == "MISSED"


def test_a_part_measured_anew_replaces_only_itself():
    order = list(run.PARTS)
    texts = {
        name: tables.section(name, [tables.Table("", ["x"], [[name]])], measured="today")
        for name in order
    }
    report = tables.replace_sections("", texts, order)
    again = tables.replace_sections(report, {"stages": "## other\n"}, order)
    assert tables.replace_sections(report, {}, order) == report
    assert texts["stages"] not in again
    assert all(texts[name] in again for name in order if name != "stages")


def test_unknown_parts_are_refused(capsys):
    assert run.parse(["--only", "stages,sizes"]).only == ["stages", "sizes"]
    assert run.parse([]).only == list(run.PARTS)
    with pytest.raises(SystemExit) as ended:
        run.parse(["--only", "stages,speed"])
    assert ended.value.code == 2
    assert "but has speed" in capsys.readouterr().err


def test_parts_write_their_sections(tmp_path, monkeypatch, capsys):
    def measured(_, say):
        say("measuring")
        return [tables.Table("Made up", ["what", "ms"], [["decode", "1.0"]])]

    monkeypatch.setenv("BLEMISH_CACHE", "restored after the test")
    monkeypatch.setattr(run, "PARTS", {"stages": ("Stages", measured)})
    monkeypatch.setattr(materials, "_DRAWN", 1)
    monkeypatch.setattr(materials, "_DRAWN_LARGE", 1)
    monkeypatch.setattr(materials, "_LARGE_SIDE", 64)
    out = tmp_path / "results.md"
    run.main(
        [*("--data", str(tmp_path)), *("--weights", str(tmp_path / "no")), *("--out", str(out))]
    )
    report = out.read_text()
    assert "| decode | 1.0 |" in report
    assert "Images: drawn by" in report
    assert "Weights: RANDOM" in report
    assert "measuring" in capsys.readouterr().err


def test_random_weights_make_a_resnet(tmp_path):
    weights = materials.random_weights(tmp_path / "random.safetensors")
    backbone = load_backbone("resnet18", weights=weights)
    assert [layer.channels for layer in backbone.layers] == [64, 128, 256]


def counted_graph():
    """3x3 convolution, grouped 1x1 convolution and matrix product, on an image of 8x8."""
    shapes = {"a": (4, 3, 3, 3), "b": (4, 2, 1, 1), "c": (4, 5)}
    nodes = [
        helper.make_node("Conv", ["image", "a"], ["x"], pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Conv", ["x", "b"], ["y"], group=2),
        helper.make_node("MatMul", ["y", "c"], ["z"]),
    ]
    graph = helper.make_graph(
        nodes,
        "counted",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.ones(shape, np.float32), name)
            for name, shape in shapes.items()
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def test_multiply_adds_and_constants_are_those_counted_by_hand():
    work = roofline.work_of(bare.read_graph(counted_graph(), (1, 3, 8, 8)))
    # 4x4 outputs of 4 channels over 27 inputs, then over 2, then 5 outputs for each 4 inputs
    assert work.multiplications == 64 * 27 + 64 * 2 + 16 * 5 * 4
    assert work.numbers == 4 * 27 + 4 * 2 + 4 * 5


def test_a_bare_call_runs_a_graph():
    bare.bare_call(bare.read_graph(counted_graph(), (1, 3, 8, 8)), "f32")()


def test_a_graph_is_at_least_as_slow_as_its_parts_one_after_the_other():
    works = {"backbone alone": roofline.Work(100, 10), "whole graph": roofline.Work(110, 50)}
    # backbone: 100 / 10 of arithmetic; what is added: 40 numbers of 4 bytes at 16 per second
    assert roofline.least_seconds(works, "backbone alone", 10.0, 16.0, "f32") == 10
    assert roofline.least_seconds(works, "whole graph", 10.0, 16.0, "f32") == 20


def test_sizes_of_folders_count_all_files(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "in" / "b").write_bytes(b"345")
    assert sizes.folder_size(tmp_path) == 5
    assert sizes.folder_size(tmp_path / "a") == 2


def test_without_torch_the_report_says_so(monkeypatch):
    monkeypatch.setattr(against_torch, "torch_python", lambda: None)
    (table,) = against_torch.tables(None, print)
    assert "Not measured here" in table.markdown()


def test_the_interpreter_with_torch_may_be_named(monkeypatch):
    monkeypatch.setenv(against_torch.TORCH_PYTHON, "/some/python")
    assert against_torch.torch_python() == "/some/python"

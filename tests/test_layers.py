"""No module imports from a layer above its own; modules of one layer do not import each other."""

import ast
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "blemish"
LAYERS = [
    {"errors", "arrays", "cores"},
    {
        "charts",
        "graph_nodes",
        "image_formats",
        "image_statistics",
        "input_size",
        "lazy_image",
        "maps",
        "metrics",
        "norm_moments",
        "outliers",
        "packing",
        "journal",
        "records",
        "registration",
    },
    {"alignment", "frames", "kept_features", "presets", "rejected"},
    {"groupwise", "unusual"},
    {
        "clips",
        "pages",
        "pixel_store",
        "preprocessing",
        "products",
        "published",
        "pyramid",
        "spool",
        "threshold",
        "videos",
    },
    {"neighbourhood", "regions", "threshold_choice", "visuals", "writing"},
    {"backbones", "embedding", "panels", "generated", "images", "pixel_rates", "report"},
    {"whole_scatter"},
    {"datasets", "engines", "graph_embedding", "loading", "moments", "pixel_curves", "sources"},
    {"training_features", "whitening"},
    {"gaussian", "pixel_metrics", "pooling", "training_images"},
    {"decision", "plan", "scoring"},
    {"neighbour_pairs"},
    {"nearest"},
    {"scorer", "standardisation"},
    {"combination", "score_statistics", "settings"},
    {"calibration"},
    {"operating_points"},
    {"fitted"},
    {"judge", "part_tensors"},
    {"image_tensors"},
    {"graph", "model_file", "normal", "run_log"},
    {"learning"},
    {"robust", "torch_runner"},
    {"inference", "passes"},
    {"model"},
    {"fitting", "inspection", "lifecycle"},
    {"evaluation"},
    {"labelled_points"},
    {"benchmark", "descriptions", "export"},
    {"point_files", "results"},
    {"benchmark_summary"},
    {"benchmark_tables", "drift", "explanation", "training_check"},
    {"cli"},
]
LEVEL = {module: level for level, layer in enumerate(LAYERS) for module in layer}


def module_of(path):
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("blemish."):
            yield node.module.split(".")[1]


def python_files():
    return [p for p in sorted(SOURCE.rglob("*.py")) if module_of(p) not in ("__init__", "__main__")]


def test_every_module_has_a_place():
    assert {module_of(path) for path in python_files()} == set(LEVEL)


def test_imports_only_point_down():
    upward = [
        f"{module_of(path)} imports {name}"
        for path in python_files()
        for name in imports_of(path)
        if name != module_of(path) and LEVEL[name] >= LEVEL[module_of(path)]
    ]
    assert upward == []


def test_only_the_command_line_prints():
    printing = [
        module_of(path)
        for path in python_files()
        if module_of(path) != "cli"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]
    assert printing == []


def test_files_are_short_enough_to_read():
    long = {p.name: n for p in python_files() if (n := len(p.read_text().splitlines())) > 400}
    assert long == {}

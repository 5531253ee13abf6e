"""Model files that are whole by their checksum, but hold what no fit has found."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from blemish import part_tensors
from blemish.errors import ModelFileError
from blemish.model import load_model
from small_models import small_model
from test_model_file import rewrite


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture
def saved(model, tmp_path):
    path = tmp_path / "part.blemish"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def separate_model():
    return small_model(count=8, separate=True, standardise=True)


@pytest.fixture
def separate(separate_model, tmp_path):
    path = tmp_path / "separate.blemish"
    separate_model.save(path)
    return path


def without_the_last_part(header, tensors):
    header["parts"].pop()
    for name in [name for name in tensors if name.startswith("1.")]:
        del tensors[name]


def with_a_huge_size(header, _):
    header["preprocessing"].update(resize=[1 << 20, 1 << 20])
    header["parts"][0]["pyramid"]["grids"] = [[1 << 18, 1 << 18], [1 << 19, 1 << 19]]


def with_more_images(header, tensors):
    header["parts"][0]["moments"]["count"] = 41


def with_one_image(header, tensors):
    header["parts"][0]["moments"]["count"] = 1
    tensors["calibration.scores"] = np.zeros(1)


def with_features_of_few(_, tensors):
    for name in [name for name in tensors if name.startswith("unusual.")]:
        del tensors[name]
    tensors.update({f"kept.{k}.features": np.ones((3, 4, 2), np.float16) for k in range(2)})


def put(name, change):
    """Change a tensor by a function."""
    return lambda _, tensors: tensors.update({name: change(tensors[name])})


def spoilt(array):
    """The same numbers, but one of them none."""
    return np.where(np.arange(array.size).reshape(array.shape) == 1, np.nan, array)


JOINT = {
    "a huge grid": (
        lambda header, _: header["parts"][0]["pyramid"].update(grids=[[8, 6], [1 << 20, 6 << 20]]),
        "ValueError: levels of {'dims': [4, 2], 'grids': [[8, 6], [1048576, 6291456]]}, not "
        "Pyramid(grids=((8, 6), (16, 12)), dims=(4, 2))",
    ),
    "a huge size": (
        with_a_huge_size,
        "ValueError: mean of level 0 is uint8 (48, 4, 6), not uint8 (68719476736, 4, 6)",
    ),
    "a size that does not fit": (
        lambda header, _: header["preprocessing"].update(resize=[33, 24]),
        "InputError: The input's height and width must be multiples of 4 and at least 8, but are "
        "33x24. The nearest good sizes are 32x24 and 36x24.",
    ),
    "other kept dimensions": (
        lambda header, _: header["embedding"].update(dims=[1, 1]),
        "ValueError: kept dimensions (2, 4), not [1, 1]",
    ),
    "channels that are not there": (
        lambda _, tensors: tensors.update({"embedding.1.selection": np.arange(4) + 2}),
        "ValueError: coarse has not all of the kept channels",
    ),
    "a window of 2": (
        lambda header, _: header["embedding"].update(averaging=[1, 2]),
        "ValueError: windows of (1, 2), not (1, 3, 4)",
    ),
    "one image": (
        with_one_image,
        "ValueError: parts of [1] images, not all of the same 3 or more",
    ),
    "no whole number of images": (
        lambda header, _: header["parts"][0]["moments"].update(count=40.0),
        "ValueError: parts of [40.0] images, not all of the same 3 or more",
    ),
    "more images than scores": (
        with_more_images,
        "ValueError: calibration scores are float64 (40,), not float64 (41,)",
    ),
    "no scores": (
        put("calibration.scores", lambda scores: scores[:0]),
        "ValueError: calibration scores are float64 (0,), not float64 (40,)",
    ),
    "a score that is no number": (
        put("calibration.scores", spoilt),
        "ValueError: calibration scores are not all finite",
    ),
    "few quantiles": (
        put("calibration.pixel_quantiles", lambda quantiles: quantiles[:2]),
        "ValueError: pixel quantiles are float64 (2,), not float64 (19,)",
    ),
    "weights of one part": (
        lambda header, _: header.update(weights={"map": [1.0], "image": [1.0]}),
        "ValueError: separate is False, but the weights are PartWeights(map=(1.0,), image=(1.0,))",
    ),
    "moments of floats": (
        put("0.moments.1.own", lambda own: own.astype(np.float32)),
        "ValueError: own of level 1 is float32 (192, 3, 6), not uint8 (192, 3, 6)",
    ),
    "separate moments of a shared model": (
        lambda header, _: header["settings"].update(shared=True),
        "ValueError: shared is False of the moments, not True",
    ),
    "no fourth moments": (
        lambda header, _: header["settings"].update(shrinkage="ledoit-wolf"),
        "ValueError: cubes are missing",
    ),
    "no scales": (
        lambda header, _: header["settings"].update(score="hybrid-calibrated"),
        "ValueError: scales are None for the score hybrid-calibrated",
    ),
    "no ranks": (
        lambda header, _: header["settings"].update(score="chebyshev-two-stage"),
        "ValueError: rank_means are missing",
    ),
    "a ridge of infinity": (
        lambda header, _: header["parts"][0]["regularisation"].update(ridge=float("inf")),
        "ValueError: regularisation of (1.0, inf), not finite numbers",
    ),
    "a small ignore mask": (
        lambda _, tensors: tensors.update(ignored=np.zeros((3, 3), bool)),
        "ValueError: ignored pixels are bool (3, 3), not bool (32, 24)",
    ),
    "standardisation": (
        lambda header, tensors: (
            tensors.update(
                {"0.standardisation.mean": np.ones(192), "0.standardisation.squares": np.ones(192)}
            )
            or header["parts"][0].update(standardisation={"images": 40})
        ),
        "ValueError: standardise is False, but the part says otherwise",
    ),
    "names of fewer images": (
        put("records.names", lambda names: names[:-1]),
        "ValueError: 39 names of 40 images",
    ),
    "short digests": (
        put("records.digests", lambda digests: digests[:, :8].copy()),
        "ValueError: digests are uint8 (40, 8), not uint8 (40, 16)",
    ),
    "statistics that are no numbers": (
        put("records.statistics", spoilt),
        "ValueError: statistics are not all finite",
    ),
    "a small mean image": (
        put("mean_image", lambda image: image[:, :4].copy()),
        "ValueError: mean image are float32 (3, 4, 24), not float32 (3, 32, 24)",
    ),
    "a mean image that is no number": (
        put("mean_image", lambda image: np.full_like(image, np.inf)),
        "ValueError: a mean image that is not all finite",
    ),
    "features of fewer images": (
        with_features_of_few,
        "ValueError: features of level 0 are float16 (3, 4, 2), not float16 (40, 48, 4)",
    ),
    "features of no image": (
        lambda _, tensors: tensors.pop("unusual.numbers"),
        "ValueError: features kept of all images and of unusual ones, or of none",
    ),
    "unusual images of another model": (
        put("unusual.numbers", lambda numbers: numbers + 40),
        "ValueError: unusual images that are not among the 40",
    ),
    "a journal that lies": (
        lambda header, _: header["journal"][0].update(action="dream"),
        "ValueError: an action 'dream' with calibration 'images'",
    ),
    "a journal with no time": (
        lambda header, _: header["journal"][0].update(when="soon"),
        "ValueError: Invalid isoformat string: 'soon'",
    ),
    "a journal that counts nonsense": (
        lambda header, _: header["journal"][0].update(added=-1),
        "ValueError: a journal that counts -1 images",
    ),
}
SEPARATE = {
    "one part less": (without_the_last_part, "ValueError: 1 parts, not 2"),
    "no weights": (
        lambda header, _: header.update(weights=None),
        "ValueError: separate is True, but the weights are None",
    ),
    "short weights": (
        lambda header, _: header["weights"].update(image=[1.0]),
        "ValueError: weights of (1.0,) for 2 parts",
    ),
    "weights of infinity": (
        lambda header, _: header["weights"].update(map=[1.0, float("inf")]),
        "ValueError: weights of (1.0, inf) for 2 parts",
    ),
    "weights below 0": (
        lambda header, _: header["weights"].update(map=[1.0, -1.0]),
        "ValueError: weights of (1.0, -1.0) for 2 parts",
    ),
    "no weight at all": (
        lambda header, _: header["weights"].update(map=[0.0, 0.0]),
        "ValueError: weights of (0.0, 0.0) for 2 parts",
    ),
    "parts of other images": (
        lambda header, _: header["parts"][1]["moments"].update(count=9),
        "ValueError: parts of [8, 9] images, not all of the same 3 or more",
    ),
    "levels in another order": (
        lambda header, _: header["parts"].reverse(),
        "ValueError: levels of {'dims': [2], 'grids': [[16, 12]]}, not "
        "Pyramid(grids=((8, 6),), dims=(4,))",
    ),
    "short means": (
        put("1.standardisation.mean", lambda mean: mean[:1]),
        "ValueError: means of the standardisation are float64 (1,), not float64 (192,)",
    ),
    "a mean that is no number": (
        put("1.standardisation.mean", spoilt),
        "ValueError: means of the standardisation are not all finite",
    ),
    "squares below 0": (
        put("1.standardisation.squares", lambda squares: -squares),
        "ValueError: squares of the standardisation below 0",
    ),
    "no images behind a standardisation": (
        lambda header, _: header["parts"][1]["standardisation"].update(images=0),
        "ValueError: a standardisation from 0 images",
    ),
    "no means": (
        lambda _, tensors: tensors.pop("1.standardisation.mean"),
        "KeyError: 'standardisation.mean'",
    ),
    "no standardisation": (
        lambda header, _: header["parts"][1].update(standardisation=None),
        "ValueError: standardise is True, but the part says otherwise",
    ),
}


def assert_no_whole_model(path, change, why):
    rewrite(path, change, sign=True)
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    assert str(caught.value) == (
        f"{path} must hold a whole model, but does not ({why}). "
        "Fit the model again, or restore the file."
    )


@pytest.mark.parametrize(("change", "why"), JOINT.values(), ids=JOINT)
def test_a_model_that_no_fit_finds_is_refused(saved, change, why):
    assert_no_whole_model(saved, change, why)


@pytest.mark.parametrize(("change", "why"), SEPARATE.values(), ids=SEPARATE)
def test_parts_that_no_fit_finds_are_refused(separate, change, why):
    assert_no_whole_model(separate, change, why)


def test_a_version_may_be_written_as_text(saved):
    rewrite(saved, lambda header, _: header.update(version="3"), sign=True)
    assert load_model(saved).count == 40


@pytest.mark.parametrize("version", ["two", None, [], float("inf"), float("nan")])
def test_a_version_that_is_no_number_is_damage(saved, version):
    rewrite(saved, lambda header, _: header.update(version=version), sign=True)
    with pytest.raises(ModelFileError) as caught:
        load_model(saved)
    assert str(caught.value) == (
        f"{saved} must describe its model, but the description is damaged. "
        "Restore it, or fit the model again."
    )


def test_a_description_of_endless_depth_is_damage(tmp_path):
    path = tmp_path / "deep.blemish"
    save_file({"a": np.zeros(3)}, path, metadata={"blemish": "[" * 200_000})
    with pytest.raises(ModelFileError, match="the description is damaged"):
        load_model(path)


@pytest.mark.parametrize("name", ["backbone", "0.moments.0.own"])
@pytest.mark.parametrize("kind", ["F8_E4M3", "BF16"])
def test_numbers_of_another_kind_are_refused(saved, name, kind):
    content = saved.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    first, last = header[name]["data_offsets"]
    header[name].update(
        dtype=kind, shape=[last - first if kind == "F8_E4M3" else (last - first) // 2]
    )
    text = json.dumps(header).encode()
    saved.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    with pytest.raises(ModelFileError, match="is damaged"):
        load_model(saved)


def test_a_lack_of_memory_is_no_fault_of_the_file(saved, monkeypatch):
    def full(*_, **__):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr(part_tensors, "Moments", full)
    with pytest.raises(MemoryError, match="9 TiB"):
        load_model(saved)

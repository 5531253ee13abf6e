"""Files of torch.save are read as torch reads them, and nothing in them is ever run."""

import contextlib
import io
import math
import pickle
import re
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import torch_files as tf
from blemish.backbones.restricted_pickle import Global, PickleRefusedError, read_pickle
from blemish.backbones.state_dict import read_state_dict
from blemish.backbones.tensor_bytes import array_from_bytes
from blemish.backbones.torch_file import MAX_PICKLE_BYTES, read_torch_file
from blemish.errors import BackboneError

FLOATS = np.arange(6, dtype="<f4")
VECTOR = tf.tensor(tf.storage("Float", "0", 6), (6,), (1,))


def refuse(path):
    with pytest.raises(BackboneError) as caught:
        read_torch_file(path)
    return str(caught.value)


def damaged(path, reason):
    return (
        f"A .pth file must be what torch.save writes, but {path} is damaged or something else "
        f"({reason}). Get the file again, or save the weights as safetensors."
    )


def asks_for(path, what):
    return (
        f"A weight file must hold tensors, numbers and text only, but {path} asks for {what}, "
        "which could run a program. Save model.state_dict() alone, best as safetensors."
    )


# --- what is read ------------------------------------------------------------------------


@pytest.mark.parametrize("text", [tf.GOLDEN_ZIP, tf.GOLDEN_LEGACY], ids=["zip", "legacy"])
def test_golden_files_of_torch(text, tmp_path):
    path = tmp_path / "golden.pth"
    path.write_bytes(tf.golden(text))
    found = read_state_dict(path)
    expected = {
        "a": np.array([[0, 3], [1, 4], [2, 5]], np.float32),
        "b": np.array([1, -2]),
        "c": np.array([0.5, 3], np.float32),
    }
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


FORMATS = [
    ("Float", "<f4"),
    ("Double", "<f8"),
    ("Half", "<f2"),
    ("Long", "<i8"),
    ("Int", "<i4"),
    ("Short", "<i2"),
    ("Char", "i1"),
    ("Byte", "u1"),
    ("Bool", "?"),
]


@pytest.mark.parametrize(("kind", "dtype"), FORMATS)
def test_number_formats(kind, dtype, tmp_path):
    numbers = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype)
    body = tf.dictionary({"a": tf.tensor(tf.storage(kind, "0", 6), (2, 3), (3, 1))})
    zipped = tf.zip_file(tmp_path / "z.pth", body, {"0": numbers.tobytes()})
    legacy = tf.dictionary({"a": tf.tensor(tf.storage(kind, "0", 6, None), (2, 3), (3, 1))})
    old = tf.legacy_file(tmp_path / "l.pth", legacy, {"0": (6, numbers.tobytes())})
    for path in (zipped, old):
        found = read_torch_file(path)["a"]
        assert found.dtype == numbers.dtype
        np.testing.assert_array_equal(found, numbers)


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=20))
def test_law_bfloat16_is_float32_with_the_low_half_cut_off(values):
    bits = np.array(values, np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    raw = (bits >> 16).astype("<u2").tobytes()
    np.testing.assert_array_equal(array_from_bytes(raw, "BF16"), bits.view(np.float32))


def test_views_share_a_storage_and_parameters_are_tensors(tmp_path):
    stored = tf.storage("Float", "7", 6)
    body = tf.ordered(
        {
            "transposed": tf.tensor(stored, (3, 2), (1, 3)),
            "part": tf.tensor(stored, (2,), (2,), offset=1),
            "scalar": tf.tensor(stored, (), (), offset=5),
            "empty": tf.tensor(stored, (0, 3), (3, 1)),
            "parameter": tf.call("torch._utils._rebuild_parameter", VECTOR, True, None),
            "epoch": 3,
        }
    )
    path = tf.zip_file(tmp_path / "z.pth", body, {"0": FLOATS.tobytes(), "7": FLOATS.tobytes()})
    found = read_torch_file(path)
    np.testing.assert_array_equal(found["transposed"], FLOATS.reshape(2, 3).T)
    np.testing.assert_array_equal(found["part"], [1, 3])
    assert found["scalar"].shape == ()
    assert found["scalar"] == 5
    assert found["empty"].shape == (0, 3)
    np.testing.assert_array_equal(found["parameter"], FLOATS)
    assert "epoch" not in found


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_a_nested_state_dict_is_found(key, tmp_path):
    inner = tf.ordered({"a": VECTOR})
    size = tf.call("torch.Size", (2, 3))
    body = tf.dictionary({"epoch": 3, "size": size, key: inner, "note": "x"})
    path = tf.zip_file(tmp_path / "z.pth", body, {"0": FLOATS.tobytes()})
    assert list(read_torch_file(path)) == ["a"]


def test_big_endian_files_are_read(tmp_path):
    body = tf.dictionary({"a": VECTOR})
    big = FLOATS.astype(">f4").tobytes()
    path = tf.zip_file(tmp_path / "z.pth", body, {"0": big}, extra=[("byteorder", b"big")])
    np.testing.assert_array_equal(read_torch_file(path)["a"], FLOATS)


# --- what is refused ---------------------------------------------------------------------


class Bomb:
    """Leaves a trace if somebody unpickles it the usual way."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (eval, (f"open({str(self.trace)!r}, 'w').close()",))


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_file_that_would_run_a_program_is_refused_and_does_not(protocol, tmp_path):
    bomb = pickle.dumps({"a": Bomb(tmp_path / "trace")}, protocol)
    path = tmp_path / "z.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", bomb)
    module = "__builtin__" if protocol < 3 else "builtins"
    assert refuse(path) == asks_for(path, f"{module}.eval")
    assert not (tmp_path / "trace").exists()


CALLS = [
    (tf.call("os.system", "true"), "os.system"),
    (tf.call("torch._utils._rebuild_qtensor", 1), "torch._utils._rebuild_qtensor"),
    (tf.call("numpy.core.multiarray.scalar", 1), "numpy.core.multiarray.scalar"),
    (tf.plain(("storage", tf.name("torch.QInt8Storage"), "0", "cpu", 6)) + b"Q",
     "the storage type torch.QInt8Storage"),
    (tf.storage("Float", "0", 6, ("1", 0, 3)), "a view of a storage, as torch 0.3 wrote it"),
    (tf.plain(("module", "x")) + b"Q", "an object that is no tensor storage"),
    (VECTOR + tf.dictionary({"x": 1}) + b"b", "setting attributes of a _Tensor"),
    (b"}(" + tf.plain((1,)) + tf.plain(2) + b"u", "a dictionary key of type tuple"),
    (b"\x82\x01", "the pickle instruction EXT1"),
    (b"(S'x'\nios\nsystem\n", "the pickle instruction INST"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "what"), CALLS, ids=[what for _, what in CALLS])
def test_anything_but_tensors_is_refused_by_name(value, what, tmp_path):
    body = tf.dictionary({"a": VECTOR, "b": value})
    path = tf.zip_file(tmp_path / "z.pth", body, {"0": FLOATS.tobytes()})
    assert refuse(path) == asks_for(path, what)


def test_torchscript_is_refused(tmp_path):
    body = tf.dictionary({"a": VECTOR})
    path = tf.zip_file(
        tmp_path / "z.pt", body, {"0": FLOATS.tobytes()}, extra=[("constants.pkl", b"")]
    )
    assert refuse(path) == asks_for(path, "the code of a TorchScript model")


def test_a_file_without_tensors_says_what_it_holds(tmp_path):
    path = tf.zip_file(tmp_path / "z.pth", tf.plain(3), {})
    assert refuse(path) == (
        f"A weight file must hold a state dict, but {path} holds a int without tensors. "
        "Save model.state_dict(), or a dictionary with it under state_dict."
    )


TENSORS = [
    (tf.tensor(tf.storage("Float", "0", 6), (7,), (1,)), "behind the end of storage 0"),
    (tf.tensor(tf.storage("Float", "0", 6), (2,), (6,)), "behind the end of storage 0"),
    (tf.tensor(tf.storage("Float", "0", 6), (6,), (1,), offset=1), "behind the end of storage 0"),
    (tf.tensor(tf.storage("Float", "0", 6), (10**9, 10**9), (0, 0)), "behind the end"),
    (tf.tensor(tf.storage("Float", "0", 6), (2,), (-1,)), "no whole number of at least 0"),
    (tf.tensor(tf.storage("Float", "0", 6), (2,), (1,), offset=-1), "no whole number"),
    (tf.tensor(tf.storage("Float", "0", 6), (2, 3), (1,)), "other numbers of sizes and strides"),
    (tf.tensor(tf.plain(0), (2,), (1,)), "a tensor without a storage"),
    (tf.tensor(tf.storage("Float", "0", 600), (600,), (1,)), "has 24 bytes in place of 2400"),
    (tf.tensor(tf.storage("Float", "1", 6), (6,), (1,)), "no item named 'archive/data/1'"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "reason"), TENSORS)
def test_tensors_outside_of_their_storage_are_refused(value, reason, tmp_path):
    body = tf.dictionary({"good": VECTOR, "bad": value})
    path = tf.zip_file(tmp_path / "z.pth", body, {"0": FLOATS.tobytes()})
    text = refuse(path)
    assert re.fullmatch(
        re.escape(damaged(path, "@")).replace("@", f".*{re.escape(reason)}.*"), text
    )


def test_a_legacy_storage_that_two_tensors_describe_differently_is_refused(tmp_path):
    """The second must not be read from the first one's smaller array."""
    small = tf.tensor(tf.storage("Float", "0", 6, None), (6,), (1,))
    large = tf.tensor(tf.storage("Double", "0", 6, None), (6,), (1,))
    for entries in ({"a": small, "b": large}, {"a": large, "b": small}):
        path = tmp_path / "l.pth"
        tf.legacy_file(path, tf.dictionary(entries), {"0": (6, FLOATS.tobytes())})
        assert "in place of 48" in refuse(path) or "behind the end of the file" in refuse(path)


def test_entries_that_could_unpack_to_more_than_they_should_are_refused(tmp_path):
    body = tf.dictionary({"a": VECTOR})
    zeros = bytes(2**22)
    path = tf.zip_file(tmp_path / "z.pth", body, {"0": zeros}, compression=zipfile.ZIP_DEFLATED)
    reason = "archive/data.pkl is compressed, which torch.save never does"
    assert refuse(path) == damaged(path, reason)
    path = tf.zip_file(tmp_path / "z.pth", body, {"0": zeros})
    assert refuse(path) == damaged(path, f"archive/data/0 has {2**22} bytes, more than 24")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(MAX_PICKLE_BYTES + 1))
    reason = f"archive/data.pkl has {MAX_PICKLE_BYTES + 1} bytes, more than {MAX_PICKLE_BYTES}"
    assert refuse(path) == damaged(path, reason)


def test_other_zip_archives_are_refused(tmp_path):
    path = tmp_path / "z.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    reason = "a zip archive with 0 entries data.pkl in place of 1"
    assert refuse(path) == damaged(path, reason)


LEGACY = [
    ({"magic": 5}, {"0": (6, FLOATS.tobytes())}, "no magic number of torch.save"),
    ({"protocol": 5}, {"0": (6, FLOATS.tobytes())}, "an unknown protocol version"),
    ({}, {"0": (5, FLOATS.tobytes())}, "storage 0 has 5 numbers in place of 6"),
    ({}, {"0": (6, FLOATS.tobytes()[:-3])}, "storage 0 ends 3 bytes behind the end of the file"),
    ({}, {}, "0"),
    ({}, {"9": (6, FLOATS.tobytes())}, "9"),
]


@pytest.mark.parametrize(("header", "storages", "reason"), LEGACY)
def test_damaged_legacy_files_are_refused(header, storages, reason, tmp_path):
    body = tf.dictionary({"a": tf.tensor(tf.storage("Float", "0", 6, None), (6,), (1,))})
    path = tf.legacy_file(tmp_path / "l.pth", body, storages, **header)
    assert refuse(path) == damaged(path, reason)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), legacy=st.booleans())
def test_law_a_damaged_file_is_read_or_refused_and_nothing_else(data, legacy, tmp_path):
    content = bytearray(tf.golden(tf.GOLDEN_LEGACY if legacy else tf.GOLDEN_ZIP))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with contextlib.suppress(BackboneError):
        found = read_torch_file(path)
        assert all(isinstance(array, np.ndarray) for array in found.values())


# --- the pickle machine ------------------------------------------------------------------


def no_call(name, arguments):
    raise PickleRefusedError(name)


plain_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)


def same(a, b):
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return a == b


@given(plain_data, st.integers(0, 5))
def test_law_plain_data_are_read_as_pickle_reads_them(value, protocol):
    stream = io.BytesIO(pickle.dumps(value, protocol) + b"rest")
    assert same(read_pickle(stream, call=no_call, load_persistent=no_call), value)
    assert stream.read() == b"rest"


def test_names_are_data():
    assert read_pickle(
        io.BytesIO(pickle.dumps([print], 5)), call=no_call, load_persistent=no_call
    ) == [Global("builtins.print")]

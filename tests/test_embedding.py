import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from blemish.embedding import choose_embedding, layer_covariances, sum_layers
from blemish.errors import InputError, ShapeError

CHANNELS = [6, 8, 12]


def made_up_maps(count=3, seed=0):
    generator = np.random.default_rng(seed)
    return [
        generator.normal(size=(count, channels, side, side)).astype(np.float32)
        for channels, side in zip(CHANNELS, (8, 4, 2), strict=True)
    ]


@given(dims=st.integers(1, 26), seed=st.integers(0, 1000))
def test_law_random_keeps_that_many_distinct_channels(dims, seed):
    embedding = choose_embedding(CHANNELS, dims=dims, seed=seed)
    assert sum(embedding.dims) == dims
    for selection, channels in zip(embedding.selections, CHANNELS, strict=True):
        assert len(set(selection.tolist())) == len(selection)
        assert all(0 <= channel < channels for channel in selection)


def test_the_same_seed_draws_the_same_and_another_another():
    def drawn(seed):
        return [s.tolist() for s in choose_embedding(CHANNELS, dims=9, seed=seed).selections]

    assert drawn(4) == drawn(4)
    assert drawn(4) != drawn(5)


def test_choosing_touches_no_global_generator():
    np.random.seed(1)  # noqa: NPY002 - the global generator is what is tested
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    choose_embedding(CHANNELS, dims=9)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_levels_are_the_selected_channels_coarse_to_fine():
    maps = made_up_maps()
    embedding = choose_embedding(CHANNELS, dims=[2, 0, 3])
    levels = embedding(maps)
    assert [level.shape for level in levels] == [(3, 4, 3), (3, 64, 2)]
    fine, _, coarse = embedding.selections
    np.testing.assert_array_equal(levels[1][:, 10, 1], maps[0][:, fine[1], 1, 2])
    np.testing.assert_array_equal(levels[0][:, 3, 2], maps[2][:, coarse[2], 1, 1])
    pyramid = embedding.pyramid([(8, 8), (4, 4), (2, 2)])
    assert (pyramid.grids, pyramid.dims) == (((2, 2), (8, 8)), (3, 2))


def test_none_keeps_every_channel():
    embedding = choose_embedding(CHANNELS, reduction="none")
    assert [s.tolist() for s in embedding.selections] == [list(range(c)) for c in CHANNELS]


def test_stratified_keeps_each_layers_share():
    assert choose_embedding(CHANNELS, reduction="stratified", dims=13).dims == (3, 4, 6)


def test_semi_orthogonal_projections_have_orthonormal_columns():
    embedding = choose_embedding(CHANNELS, reduction="semi-orthogonal", dims=13, seed=2)
    for projection in embedding.projections:
        np.testing.assert_allclose(
            projection.T @ projection, np.eye(projection.shape[1]), atol=1e-6
        )
    maps = made_up_maps()
    expected = np.einsum("ncyx,cd->nyxd", maps[1], embedding.projections[1]).reshape(3, 16, -1)
    np.testing.assert_allclose(embedding(maps)[1], expected, rtol=1e-4, atol=1e-5)


def test_pca_directions_are_those_of_sklearn():
    maps = made_up_maps(20)
    covariances = layer_covariances([[m[:7] for m in maps], [m[7:] for m in maps]])
    embedding = choose_embedding(CHANNELS, reduction="pca", dims=[2, 2, 2], covariances=covariances)
    for layer, projection in zip(maps, embedding.projections, strict=True):
        samples = layer.transpose(0, 2, 3, 1).reshape(-1, layer.shape[1]).astype(np.float64)
        expected = PCA(2, svd_solver="full").fit(samples).components_
        overlap = np.abs(expected @ projection)
        np.testing.assert_allclose(overlap, np.eye(2), atol=1e-4)


def test_layer_covariance_is_that_of_numpy():
    maps = made_up_maps(6)
    found = layer_covariances([[m[:1] for m in maps], [m[1:] for m in maps]])
    for layer, covariance in zip(maps, found, strict=True):
        samples = layer.transpose(0, 2, 3, 1).reshape(-1, layer.shape[1]).astype(np.float64)
        np.testing.assert_allclose(covariance, np.cov(samples, rowvar=False), rtol=1e-9)


def test_layer_sums_add_the_averaged_repeated_finer_layer():
    generator = np.random.default_rng(0)
    fine = generator.normal(size=(1, 2, 4, 4)).astype(np.float32)
    coarse = generator.normal(size=(1, 4, 2, 2)).astype(np.float32)
    summed = sum_layers([fine, coarse])
    np.testing.assert_array_equal(summed[0], fine)
    expected = coarse[0, 3, 1, 0] + fine[0, 1, 2:, :2].mean()
    assert summed[1][0, 3, 1, 0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"reduction": "lottery"},
            "reduction must be one of random, stratified, semi-orthogonal, pca, none, but is "
            "'lottery'. Choose one.",
        ),
        (
            {"dims": 27},
            "dims must be 1 to 26, the channels of the layers (6, 8, 12), but is 27. "
            "Choose a number in that range.",
        ),
        (
            {"dims": [1, 9, 1]},
            "dims must give 0 to 6, 8, 12 for the 3 layers, and not only 0, but is 1, 9, 1. "
            "Give one number per layer, fine to coarse.",
        ),
        (
            {"reduction": "none", "dims": 5},
            "reduction 'none' keeps all 26 channels, but dims is 5. "
            "Leave dims out, or choose another reduction.",
        ),
        (
            {"reduction": "pca", "dims": 5},
            "PCA needs the covariance of each layer's channels, but none was given. "
            "Compute it over the training images first.",
        ),
    ],
)
def test_what_cannot_be_chosen_is_refused(settings, text):
    with pytest.raises(InputError) as caught:
        choose_embedding(CHANNELS, **settings)
    assert str(caught.value) == text


def test_another_number_of_layers_is_refused():
    with pytest.raises(ShapeError, match="feature maps of 3 layers, but there are 2"):
        choose_embedding(CHANNELS, dims=3)(made_up_maps()[:2])


def test_layer_sums_need_multiples():
    with pytest.raises(InputError, match="8 is no multiple of 6"):
        sum_layers(made_up_maps())


@pytest.mark.parametrize("reduction", ["random", "stratified"])
def test_constant_channels_are_drawn_last_and_the_rest_in_the_same_order(reduction):
    constant = [np.zeros(6, bool), np.arange(8) < 5, np.zeros(12, bool)]
    drawn = choose_embedding(CHANNELS, reduction=reduction, dims=9, seed=3, constant=constant)
    assert not set(drawn.selections[1].tolist()) & set(range(5))
    silent = [np.zeros(c, bool) for c in CHANNELS]
    same = choose_embedding(CHANNELS, reduction=reduction, dims=9, seed=3, constant=silent)
    plain = choose_embedding(CHANNELS, reduction=reduction, dims=9, seed=3)
    for mine, other in zip(same.selections, plain.selections, strict=True):
        np.testing.assert_array_equal(mine, other)
    assert sum(choose_embedding(CHANNELS, dims=26, seed=3, constant=constant).dims) == 26

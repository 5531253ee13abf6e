"""ResNets the dull way, for the tests: random weights, and float64 NumPy in place of ONNX.

Written from the papers' tables and torchvision's parameter names, apart from the code under
test: batch norm is not folded, and a convolution is a sum over windows.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "wide_resnet50_2": (3, 4, 6, 3),
}
WIDTH = {"resnet18": 64, "resnet34": 64, "resnet50": 64, "wide_resnet50_2": 128}
MEAN = np.array([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
STD = np.array([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)


def convolutions(name, layers):
    """All convolutions as (name, batch norm, channels out, channels in, kernel)."""
    bottleneck = name in {"resnet50", "wide_resnet50_2"}
    found = [("conv1", "bn1", 64, 3, 7)]
    before = 64
    for layer in range(1, layers + 1):
        inner = WIDTH[name] * 2 ** (layer - 1)
        after = 64 * 2 ** (layer - 1) * (4 if bottleneck else 1)
        for block in range(BLOCKS[name][layer - 1]):
            at = f"layer{layer}.{block}"
            if bottleneck:
                found.append((f"{at}.conv1", f"{at}.bn1", inner, before, 1))
                found.append((f"{at}.conv2", f"{at}.bn2", inner, inner, 3))
                found.append((f"{at}.conv3", f"{at}.bn3", after, inner, 1))
            else:
                found.append((f"{at}.conv1", f"{at}.bn1", after, before, 3))
                found.append((f"{at}.conv2", f"{at}.bn2", after, after, 3))
            if block == 0 and (before != after or layer > 1):
                found.append((f"{at}.downsample.0", f"{at}.downsample.1", after, before, 1))
            before = after
    return found


def random_weights(name, layers=3, seed=0):
    """A state dict that keeps values near 1, with every batch norm away from the identity."""
    rng = np.random.default_rng(seed)
    weights = {}
    for conv, norm, out, into, kernel in convolutions(name, layers):
        weight = rng.standard_normal((out, into, kernel, kernel), dtype=np.float32)
        weights[f"{conv}.weight"] = weight / np.float32(np.sqrt(into * kernel**2))
        weights[f"{norm}.weight"] = rng.uniform(0.4, 1.0, out).astype(np.float32)
        weights[f"{norm}.bias"] = rng.normal(0, 0.3, out).astype(np.float32)
        weights[f"{norm}.running_mean"] = rng.normal(0, 0.3, out).astype(np.float32)
        weights[f"{norm}.running_var"] = rng.uniform(0.3, 2.0, out).astype(np.float32)
        weights[f"{norm}.num_batches_tracked"] = np.array(7)
    return weights


def features(name, weights, images, layers=3):
    """Feature maps of layer1 up to `layers`, float64."""

    def conv_norm(x, conv, norm, stride=1):
        x = convolve(x, weights[f"{conv}.weight"].astype(float), stride)
        gamma, beta, mean, variance = (
            weights[f"{norm}.{part}"].astype(float).reshape(1, -1, 1, 1)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    x = relu(conv_norm((images - MEAN) / STD, "conv1", "bn1", 2))
    x = max_pool(x)
    maps = []
    for layer in range(1, layers + 1):
        for block in range(BLOCKS[name][layer - 1]):
            at = f"layer{layer}.{block}"
            stride = 2 if layer > 1 and block == 0 else 1
            shortcut = x
            if f"{at}.downsample.0.weight" in weights:
                shortcut = conv_norm(x, f"{at}.downsample.0", f"{at}.downsample.1", stride)
            if f"{at}.conv3.weight" in weights:
                x = relu(conv_norm(x, f"{at}.conv1", f"{at}.bn1"))
                x = relu(conv_norm(x, f"{at}.conv2", f"{at}.bn2", stride))
                x = conv_norm(x, f"{at}.conv3", f"{at}.bn3")
            else:
                x = relu(conv_norm(x, f"{at}.conv1", f"{at}.bn1", stride))
                x = conv_norm(x, f"{at}.conv2", f"{at}.bn2")
            x = relu(x + shortcut)
        maps.append(x)
    return maps


def convolve(x, weight, stride):
    kernel = weight.shape[-1]
    pad = kernel // 2
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = sliding_window_view(padded, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]
    return np.einsum("nchwij,kcij->nkhw", windows, weight, optimize=True)


def max_pool(x):
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    return sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2].max(axis=(-1, -2))


def relu(x):
    return np.maximum(x, 0)

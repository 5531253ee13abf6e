"""PaDiM in plain PyTorch, straightforward, the way common implementations do it.

To be measured against, and sharing no code with the library: ResNet-18 with its batch norms,
nearest upsampling and concatenation of three layers, one full inverse covariance per position,
bilinear upsampling to the image, and one two-dimensional Gaussian blur.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch  # type: ignore[import-not-found, unused-ignore]
from safetensors.torch import load_file
from torch import nn  # type: ignore[import-not-found, unused-ignore]
from torch.nn import functional  # type: ignore[import-not-found, unused-ignore]

SIGMA, KERNEL = 4.0, 33
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Module: Any = nn.Module
Tensor = Any


class Block(Module):  # type: ignore[misc, unused-ignore]
    """Two 3x3 convolutions and the way around them."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample = None
        if stride != 1:
            around = nn.Conv2d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(around, nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        """Run the block."""
        around = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)) + around)


class Trunk(Module):  # type: ignore[misc, unused-ignore]
    """ResNet-18 up to layer 3; names of parameters as in torchvision."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))
        self.layer3 = nn.Sequential(Block(128, 256, 2), Block(256, 256, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps of layers 1, 2 and 3."""
        x = functional.relu(self.bn1(self.conv1(x)))
        first = self.layer1(functional.max_pool2d(x, 3, 2, 1))
        second = self.layer2(first)
        return [first, second, self.layer3(second)]


class TorchPadim(Module):  # type: ignore[misc, unused-ignore]
    """PaDiM.

    Parameters
    ----------
    weights : Path
        State dict of ResNet-18.
    kept : list of int
        Channels of the 448 of layers 1, 2 and 3 together.
    epsilon : float
    contiguous : bool, default False
        Copy the deviations so that positions come first in memory before they are multiplied.
        Common implementations leave it out, and pay with a slow batched product.
    """

    def __init__(
        self, weights: Path, kept: list[int], epsilon: float = 0.01, *, contiguous: bool = False
    ) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.trunk.load_state_dict(load_file(weights))
        self.epsilon, self.contiguous = epsilon, contiguous
        self.register_buffer("kept", torch.tensor(kept))
        self.register_buffer("channel_mean", torch.tensor(MEAN).reshape(1, 3, 1, 1))
        self.register_buffer("channel_std", torch.tensor(STD).reshape(1, 3, 1, 1))
        self.register_buffer("kernel", gaussian_kernel())
        self.mean: Tensor = None
        self.precision: Tensor = None
        self.eval()

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings (N, D, h, w) of images (N, 3, H, W) in 0..1."""
        layers = self.trunk((images - self.channel_mean) / self.channel_std)
        size = layers[0].shape[-2:]
        repeated = [functional.interpolate(one, size=size, mode="nearest") for one in layers]
        return torch.index_select(torch.cat(repeated, 1), 1, self.kept)

    def fit(self, images: Tensor) -> None:
        """Mean and inverse covariance of every position; images (N, 3, H, W)."""
        with torch.inference_mode():
            parts = [self.embed(batch).flatten(2) for batch in images.split(16)]
            embeddings = torch.cat(parts).permute(2, 0, 1).double()  # (P, N, D)
            self.mean = embeddings.mean(1, keepdim=True)
            centred = embeddings - self.mean
            covariance = centred.mT @ centred / (len(images) - 1)
            covariance += self.epsilon * torch.eye(len(self.kept), dtype=torch.float64)
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
            self.precision = inverse.float().contiguous()
            self.mean = self.mean[:, 0].T.float().contiguous()  # (D, P)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, H, W) and scores (N,)."""
        embedding = self.embed(images)
        count, _, height, width = embedding.shape
        delta = (embedding.flatten(2) - self.mean).permute(2, 0, 1)  # (P, N, D)
        if self.contiguous:
            delta = delta.contiguous()
        squared = (torch.matmul(delta, self.precision) * delta).sum(2).permute(1, 0)
        grid = squared.reshape(count, 1, height, width).clamp(min=0).sqrt()
        maps = functional.interpolate(
            grid, size=images.shape[-2:], mode="bilinear", align_corners=False
        )
        padded = functional.pad(maps, [KERNEL // 2] * 4, mode="reflect")
        maps = functional.conv2d(padded, self.kernel)[:, 0]
        return maps, maps.flatten(1).amax(1)


def gaussian_kernel() -> Tensor:
    """Kernel (1, 1, 33, 33) that sums to 1."""
    away = torch.arange(KERNEL) - KERNEL // 2
    line = torch.exp(-0.5 * (away / SIGMA) ** 2)
    plane = line[:, None] * line[None]
    return (plane / plane.sum())[None, None]

"""Folding changes how often feature maps are gone over, not what comes out."""

import copy

import pytest
import timm
import torch
from torch import nn

from skcsflow.nn import MultiScaleFeatureExtractor
from skcsflow.nn._fold import fold_batch_norms


def randomise(network, seed=0):
    """Give batch norms statistics and weights that make a difference."""
    generator = torch.Generator().manual_seed(seed)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.2, generator=generator)
            norm.running_var.uniform_(0.5, 2, generator=generator)
            if norm.affine:
                nn.init.uniform_(norm.weight, 0.5, 1.5, generator=generator)
                nn.init.normal_(norm.bias, 0, 0.2, generator=generator)
    return network.eval().requires_grad_(False)


def n_norms(network):
    return sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())


@pytest.mark.parametrize(
    "name",
    ["test_efficientnet", "tf_efficientnet_lite0", "mobilenetv3_small_050", "ghostnet_100", "resnet10t", "test_resnet"],
)  # fmt: skip
def test_fold_of_a_network_keeps_its_outputs_and_no_norm(name):
    network = randomise(timm.create_model(name, num_classes=0, global_pool="")).double()
    x = torch.randn(2, 3, 70, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = network(x)
    before = n_norms(network)
    n_folded = fold_batch_norms(network, x)
    assert n_folded > 5
    assert n_norms(network) == before - n_folded == 0
    torch.testing.assert_close(network(x), expected, rtol=1e-10, atol=1e-12)
    assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_fold_with_or_without_bias_and_weights_keeps_outputs(affine, bias):
    network = randomise(
        nn.Sequential(nn.Conv2d(3, 5, 3, bias=bias), nn.BatchNorm2d(5, affine=affine))
    ).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    expected = network(x)
    assert fold_batch_norms(network, x) == 1
    torch.testing.assert_close(network(x), expected, rtol=1e-12, atol=1e-12)


class Branching(nn.Module):
    """Has norms that must stay: not after a convolution, after one that serves twice, or serving twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.BatchNorm2d(3)
        self.shared = nn.Conv2d(3, 3, 1)
        self.one = nn.BatchNorm2d(3)
        self.conv_a = nn.Conv2d(3, 3, 1)
        self.conv_b = nn.Conv2d(3, 3, 1)
        self.two = nn.BatchNorm2d(3)

    def forward(self, x):
        x = self.first(x)
        x = self.one(self.shared(self.shared(x)))
        return self.two(self.conv_a(x)) + self.two(self.conv_b(x))


def test_fold_of_norms_that_cannot_be_folded_leaves_them():
    network = randomise(Branching()).double()
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    expected = network(x)
    assert fold_batch_norms(network, x) == 0
    torch.testing.assert_close(network(x), expected, rtol=0, atol=0)


def test_fold_of_a_norm_beside_another_use_of_its_convolution_leaves_it():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x):
            y = self.conv(x)
            return y + self.norm(y)

    network = randomise(Skip()).double()
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    expected = network(x)
    assert fold_batch_norms(network, x) == 0
    torch.testing.assert_close(network(x), expected, rtol=0, atol=0)


def test_fold_in_the_extractor_leaves_no_norms_and_features_near_those_in_float64():
    extractor = MultiScaleFeatureExtractor("tf_efficientnet_lite0")
    assert n_norms(extractor) == 0
    images = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    (single, *_), (double, *_) = extractor(images), copy.deepcopy(extractor).double()(images.double())
    assert (single - double).abs().max() < 1e-5 * double.abs().max()

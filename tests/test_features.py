"""What experts see: the classifier's input, and statistics that do not depend on company."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from distillkit.base.errors import ParamsError
from distillkit.networks.parameters import call_with, measure_statistics
from distillkit.networks.specs import NetworkSpec, build_network, without_classifier
from distillkit.training import features
from distillkit.training.features import expert_features, spread_rows


@pytest.fixture
def seen(material):
    return lambda count=1: expert_features(material.experts, count, material.real, material.normalisation)


@pytest.mark.parametrize("spec", [NetworkSpec("convnet", "instance", 1, 4), NetworkSpec("resnet18", "none")])
def test_features_are_what_the_classifier_sees(material, spec):
    x_NCHW = material.normalisation.apply(material.real.pixels()[:5])
    whole, cut = (build_network(spec, (1, 8, 8), 10, 0) for _ in range(2))
    classifier = [module for module in whole.modules() if isinstance(module, nn.Linear)][-1]
    assert torch.equal(classifier(without_classifier(cut)(x_NCHW)), whole(x_NCHW))


def test_features_are_those_of_the_last_snapshot(material, seen):
    """The classifier on top of the features gives the expert's logits: by statistics of all 300."""
    experts, images = material.experts, material.normalisation.apply(material.real.pixels())
    theta_P = experts.read(0, experts.snapshots - 1)
    network = build_network(experts.spec, material.real.image_shape, 10, 0).train()
    logits = call_with(network, theta_P, images)
    weight, bias = theta_P[-10 - 10 * 64 : -10].view(10, 64), theta_P[-10:]
    ours = seen()(torch.arange(300)) @ weight.T + bias
    assert torch.allclose(ours, logits, atol=0.05), "the variance of a pass is biased, that of evaluation is not"
    assert (ours.argmax(1) == logits.argmax(1)).double().mean() > 0.99


def test_an_image_is_seen_alike_in_any_company(seen, monkeypatch):
    together = seen()(torch.arange(300))
    monkeypatch.setattr(features, "CHUNK", 7)
    assert torch.allclose(together, seen()(torch.arange(300)), atol=1e-5)
    assert torch.allclose(together[40:41], seen()(torch.tensor([40])), atol=1e-5)


def test_statistics_are_those_of_the_sample():
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(1, 2))
    measure_statistics(network, torch.tensor([1.0, 2.0, 6.0]).view(3, 1, 1, 1))
    assert network[0].running_mean.item() == 3
    assert network[0].running_var.item() == 7, "((1 − 3)² + (2 − 3)² + (6 − 3)²) / 2"
    assert not network.training


def test_several_experts_stand_side_by_side(seen):
    rows = torch.arange(10)
    both = seen(2)(rows)
    assert both.shape == (10, 128)
    assert torch.equal(both[:, :64], seen(1)(rows))
    assert not torch.equal(both[:, :64], both[:, 64:])


def test_more_experts_than_there_are(seen):
    with pytest.raises(ParamsError, match=r"^experts is 3, but 2 are trained; expected 1 to 2, or add expert_shards$"):
        seen(3)


def test_the_sample_has_all_classes_alike(digits):
    """Labels in blocks of 100: ten rows are spread over the blocks."""
    labels = torch.arange(10).repeat_interleave(100)
    assert torch.bincount(labels[spread_rows(labels, 10)]).tolist() == [1] * 10
    assert len(set(spread_rows(digits.labels).tolist())) == 300
    assert torch.equal(spread_rows(labels, 10), spread_rows(labels, 10))


def test_features_follow_the_images_given(material):
    """Experts of 8x8 images cannot see 16x16 ones."""
    from distillkit.base.errors import ArtifactError

    images = material.real.images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    with pytest.raises(ArtifactError, match=r"parameters, but the network has"):
        expert_features(material.experts, 1, replace(material.real, images=images), material.normalisation)

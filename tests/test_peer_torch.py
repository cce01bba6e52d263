"""PyTorch's network of benchmarks/peer_torch.py against the TensorFlow graph of the same config."""

import shutil
import sys

import numpy as np
import pytest
from graphs import Built, batch, relative_difference

from sparsenet.config import SparseNetConfig
from sparsenet.errors import UserError
from sparsenet.initial_weights import initial_weights
from sparsenet_model import CROSS_ENTROPY, LOGITS

if sys.version_info < (3, 10):
    pytest.skip("PyTorch is measured on the modern stack", allow_module_level=True)
torch = pytest.importorskip("torch")

from benchmarks import peer_torch  # noqa: E402

NORMALIZATION = {"mean": [120.0, 125.0, 130.0], "std": [60.0, 65.0, 70.0]}
NETWORKS = {
    "plain": {},
    "bc": {"unit": "bottleneck", "compression": 0.5, "bias": True},
    "base 3": {"base": 3, "layers": (6, 5, 4)},
    "dense": {"fetch": "dense", "stem": "cifar_narrow"},
    "nearest": {"fetch": "nearest_farthest", "nearest": 1, "farthest": 2},
}
WEIGHT_DECAY = 0.01  # more than in training: an error in it would show


def config_of(kind):
    fields = {"layers": (4, 3, 2), "growth_rate": (4, 5, 6), "classes": 7}
    return SparseNetConfig(**dict(fields, **NETWORKS[kind]))


def both(kind, memory_format="contiguous", compiled=False):
    """Return TensorFlow's training graph and PyTorch's network, with the same weights."""
    config = config_of(kind)
    built = Built(config, is_training=True, normalization=NORMALIZATION, weight_decay=WEIGHT_DECAY)
    network = peer_torch.build(config, memory_format, compiled)
    peer_torch.set_variables(network, initial_weights(config, seed=0))
    return built, network


def arrays_of(tensors):
    return {name: peer_torch.in_our_layout(tensor) for name, tensor in tensors}


def assert_close(found, expected, name):
    """Assert equality up to rounding, which is all that a bias before batch norm gets."""
    apart, norm = np.linalg.norm(found - expected), np.linalg.norm(expected)
    assert apart < 1e-4 * norm + 1e-6, (name, apart, norm)


@pytest.mark.parametrize("memory_format", peer_torch.FORMATS)
@pytest.mark.parametrize("kind", NETWORKS)
def test_logits_loss_and_gradients(kind, memory_format):
    built, network = both(kind, memory_format)
    images, labels = batch(classes=7)
    gradients, logits, losses, weights = built.run(
        [built.gradients, LOGITS + ":0", CROSS_ENTROPY + ":0", built.variables()], images, labels
    )
    x = peer_torch.to_input(images, NORMALIZATION, memory_format)
    found = network(x)
    assert relative_difference(found.detach().numpy(), logits) < 1e-5
    loss = torch.nn.functional.cross_entropy(found, torch.from_numpy(labels).long())
    assert loss.item() == pytest.approx(losses.mean(), rel=1e-5)
    loss.backward()
    tensors = [(name, tensor.grad) for name, tensor in peer_torch.variables(network)]
    mine = arrays_of([each for each in tensors if each[1] is not None])
    assert set(mine) == set(gradients)
    for name, gradient in gradients.items():
        decay = WEIGHT_DECAY * weights[name] if name.endswith("/W") else 0
        assert_close(mine[name] + decay, gradient, name)


@pytest.mark.parametrize(
    "kind, memory_format, compiled",
    [
        ("plain", "contiguous", False),
        ("bc", "channels_last", False),
        pytest.param("bc", "channels_last", True, marks=pytest.mark.slow),
    ],
)
def test_steps_lead_to_the_same_weights_and_statistics(kind, memory_format, compiled):
    if compiled and not shutil.which("g++"):
        pytest.skip("torch.compile needs g++")
    built, network = both(kind, memory_format, compiled)
    optimizer = peer_torch.make_optimizer(network, 0.1, WEIGHT_DECAY)
    for seed in range(2):
        images, labels = batch(classes=7, seed=seed)
        expected, _ = built.run([CROSS_ENTROPY + ":0", built.step], images, labels)
        x = peer_torch.to_input(images, NORMALIZATION, memory_format)
        loss = peer_torch.train_step(network, optimizer, x, torch.from_numpy(labels).long())
        if seed == 0:
            assert loss == pytest.approx(expected.mean(), rel=1e-5)
    weights = built.session.run(built.variables())
    mine = arrays_of(peer_torch.variables(network))
    assert set(mine) == {name for name in weights if name in initial_weights(config_of(kind), 0)}
    for name, value in mine.items():
        assert_close(value, weights[name], name)


def test_weights_are_drawn_as_the_project_draws_them():
    network = peer_torch.build(SparseNetConfig(layers=(4,), growth_rate=(40,)))
    for name, value in arrays_of(peer_torch.variables(network)).items():
        if name.endswith("conv1/W"):
            assert value.std() == pytest.approx(np.sqrt(2 / (9 * 40)), rel=0.05)


@pytest.mark.parametrize("field", [{"combine": "sum"}, {"dropout": 0.2}, {"stem": "imagenet"},
                                   {"fetch": "channel_window"}, {"attention": "se"}])  # fmt: skip
def test_other_networks_are_refused(field):
    with pytest.raises(UserError, match=next(iter(field))):
        peer_torch.build(SparseNetConfig(layers=(2,), growth_rate=(4,), **field))

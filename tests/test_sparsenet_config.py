import dataclasses

import pytest

from sparsenet.config import SparseNetConfig
from sparsenet.costs import macs, parameters
from sparsenet.errors import UserError
from sparsenet.fetch import fetch
from sparsenet.plan import variable_shapes
from sparsenet.published import RECIPES
from sparsenet.recipes import DepthRule

# Trainable parameters with the 100-class head, and MACs per image in millions.
PAPER_ROWS = {
    "sparsenet-40-24": (757252, 312),
    "sparsenet-100-24": (2522404, 1050),
    "sparsenet-100-36": (5645908, 2362),
    "sparsenet-100-16-32-64": (7218148, 1046),
    "sparsenet-100-32-64-128": (28725604, 4183),
    "sparsenet-bc-100-24": (1461124, 641),
    "sparsenet-bc-100-36": (3263428, 1441),
    "sparsenet-bc-100-16-32-64": (4365428, 638),
    "sparsenet-bc-100-32-64-128": (17339780, 2551),
}


def config(layers=(4, 4, 4), growth_rate=(12, 12, 12), **fields):
    return SparseNetConfig(layers, growth_rate, **fields)


@pytest.mark.parametrize("name", PAPER_ROWS)
def test_parameters_and_macs_of_the_papers_rows(name):
    row = dataclasses.replace(RECIPES[name].config, classes=100)
    count, millions = PAPER_ROWS[name]
    assert parameters(row) == count
    assert round(macs(row) / 1e6) == millions


def test_parameters_with_ten_classes():
    assert parameters(RECIPES["sparsenet-100-24"].config) == 2509354


def test_conv0_with_k_channels_gives_the_counts_of_keras_sparsenet():
    """REFERENCE: with conv0 = k, 40-24 and 100-24 have these counts."""
    for name, classes, count in [
        ("sparsenet-40-24", 100, 735676),
        ("sparsenet-100-24", 100, 2490364),
        ("sparsenet-40-24", 10, 726946),
        ("sparsenet-100-24", 10, 2477314),
    ]:
        row = dataclasses.replace(RECIPES[name].config, classes=classes, stem_channels=24)
        assert parameters(row) == count


def test_variables_include_moving_statistics():
    row = dataclasses.replace(RECIPES["sparsenet-40-24"].config, stem_channels=24)
    shapes = variable_shapes(row)
    total = 0
    for shape in shapes.values():
        size = 1
        for side in shape:
            size *= side
        total += size
    assert total == 734002


def test_sparse_fetch_of_the_paper():
    sparse = config()
    assert fetch(sparse, 1) == (0,)
    assert fetch(sparse, 8) == (7, 6, 4, 0)
    # What a block of 32 layers passes on; its input is not among it.
    assert fetch(sparse, 33) == (32, 31, 29, 25, 17, 1)


@pytest.mark.parametrize("base, expected", [(3, (26, 24, 18, 0)), (4, (26, 23, 11)), (30, (26,))])
def test_sparse_fetch_with_another_base(base, expected):
    assert fetch(config(base=base), 27) == expected


def test_dense_and_plain_fetch():
    assert fetch(config(fetch="dense"), 4) == (0, 1, 2, 3)
    assert fetch(config(fetch="plain"), 4) == (3,)


def test_plain_reads_one_output_and_dense_all():
    """DenseNet 40-12 with conv0 = 16 and 10 classes has 1,019,722 parameters."""
    dense = config((12, 12, 12), fetch="dense", stem_channels=16)
    assert parameters(dense) == 1019722
    plain = variable_shapes(config(fetch="plain"))
    assert plain["block1/layer3/conv1/W"] == (3, 3, 12, 12)
    assert plain["transition1/conv1/W"] == (1, 1, 12, 12)


@pytest.mark.parametrize(
    "field, value",
    [
        ("layers", (4, 0, 4)),
        ("growth_rate", (12, 12)),
        ("growth_rate", (12, 0, 12)),
        ("fetch", "half"),
        ("base", 1),
        ("unit", "triple"),
        ("compression", 0.0),
        ("compression", 1.5),
        ("dropout", 1.0),
        ("stem_channels", 0),
        ("classes", 0),
    ],
)
def test_impossible_values_are_named(field, value):
    with pytest.raises(UserError) as error:
        dataclasses.replace(config(), **{field: value})
    assert "`{}`".format(field) in str(error.value)
    assert "accepted" in str(error.value)


def test_depth_rule():
    rule = DepthRule()
    assert rule.layers(100, config()) == (32, 32, 32)
    assert rule.layers(100, config(unit="bottleneck")) == (16, 16, 16)
    for depth, unit in [(41, "single"), (4, "single"), (1, "single"), (43, "bottleneck")]:
        with pytest.raises(UserError) as error:
            rule.layers(depth, config(unit=unit))
        assert str(depth) in str(error.value)


@pytest.mark.parametrize("name", PAPER_ROWS)
def test_depth_of_a_recipe_is_the_papers(name):
    assert DepthRule().depth(RECIPES[name].config) == (40 if "-40-" in name else 100)

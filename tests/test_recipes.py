import dataclasses
import json

import pytest

from run_directory.record import in_todays_words, recipe_from_dict
from sparsenet import recipes
from sparsenet.costs import parameters
from sparsenet.errors import UserError
from sparsenet.published import RECIPES


def test_learning_rate_drops_after_the_named_epochs():
    recipe = RECIPES["sparsenet-100-24"]
    rates = {epoch: recipe.learning_rate_at(epoch) for epoch in (1, 150, 151, 225, 226, 300)}
    assert rates == {1: 0.1, 150: 0.1, 151: 0.01, 225: 0.01, 226: 0.001, 300: 0.001}


def test_learning_rate_moves_from_step_to_step():
    changes = {"epochs": 10, "learning_rate": 0.2, "lr_milestones": ()}
    linear, cosine = (
        dataclasses.replace(RECIPES["digits"], lr_schedule=each, **changes)
        for each in ("linear", "cosine")
    )
    done = [0, 2.5, 5, 7.5, 10, 11]
    assert [linear.learning_rate_after(each) for each in done] == pytest.approx(
        [0.2, 0.15, 0.1, 0.05, 0, 0]
    )
    assert [cosine.learning_rate_after(each) for each in done] == pytest.approx(
        [0.2, 0.1 + 0.1 * 0.5**0.5, 0.1, 0.1 - 0.1 * 0.5**0.5, 0, 0]
    )
    for recipe in (RECIPES["sparsenet-100-24"], linear, cosine):
        warm = dataclasses.replace(recipe, warm_up=2.0)
        for each, share in [(0, 0.1), (0.5, 0.325), (1, 0.55), (2, 1), (7, 1)]:
            expected = share * recipe.learning_rate_after(each)
            assert warm.learning_rate_after(each) == pytest.approx(expected)
        assert warm.lr_moves


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_its_record(name):
    recipe = RECIPES[name]
    read = recipe_from_dict(json.loads(json.dumps(recipes.to_dict(recipe))))
    assert read == recipe


def test_a_record_that_still_holds_what_was_published_is_read():
    recipe = RECIPES["sparsenet-100-24"]
    before = dict(recipes.to_dict(recipe), family="", published={"source": "a table"})
    record = in_todays_words({"recipe": before})
    assert recipe_from_dict(record["recipe"]) == recipe


def test_a_record_with_an_unknown_field_is_refused():
    data = recipes.to_dict(RECIPES["digits"])
    data["config"]["wings"] = 2
    with pytest.raises(UserError, match="wings"):
        recipe_from_dict(data)


@pytest.mark.parametrize(
    "field, value",
    [
        ("dataset", "mnist"),
        ("normalize", "none"),
        ("batch_size", 0),
        ("epochs", 0),
        ("learning_rate", 0.0),
        ("weight_decay", -1.0),
        ("lr_milestones", ((200, 10.0), (100, 100.0))),
        ("lr_milestones", ((100, 10.0), (100, 100.0))),
        ("lr_milestones", ((0, 10.0),)),
        ("lr_schedule", "steps"),
        ("warm_up", -1.0),
    ],
)
def test_impossible_recipes_are_refused(field, value):
    recipe = dataclasses.replace(RECIPES["digits"], **{field: value})
    with pytest.raises(UserError, match=field):
        recipes.check(recipe)


def test_counts_in_the_notes():
    """The variations that the notes of differing rows speak of have the counts they say."""
    wide = [RECIPES["sparsenet{}-100-32-64-128".format(kind)] for kind in ("", "-bc")]
    changed = {"growth_rate": (32, 64, 125), "stem_channels": 32, "classes": 100}
    assert [parameters(dataclasses.replace(recipe.config, **changed)) for recipe in wide] == [
        27723043, 16720360,
    ]  # fmt: skip
    config = dataclasses.replace(RECIPES["sparsenet-bc-100-16-32-64"].config, classes=100)
    counts = {
        stem: parameters(dataclasses.replace(config, stem_channels=stem)) for stem in range(1, 129)
    }
    fitting = [stem for stem, count in counts.items() if round(count / 1e6, 2) == 4.38]
    assert (fitting[0], fitting[-1], counts[64]) == (59, 86, 4376852)

import csv

import pytest

from sparsenet import published
from sparsenet.errors import UserError
from sparsenet.published import ERRORS, PATH, PUBLISHED, QUOTED, RECIPES, SOURCES, network_name


@pytest.fixture
def table():
    """The lines of the file, titles first."""
    with open(PATH, encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def refusal(table, path):
    """Return what is said of a file with these lines."""
    with open(str(path), "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(table)
    with pytest.raises(UserError) as error:
        published.read(str(path))
    return str(error.value)


def test_every_network_is_a_recipe_or_quoted():
    assert (len(RECIPES), list(QUOTED)) == (75, ["wide-resnet-16", "fractal-21"])
    assert list(PUBLISHED) == list(RECIPES) + list(QUOTED)
    assert all(name == recipe.name for name, recipe in RECIPES.items())
    assert published.DEFAULT_RECIPE in RECIPES


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_figure_has_a_source(name):
    """Where it is printed; and what an exact count is of."""
    of = PUBLISHED[name]
    assert of.network_source in SOURCES
    assert bool(of.parameters) == bool(of.parameters_source)
    assert bool(of.flops) == bool(of.flops_source)
    assert all(error.data and error.source for error in of.errors)
    assert of.classes or name in QUOTED


def test_the_title_of_a_column_of_errors_says_where_they_are_printed():
    for title, (data, source, _) in ERRORS.items():
        assert title.startswith("error {} (".format(data))
        place = title.partition("(")[2].rstrip(")")
        assert all(word in source for word in place.split(", "))
        if "slides" in place:
            assert source.endswith(("without" if data == "c10" else "with") + " augmentation")


def test_errors_of_one_network_from_several_sources():
    labels = [(error.label, error.percent) for error in PUBLISHED["resnet-110"].errors]
    assert labels == [("c10+", 6.61), ("c10+ slides", 6.43)]
    labels = [(error.label, error.percent) for error in PUBLISHED["resnet-32"].errors]
    assert labels == [("c10+", 7.51)]
    assert PUBLISHED["resnet-32"].errors[0].source.endswith("slides, with augmentation")


@pytest.mark.parametrize(
    "name, column, text",
    [
        ("sparsenet-40-24", "growth_rate", "24-x"),
        ("sparsenet-40-24", "growth_rate", "16-32"),
        ("sparsenet-40-24", "growth_rate", ""),
        ("sparsenet-40-24", "layers", "12-0-12"),
        ("sparsenet-40-24", "fetch", "sparce"),
        ("sparsenet-40-24", "compression", "half"),
        ("sparsenet-40-24", "stem_channels", "0"),
        ("sparsenet-40-24", "public_code", "Keras"),
        ("sparsenet-40-24", "depth_rule", "4"),
        ("sparsenet-40-24", "training", "cifar-10"),
        ("sparsenet-40-24", "training", "imagenet"),
        ("sparsenet-40-24", "network_source", ""),
        ("sparsenet-40-24", "parameters", "757252"),
        ("sparsenet-40-24", "parameters_source", ""),
        ("sparsenet-40-24", "parameters_source", "somewhere"),
        ("sparsenet-40-24", "flops_source", "Zhu et al. 2018, CIFAR table"),
        ("sparsenet-40-24", "classes", ""),
        ("sparsenet-40-24", "exact_parameters", "757,252"),
        ("sparsenet-40-24", "error c10+ (CIFAR table)", "5.13 %"),
        ("sparsenet-40-24", "note", " blank"),
        ("resnet-32", "combine", "concat"),
        ("wide-resnet-16", "fetch", "dense"),
    ],
)
def test_a_bad_cell_names_row_and_column(table, name, column, text, tmp_path):
    row = [line[0] for line in table].index(name)
    table[row][table[0].index(column)] = text
    said = refusal(table, tmp_path / "table.csv")
    assert said.startswith("table.csv, line {}, row {}: `{}`".format(row + 1, name, column))
    assert "accepted: " in said


def test_columns_are_known_and_all_there(table, tmp_path):
    path = tmp_path / "table.csv"
    unknown = [line + ["x"] for line in table]
    unknown[0][-1] = "wings"
    said = refusal(unknown, path)
    assert "line 1, titles: " in said and "`column` is wings" in said
    twice = [line + [line[1]] for line in table]
    assert "`column` is layers" in refusal(twice, path)
    assert "note" in refusal([line[:-1] for line in table], path)
    assert "name" in refusal([], path)


def test_a_row_has_a_cell_for_each_column_and_a_name_of_its_own(table, tmp_path):
    path = tmp_path / "table.csv"
    said = refusal(table + [["sparsenet-7-7", "1-1-1"]], path)
    assert "row sparsenet-7-7" in said and "`cells` is 2" in said
    assert "row digits: `name` is digits" in refusal(table + [table[-3]], path)
    assert "row : `name` is empty" in refusal(table + [[""] + table[1][1:]], path)


def test_quotes_that_do_not_close(tmp_path, table):
    path = tmp_path / "table.csv"
    path.write_text(",".join('"{}"'.format(title) for title in table[0]) + '\nx,"y\n')
    with pytest.raises(UserError, match="table.csv, line"):
        published.read(str(path))


def test_order_of_columns_does_not_matter(table, tmp_path):
    path = tmp_path / "table.csv"
    with open(str(path), "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(line[::-1] for line in table)
    assert published.read(str(path)) == published.read()


@pytest.mark.parametrize("name", RECIPES)
def test_a_network_is_called_by_its_first_name(name):
    """A recipe that flags have made into another one's network gets that one's name."""
    config = RECIPES[name].config
    assert RECIPES[network_name(RECIPES[name], config)].config == config

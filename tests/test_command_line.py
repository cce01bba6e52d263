import argparse
import dataclasses
import io
import os
import re
import runpy
import sys

import numpy as np
import pytest
from conftest import CHECKOUT, assert_refused, launch, run_python

from common.flags import data_parser
from platforms import npu_options
from run_directory.settings import settings_to_dict
from sparsenet.errors import UserError, exit_code_of
from sparsenet.published import RECIPES
from training.command_line import parse, training_parser

ORIGINAL = (
    "--dataset c10 --dataset_dir DIR --fetch sparse --depth 100 --growth_rate 24 --batch_size 64 "
    "--drop_1 150 --drop_2 225 --max_epoch 300"
)


def settings(command):
    return parse(command.split())


def test_the_original_command_is_the_papers_network():
    recipe = settings(ORIGINAL).recipe
    paper = RECIPES["sparsenet-100-24"]
    assert recipe == paper
    assert recipe.config.layers == (32, 32, 32)


def test_the_originals_other_flags():
    got = settings(
        "-g 0,1 -d 40 -gr 12 --bottleneck 1 --compression 0.5 --dropout 0.2 --log-dir ROOT "
        "--name N --load CKPT --data_url s3://a --train_url s3://b --fake"
    )
    config = got.recipe.config
    assert got.gpus == (0, 1)
    assert (config.layers, config.growth_rate) == ((6, 6, 6), (12, 12, 12))
    assert (config.unit, config.compression, config.dropout) == ("bottleneck", 0.5, 0.2)
    assert (got.log_dir, got.name, got.load) == ("ROOT", "N", "CKPT")
    assert (got.data_url, got.train_url) == ("s3://a", "s3://b")


@pytest.mark.parametrize("text", ["0", "1", "0.0", "1.0"])
def test_compression_of_0_and_1_is_none(text):
    assert settings("--fake --compression " + text).recipe.config.compression == 1


def test_hyphens_and_underscores_are_the_same():
    for flag in ("--batch-size", "--batch_size"):
        assert settings("--fake {} 32".format(flag)).recipe.batch_size == 32
        assert settings("--fake {}=32".format(flag)).recipe.batch_size == 32


def test_a_short_flag_and_its_value_may_be_one_word():
    for command in ("-g0,1 -d40 -gr12 --fake", "-g=0,1 -d=40 -gr=12 --fake"):
        got = settings(command)
        assert (got.gpus, got.recipe.config) == ((0, 1), settings("-d 40 -gr 12").recipe.config)


def test_a_tilde_is_a_home_folder_in_every_flag(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    got = settings("--dataset_dir=~/data --load ~/a/model-3 --log-dir=~ --name=a~b")
    assert (got.dataset_dir, got.load) == ("/home/someone/data", "/home/someone/a/model-3")
    assert (got.log_dir, got.name) == ("/home/someone", "a~b")


def test_paths_are_recorded_as_absolute(tmp_path, monkeypatch):
    """And so mean the same from another directory, as they are given they are named in messages."""
    monkeypatch.chdir(str(tmp_path))
    got = settings("--dataset_dir data --log_dir runs")
    assert (got.dataset_dir, got.log_dir) == ("data", "runs")
    recorded = settings_to_dict(got)
    assert recorded["dataset_dir"] == os.path.join(os.getcwd(), "data")
    assert recorded["log_dir"] == os.path.join(os.getcwd(), "runs")
    assert recorded["load"] is None


def test_flags_override_the_recipe():
    got = settings("--recipe sparsenet-bc-100-24 --growth_rate 16,32,64 --learning_rate 0.2 --fake")
    assert got.recipe.config.growth_rate == (16, 32, 64)
    assert got.recipe.config.layers == (16, 16, 16)
    assert got.recipe.learning_rate_at(151) == pytest.approx(0.02)
    assert got.recipe.name == "sparsenet-bc-100-16-32-64"


@pytest.mark.parametrize(
    "command, name",
    [
        ("--recipe sparsenet-sum-110 --fetch dense", "resnet-110"),
        ("--recipe resnet-110 --fetch sparse --base 3", "sparsenet-sum-base3-110"),
        ("--recipe resnet-110 --depth 8", "resnet-8"),
        ("--depth 40 --fetch dense --growth_rate 12", "densenet-40-12"),
        ("--bottleneck 1 --compression 0.5", "sparsenet-bc-100-24"),
        ("--recipe digits --attention se --dropout 0.2", "sparsenet-16-12-se-dropout0.2"),
        ("--recipe digits --stem_channels 5", "sparsenet-16-12-conv0-5"),
        ("--layers 3,4,5,2", "sparsenet-19-layers-3-4-5-2-24"),
        ("--fetch nearest_farthest --farthest 3", "nearest-farthest-100-24-near7-far3"),
        ("--recipe ascend --growth_rate 12", "ascend-33x33x33-12"),
        ("--recipe liu-zeng-abc-v1 --growth_rate 8", "liu-zeng-abc-v1-k8"),
        ("--recipe liu-zeng-basic-v1 --layers 12,12,12", "liu-zeng-basic-v1-layers-12-12-12"),
        ("--recipe liu-zeng-bc-v2 --attention se", "liu-zeng-bc-v2-attention-se"),
        ("--recipe liu-zeng-bc-v2-scripts --nearest 5", "liu-zeng-bc-v2-scripts-near5"),
        ("--recipe densenet-121 --head map3x3", "densenet-121-map3x3"),
    ],
)
def test_a_network_made_by_flags_is_called_what_it_is(command, name):
    assert settings("--fake " + command).recipe.name == name


def test_the_splits_of_liu_and_zeng_have_names_of_their_own():
    command = "--fake --recipe liu-zeng-basic-v1 --nearest {} --farthest {}"
    splits = [(14, 0), (10, 4), (7, 7), (4, 10), (0, 14)]
    recipes = [settings(command.format(*split)).recipe for split in splits]
    assert [(r.config.nearest, r.config.farthest) for r in recipes] == splits
    assert len({recipe.name for recipe in recipes}) == len(splits)
    assert recipes[2].name == "liu-zeng-basic-v1"


def test_milestones_may_be_moved_one_by_one_or_all_replaced():
    paper = settings("--fake --lr_milestones 150:0.1,225:0.01").recipe
    assert paper == RECIPES["sparsenet-100-24"]
    liu_zeng = "--fake --recipe liu-zeng-bc-v1 "
    rates = [
        [settings(liu_zeng + flags).recipe.learning_rate_at(epoch) for epoch in (150, 210, 260)]
        for flags in (
            "", "--drop_2 220", "--lr_milestones 150:0.1,200:0.01", "--lr_milestones 150:0.3",
            "--lr_milestones none",
        )
    ]  # fmt: skip
    expected = [
        [0.1, 1e-3, 2e-4],
        [0.1, 0.01, 2e-4],
        [0.1, 1e-3, 1e-3],
        [0.1, 0.03, 0.03],
        [0.1] * 3,
    ]
    assert np.allclose(rates, expected, rtol=1e-7)


def test_a_schedule_that_moves_has_no_drops():
    recipe = settings("--fake --lr_schedule cosine --warm_up 5").recipe
    assert (recipe.lr_schedule, recipe.lr_milestones, recipe.warm_up) == ("cosine", (), 5)
    drops = settings("--fake --lr_schedule drops --warm_up 5").recipe
    assert dataclasses.replace(drops, warm_up=0.0) == RECIPES["sparsenet-100-24"]


@pytest.mark.parametrize(
    "command, epochs, milestones, normalize",
    [
        ("--recipe liu-zeng-abc-v3 --dataset svhn", 40, (20, 30), "unit"),
        ("--recipe liu-zeng-bc-v4-scripts --dataset svhn", 40, (20, 30), "unit"),
        ("--recipe sparsenet-40-24 --dataset svhn", 40, (20, 30), "unit"),
        ("--recipe liu-zeng-abc-v1 --dataset c100", 280, (150, 200, 250), "channel"),
        ("--recipe liu-zeng-abc-v1-svhn --dataset c10", 280, (150, 200, 250), "channel"),
        ("--recipe liu-zeng-abc-v1-svhn", 40, (20, 30), "unit"),
        ("--recipe sparsenet-40-24 --dataset c100", 300, (150, 225), "channel"),
        ("--recipe liu-zeng-abc-v2 --dataset svhn --max_epoch 7 --normalize channel", 7, (20, 30),
         "channel"),
    ],
)  # fmt: skip
def test_a_data_set_brings_its_schedule(command, epochs, milestones, normalize):
    recipe = settings("--fake " + command).recipe
    assert (recipe.epochs, recipe.normalize) == (epochs, normalize)
    assert tuple(epoch for epoch, _ in recipe.lr_milestones) == milestones
    if "scripts" in command:
        assert (recipe.weight_decay_scope, recipe.pad_value) == ("all", "mean")


@pytest.mark.parametrize(
    "command, suggestion",
    [
        ("--recipe sparsnet-40-24", "sparsenet-40-24"),
        ("--recipe liu-zeng-v1", "liu-zeng-bc-v1"),
        ("--max_epochs 3", "--max_epoch?"),
        ("--bath-size 3", "--batch_size"),
        ("--lr 0.1", "--learning_rate?"),
        ("--fetch spares", "sparse"),
        ("--attention senet", "se"),
    ],
)
def test_the_nearest_name_is_suggested(command, suggestion):
    with pytest.raises(UserError) as error:
        settings(command)
    assert suggestion in str(error.value) and len(str(error.value)) < 160


def test_bottleneck_alone_keeps_the_depth():
    assert settings("--fake --bottleneck 1").recipe.config.layers == (16, 16, 16)


def test_classes_come_from_the_data():
    assert settings("--dataset c100 --fake").recipe.config.classes == 100
    assert settings("--dataset svhn --fake").recipe.config.classes == 10


def test_drops_beyond_the_last_epoch_are_fine():
    assert settings("--fake --max_epoch 2").recipe.epochs == 2


@pytest.mark.parametrize(
    "command, value",
    [
        ("--recipe nothing", "nothing"),
        ("--wings 2", "--wings"),
        ("--depth 41", "41"),
        ("--depth 100 --bottleneck 1 --depth 43", "43"),
        ("--depth ten", "ten"),
        ("--growth_rate 1,2", "1,2"),
        ("--growth_rate 0", "0"),
        ("--layers 5,5 --growth_rate 4,4,4", "4,4,4"),
        ("--lr_milestones 150", "150"),
        ("--lr_milestones 150:0", "150:0"),
        ("--lr_milestones 150:0.1:2", "150:0.1:2"),
        ("--lr_milestones 225:0.1,150:0.01", "225,150"),
        ("--lr_milestones 150:0.1 --drop_1 3", "--lr_milestones"),
        ("--lr_milestones 150:0.1 --lr_schedule cosine", "--lr_milestones"),
        ("--drop_2 3 --lr_schedule linear", "--drop_2"),
        ("--lr_schedule steps", "steps"),
        ("--warm_up -1", "-1"),
        ("--augment twice", "twice"),
        ("--base 1", "1"),
        ("--fetch half", "half"),
        ("--drop_1 200 --drop_2 100", "200,100"),
        ("--batch_size 0", "0"),
        ("--max_epoch -1", "-1"),
        ("--dropout 1", "1"),
        ("--compression 1.5", "1.5"),
        ("--compression nan", "nan"),
        ("--learning_rate 0", "0"),
        ("--learning_rate inf", "inf"),
        ("--weight_decay=-1e-4", "-1e-4"),
        ("--seed 4294967296", "4294967296"),
        ("--gpu 0,0", "0,0"),
        ("--gpu a", "a"),
        ("--name a/b", "a/b"),
        ("--dataset mnist", "mnist"),
        ("--dep 40", "--dep"),
        ("--growth_rate 30000", "30000"),
        ("--depth 1000000", "layers"),
        ("--fetch dense --base 3", "--base 3"),
        ("--nearest 3", "--nearest 3"),
        ("--recipe resnet-110 --compression 0.5", "--compression 0.5"),
        ("--dataset imagenet", "imagenet"),
    ],
)
def test_mistakes_name_the_value(command, value):
    with pytest.raises(UserError) as error:
        settings("--fake " + command)
    assert value in str(error.value)


def test_a_mistake_costs_one_line_and_nothing_is_written(tmp_path):
    result = launch("--depth", "41", "--fake", cwd=tmp_path)
    assert_refused(result, "41", "40 or 43")
    assert list(tmp_path.iterdir()) == []


def test_help_and_recipes_fit_a_terminal_and_name_their_defaults(tmp_path):
    help_text = launch("--help", cwd=tmp_path, env={"COLUMNS": "80"})
    assert help_text.code == 0
    assert "sparsenet-100-24" in help_text.out
    for group in ("network:", "data:", "schedule:", "run:"):
        assert group in help_text.out
    recipe_table = launch("--list-recipes", cwd=tmp_path)
    assert recipe_table.code == 0
    for name in RECIPES:
        assert name in recipe_table.out
    for line in (help_text.out + recipe_table.out).splitlines():
        assert len(line) <= 80, line


def test_an_unsupported_python_gets_one_sentence():
    from common import supported_python

    accepted = [v for v in [(2, 7)] + [(3, n) for n in range(5, 16)]
                if supported_python.is_supported(v)]  # fmt: skip
    assert accepted == [(3, 7), (3, 10), (3, 11), (3, 12), (3, 13)]
    for name in ("common/supported_python.py", "main_gpu.py"):
        # What an old Python has to be able to read before it can say so.
        source = (CHECKOUT / name).read_text()
        assert 'f"' not in source and "nonlocal" not in source


def test_a_python_without_docstrings_gets_one_sentence():
    """TensorFlow edits its own while it is imported."""
    result = run_python("-OO", "main_gpu.py", "--recipe", "digits", alone=True)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: this Python drops docstrings") and "-OO" in result.err
    assert result.err.count("\n") == 1


def test_the_streams_of_a_notebook_will_do(monkeypatch):
    """They have no encoding that could be changed."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.StringIO())

    def command():
        raise UserError("7; accepted: 8")

    assert exit_code_of(command) == 2
    assert sys.stderr.getvalue() == "error: 7; accepted: 8\n"


# Every flag of every command ---------------------------------------------------------------------


def parsers():
    """The parsers of all commands by name, those of subcommands too."""
    sys.path.insert(0, str(CHECKOUT / "scripts"))
    try:
        for path in sorted((CHECKOUT / "scripts").glob("*.py")):
            module = runpy.run_path(str(path))
            if "parser" in module and not isinstance(module["parser"], argparse.ArgumentParser):
                yield path.name, module["parser"]()
    finally:
        sys.path.remove(str(CHECKOUT / "scripts"))
    npu = training_parser()
    npu_options.add_flags(npu)
    yield "main_gpu.py", training_parser()
    yield "main_npu.py", npu
    yield "data", data_parser("")


def flags_of(name, parser):
    """Yield (name, parser, arguments in front, flag) of each flag that takes a value."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for kind, sub in action.choices.items():
                yield from flags_of("{} {}".format(name, kind), sub)
        elif action.option_strings and action.nargs != 0:
            yield name, parser, action


FLAGS = [each for name, parser in parsers() for each in flags_of(name, parser)]
IDS = ["{} {}".format(name, action.option_strings[-1]) for name, _, action in FLAGS]
# Types of flags that are numbers, by the function that makes them.
NUMERIC = re.compile("int_at_least|ints_at_least|float_where|milestones|device_ids|loss_scale")
ABSURD = (
    "-1", "0", "1e400", "-1e400", "nan", "inf", "1" + "0" * 30, "9" * 5000, "1_0", "\u0663",
    "\uff15", "", " ", "5 5", "0x10", "1;", "\x1b[2J", "x" * 10**5, "9" * 10**5 + "x",
    "\udc80", "~",
)  # fmt: skip
# A value that some flags take, though it looks absurd.
ZERO_IS_FINE = {
    "--nearest", "--farthest", "--bottleneck", "--compression", "--dropout", "--weight_decay",
    "--seed", "--process_id", "--seconds", "--min_cosine", "--gpu", "--warm_up",
}  # fmt: skip
MINUS_ONE_IS_FINE = {"--min_cosine", "--gpu"}


def value_or_message(parser, arguments):
    """What a parser says of flags: None if it takes them."""
    for action in parser._actions:
        action.required = False
    try:
        parser.parse_known_args(arguments)
    except UserError as error:
        message = str(error)
        assert len(message) < 900 and message.count("\n") == 0, message
        return message
    return None


@pytest.mark.parametrize("name, parser, action", FLAGS, ids=IDS)
def test_no_value_of_a_flag_is_more_than_a_mistake(name, parser, action):
    flag = action.option_strings[-1]
    assert "accepted" in value_or_message(parser, [flag + "=--"])
    for text in ABSURD:
        message = value_or_message(parser, [flag + "=" + text])
        if NUMERIC.match(getattr(action.type, "__qualname__", "")):
            is_fine = (text == "0" and flag in ZERO_IS_FINE) or (
                text == "-1" and flag in MINUS_ONE_IS_FINE
            )
            assert (message is None) == is_fine, (text, message)
        if message is not None:
            assert flag in message and "accepted" in message or "its folder" in message


def test_every_command_has_been_walked():
    names = {name for name, _, _ in FLAGS}
    assert {"compare.py", "freeze_graph.py", "plot.py curves", "main_npu.py", "predict.py"} < names
    assert len(FLAGS) > 150


@pytest.mark.parametrize("argument", ["--=x", "--", "-", "-=", "--=--", "-- -- --", "--\udc80=1"])
def test_no_argument_is_more_than_a_mistake(argument):
    for name, parser in parsers():
        message = value_or_message(parser, argument.split(" "))
        assert message is None or name, message


@pytest.mark.parametrize("argument", ["-h=", "--help=", "--fake=", "--fake=x", "--no-verify=--"])
def test_a_flag_without_a_value_gets_none(argument):
    with pytest.raises(UserError, match="accepted: without a value"):
        settings(argument)


def test_the_largest_numbers_that_are_taken():
    assert settings("--batch_size 2147483647 --seed 4294967295").recipe.batch_size == 2**31 - 1
    with pytest.raises(UserError, match="--batch_size: '2147483648'; accepted: at most 2147483647"):
        settings("--batch_size 2147483648")
    with pytest.raises(UserError, match="--layers: '5,99999999999'; accepted: .*at most 2147483"):
        settings("--layers 5,99999999999")

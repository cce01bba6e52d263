import math
import re
import shutil
import sys
from xml.etree import ElementTree

from common.figures import LONGEST_LABEL, plain, plain_text, save

import numpy as np
import pytest
from conftest import CHECKOUT, assert_refused, run_python

from run_directory.curves import curves_figure, names_of_runs

PLOT = CHECKOUT / "scripts" / "plot.py"


@pytest.mark.parametrize("ending, start", [("png", b"\x89PNG"), ("svg", b"<?xml")])
@pytest.mark.parametrize(
    "arguments",
    [
        ["connections", "densenet-40-12", "sparsenet-40-24", "liu-zeng-basic-v1"],
        ["connections", "liu-zeng-basic-v2-scripts", "--matrix", "--layers", "20"],
        ["efficiency"],
        ["growth"],
    ],
)
def test_pictures(tmp_path, arguments, ending, start):
    out = tmp_path / ("picture." + ending)
    result = run_python(PLOT, *arguments, "-o", out)
    assert result.code == 0, result
    assert result.err == ""
    assert out.read_bytes().startswith(start)
    assert len(out.read_bytes()) > 10000


@pytest.fixture(scope="module")
def plot():
    """The script as a module."""
    sys.path.insert(0, str(PLOT.parent))
    try:
        import plot

        return plot
    finally:
        sys.path.remove(str(PLOT.parent))


@pytest.mark.parametrize("dpi", [72, 110])
def test_labels_cover_neither_each_other_nor_points(plot, dpi):
    """At the resolution of .svg and of .png."""
    figure = plot.efficiency_figure()
    figure.tight_layout(rect=(0, plot.LEGEND_SHARE, 1, 1))  # as save() does
    figure.set_dpi(dpi)
    renderer = figure.canvas.get_renderer()
    for panel in figure.axes:
        labels = [text.get_window_extent(renderer) for text in panel.texts]
        points = [
            point
            for line in panel.lines
            if line.get_marker() == "o"
            for point in panel.transData.transform(line.get_xydata())
        ]
        assert len(labels) == len(points) >= 5
        frame = panel.get_window_extent(renderer)
        for index, box in enumerate(labels):
            assert not box.count_overlaps(labels[index + 1 :]), panel.texts[index]
            assert not any(box.contains(*point) for point in points), panel.texts[index]
            assert frame.contains(*box.min) and frame.contains(*box.max)


def test_efficiency_shows_every_published_error_at_the_counts_of_its_classes(plot):
    shown = {data: plot.points_by_family(data, dataset) for data, dataset, _ in plot.PANELS}
    count = sum(len(points) for families in shown.values() for _, _, points in families)
    assert count == sum(len(published.errors) for published in plot.PUBLISHED.values())

    def millions(data, wanted):
        return next(p.millions for _, _, points in shown[data] for p in points if p.label == wanted)

    assert millions("c10+", "100-32-64-128") < millions("c100+", "100-32-64-128") == 28.725604
    assert millions("c10+", "bc-250-24") == 15.324406 < millions("c100+", "bc-250-24")
    assert millions("c10+", "GPU") == 2.560810
    assert millions("c100+", "wide-resnet-16") == 11.0


def written(path):
    """The texts of an .svg, in the comments that matplotlib puts before their outlines."""
    return re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"))


def test_ticks_are_plain_numbers(tmp_path):
    assert run_python(PLOT, "growth", "-o", tmp_path / "g.svg").code == 0
    texts = written(tmp_path / "g.svg")
    assert "10,000,000" in texts
    assert not [text for text in texts if re.search(r"\de[+-]?\d", text)]


@pytest.mark.parametrize(
    "value, text",
    [(1e7, "10,000,000"), (200000.0, "200,000"), (0.1 + 0.2, "0.3"), (1e-5, "0.00001"), (1, "1")],
)
def test_plain(value, text):
    assert plain(value) == text


@pytest.mark.parametrize("layers", [1, 3, 20, 41, 200])
def test_whole_ticks(plot, layers):
    """Whole numbers, and room between those of a panel of about four inches."""
    ticks = plot.whole_ticks(0, layers)
    assert all(isinstance(tick, int) and 0 <= tick <= layers for tick in ticks)
    assert 2 <= len(ticks) <= 8 and ticks == sorted(set(ticks))


@pytest.mark.parametrize("ways", [[], ["--matrix"]])
def test_connections_say_what_they_show(tmp_path, ways):
    """No depth that is not drawn; whole ticks; what the colours mean and what is counted."""
    out = tmp_path / "c.svg"
    recipes = ["densenet-40-12", "liu-zeng-basic-v2-scripts"]
    assert run_python(PLOT, "connections", *recipes, "--layers", "5", *ways, "-o", out).code == 0
    texts = written(out)
    assert "densenet, a block of 5 layers" in texts
    assert "liu-zeng-basic-scripts, a block of 5 layers" in texts
    assert "15 skip connections, longest path 1" in texts
    assert "passed on (not counted as skip connections)" in texts
    assert all(text.isdigit() for text in texts if re.fullmatch(r"[\d.]+", text))
    assert run_python(PLOT, "connections", *recipes, *ways, "-o", out).code == 0
    assert "densenet-40-12, block 1: 12 layers" in written(out)


def test_connections_of_a_network_of_ones_own(tmp_path):
    out = tmp_path / "c.svg"
    flags = ["--depth", "40", "--growth_rate", "12", "--base", "3"]
    assert run_python(PLOT, "connections", "digits", *flags, "-o", out).code == 0
    texts = written(out)
    assert "sparsenet-base3-40-12, block 1: 12 layers" in texts
    assert "digits, block 1: 4 layers" in texts
    assert run_python(PLOT, "connections", "--fetch", "plain", "--layers", "7", "-o", out).code == 0
    assert any("block 1: 7 layers" in text for text in written(out))


def test_the_same_picture_twice_is_the_same_file(tmp_path):
    for name in ("a.svg", "b.svg"):
        assert run_python(PLOT, "growth", "-o", tmp_path / name).code == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_curves_of_runs(finished_run, tmp_path):
    result = run_python(PLOT, "curves", finished_run, finished_run, "-o", tmp_path / "c.png")
    assert result.code == 0, result
    assert (tmp_path / "c.png").exists()


def test_mistakes(tmp_path):
    out = tmp_path / "p.png"
    assert_refused(run_python(PLOT), "KIND")
    assert_refused(run_python(PLOT, "pie", "-o", out), "pie")
    assert_refused(run_python(PLOT, "connections", "nothing", "-o", out), "nothing")
    assert_refused(run_python(PLOT, "connections", "-o", out), "RECIPE is missing")
    assert_refused(run_python(PLOT, "connections", "digits", "--layers", "3,4", "-o", out), "3,4")
    assert_refused(run_python(PLOT, "growth", "-o", tmp_path / "p.gif"), "p.gif", ".svg")
    assert_refused(run_python(PLOT, "growth", "-o", tmp_path / "no" / "p.png"), "folder")
    assert_refused(run_python(PLOT, "curves", tmp_path, "-o", out), "loss+perf")
    assert list(tmp_path.iterdir()) == []


# Curves ------------------------------------------------------------------------------------------


def rows_of(*errors):
    return [{"epoch": i, "test_error": e, "train_error": e, "test_loss": 1 + e}
            for i, e in enumerate(errors, 1)]  # fmt: skip


def drawn(runs, path):
    """The figure of some runs, which has also been written."""
    figure, below = curves_figure(runs)
    save(figure, str(path), bottom=below)
    return figure


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


NAMES = ["_hidden", "_", "a$b", "a$b$c", r"$\frac{$", "x<y>&z", "one\ntwo\x1b[31m", "\u6570\u636e",
         "\udcff", "long" * 50]  # fmt: skip


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_run_of_any_name_is_in_the_legend(tmp_path, ending):
    out = tmp_path / ("c." + ending)
    figure = drawn({name: rows_of(0.5, 0.25) for name in NAMES}, out)
    entries = legend_of(figure)
    assert len(set(entries)) == len(NAMES) + 2  # and the two styles
    assert [entry.replace(r"\$", "$") for entry in entries[:6]] == NAMES[:6]
    assert r"one\ntwo\x1b[31m" in entries
    assert all(len(entry) <= 2 * LONGEST_LABEL for entry in entries)
    frame = figure.bbox
    for text in figure.legends[0].get_texts():
        box = text.get_window_extent(figure.canvas.get_renderer())
        assert frame.contains(*box.min) and frame.contains(*box.max), text
    if ending == "svg":
        ElementTree.parse(str(out))


def test_colours_of_many_runs_are_distinct(tmp_path):
    figure = drawn({str(i): rows_of(0.5) for i in range(25)}, tmp_path / "c.png")
    colours = {str(line.get_color()) for line in figure.axes[1].lines}
    assert len(colours) == 25


@pytest.mark.parametrize(
    "paths, names",
    [
        (["gpu/run", "npu/run"], ["gpu/run", "npu/run"]),
        (["a/x/run", "b/x/run", "b/y/run"], ["a/x/run", "b/x/run", "b/y/run"]),
        (["one", "two/"], ["one", "two"]),
        (["x" * 60 + "1" + "x" * 60, "x" * 60 + "2" + "x" * 60], None),
    ],
)
def test_runs_of_one_base_name_have_names_of_their_own(paths, names):
    found = names_of_runs(paths)
    assert found == names if names else len({plain_text(name) for name in found}) == len(paths)


def test_runs_of_one_base_name_are_both_drawn(finished_run, tmp_path):
    for folder in ("gpu", "npu"):
        shutil.copytree(str(finished_run), str(tmp_path / folder / "run"))
    out = tmp_path / "c.svg"
    runs = [tmp_path / folder / "run" for folder in ("gpu", "npu", "npu/../npu")]
    assert run_python(PLOT, "curves", *runs, "-o", out).code == 0
    assert {"gpu/run", "npu/run"} <= set(written(out))


def test_a_single_epoch_is_in_the_middle_of_whole_epochs(tmp_path):
    for panel in drawn({"run": rows_of(0.5)}, tmp_path / "c.png").axes:
        assert list(panel.get_xticks()) == [1]
        assert panel.get_xlim() == (0, 2)


@pytest.mark.parametrize("errors", [(0.5, 0, 0.001, 0), (0, 0, 0), (0.003, 0, 0.006), (0.1,)])
def test_a_zero_does_not_break_a_line(tmp_path, errors):
    figure = drawn({"run": rows_of(*errors)}, tmp_path / "c.png")
    panel = figure.axes[1]
    low, high = panel.get_ylim()
    line = panel.lines[0]
    shown = panel.transData.transform(line.get_xydata())
    assert np.isfinite(shown).all()
    assert all(low <= 100 * error <= high for error in errors)
    assert (0 in panel.get_yticks()) == (0 in errors)


def test_values_that_are_not_finite_leave_a_picture(tmp_path):
    figure = drawn({"run": rows_of(0.5, math.nan, math.inf, 0.2)}, tmp_path / "c.png")
    assert np.isfinite(figure.axes[1].get_ylim()).all()
    drawn({"run": rows_of(math.nan)}, tmp_path / "c.png")

import pytest
from conftest import CHECKOUT, assert_refused, run_python

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
    assert_refused(run_python(PLOT, "growth", "-o", tmp_path / "p.gif"), "p.gif", ".svg")
    assert_refused(run_python(PLOT, "growth", "-o", tmp_path / "no" / "p.png"), "folder")
    assert_refused(run_python(PLOT, "curves", tmp_path, "-o", out), "loss+perf")
    assert list(tmp_path.iterdir()) == []

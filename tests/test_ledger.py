import csv
import io

import pytest
from conftest import CHECKOUT, assert_refused, run_python

LEDGER = CHECKOUT / "scripts" / "ledger.py"


@pytest.fixture(scope="module")
def rows():
    result = run_python(LEDGER, "--csv")
    assert result.code == 0, result
    return {row["name"]: row for row in csv.DictReader(io.StringIO(result.out))}


def test_every_row_that_should_match_does():
    result = run_python(LEDGER, "--check")
    assert result.code == 0, result
    assert result.err == ""


def test_check_fails_when_a_row_differs(tmp_path):
    """With one published count changed by one."""
    program = (
        "import sys; sys.path[:0] = [{!r}, {!r}]; import dataclasses, ledger\n"
        "from sparsenet import errors\n"
        "from sparsenet.published import PUBLISHED\n"
        "right = PUBLISHED['sparsenet-40-24']\n"
        "wrong = dataclasses.replace(right, exact_parameters=757253)\n"
        "PUBLISHED['sparsenet-40-24'] = wrong\n"
        "sys.argv = ['ledger.py', '--check']; sys.exit(errors.exit_code_of(ledger.main))"
    ).format(str(CHECKOUT), str(LEDGER.parent))
    result = run_python("-c", program)
    assert result.code == 1 and "sparsenet-40-24" in result.err


def test_verdicts(rows):
    differing = {name for name, row in rows.items() if row["verdict"] == "differs"}
    assert differing == {
        "sparsenet-100-32-64-128", "sparsenet-bc-100-16-32-64", "sparsenet-bc-100-32-64-128",
    }  # fmt: skip
    assert all(rows[name]["reason"] for name in differing)
    printed = [row for row in rows.values() if row["published_flops"]]
    assert len(printed) == 7 and {row["flops_verdict"] for row in printed} == {"match"}


def test_csv_has_plain_integers(rows):
    assert rows["sparsenet-100-24"]["parameters"] == "2522404"
    assert rows["resnet-1001"]["parameters"] == "10327706"
    assert rows["resnet-1001"]["without_bn"] == "10178490"
    assert rows["liu-zeng-abc-v4-scripts"]["parameters"] == "2358442"
    assert rows["ascend"]["parameters"] == "2560810"
    for row in rows.values():
        for column in ("parameters", "macs", "flops", "skip_connections", "activation_bytes"):
            assert row[column] == "" or row[column].isdigit(), row


def cells(lines, name):
    """The words of each table's line of a network."""
    return [line.split()[1:] for line in lines if line.split()[:1] == [name]]


def test_text_has_everything_in_80_columns(rows):
    """For every row: counts, operations, connections, paths, memory, and errors if published."""
    result = run_python(LEDGER)
    assert result.code == 0
    lines = result.out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert cells(lines, "sparsenet-121-32") == [
        ["4.51M", "4,513,576", "4,513,576", "1,000", "match"],
        ["1,723", "3.463", "3.46G", "match"],
        ["13.5"],
        ["199", "4", "1.86", "67"],
        ["imagenet", "25.6"],
    ]
    assert cells(lines, "ascend")[0] == ["2,560,810", "2,560,810", "10", "match"]
    for name, row in rows.items():
        tables = 1 + 2 * bool(row["macs"]) + bool(row["errors"])
        tables += bool(row["published_milliseconds"])
        assert len(cells(lines, name)) == tables, name
        assert row["reason"] in result.out.replace("\n  ", " ")


def test_text_answers_the_keras_question():
    """Each line with what it rounds to, and which convention that is."""
    out = " ".join(run_python(LEDGER).out.split())
    for words in (
        "there conv0 has k channels, and the paper's counts come out with 2k",
        "trainable, 100 classes 735,676 = 0.74M 2,490,364 with",
        "with moving statistics, 100 classes 742,732 = 0.74M 2,513,548 trainable",
        "trainable, 10 classes 726,946 2,477,314 with",
        "with moving statistics, 10 classes 734,002 2,500,498 = 2.50M",
        "0.74M is: trainable, 100 classes; or with moving statistics, 100 classes.",
        "2.50M is: with moving statistics, 10 classes.",
        "One convention that gives both: none.",
    ):
        assert words in out


def test_text_tells_what_liu_and_zeng_print(rows):
    """Attention's share is the one that the rows have."""
    out = " ".join(run_python(LEDGER).out.split())
    for words in ("3.24 on CIFAR-10 (DenseNet 3.46)", "16.98 on CIFAR-100 (DenseNet 17.18)",
                  "1.69 on SVHN (DenseNet 1.74)", "3.40 %", "22 connections"):  # fmt: skip
        assert words in out
    with_it, without = (
        int(rows["liu-zeng-{}-v1".format(kind)]["parameters"]) for kind in ("abc", "bc")
    )
    share = 100 * (with_it / without - 1)
    assert "Attention adds 2 %" in out and "Here it adds {:.1f}, ".format(share) in out


def test_sources(rows):
    """ResNets that only the slides print say so."""
    for depth in (32, 44, 56, 1202):
        assert "slides, with augmentation" in rows["resnet-{}".format(depth)]["source"]
    for name in ("resnet-110", "resnet-164", "resnet-1001"):
        assert rows[name]["source"].endswith("CIFAR table")
        assert "slides" in rows[name]["errors"]


def titles_of(lines):
    """Return the titles of a Markdown table, after a look at its shape."""
    assert lines[0].startswith("| network |")
    assert {line.count("|") for line in lines if line.startswith("|")} == {lines[0].count("|")}
    titles = [title.strip() for title in lines[0].strip("|").split("|")]
    assert all(titles) and len(set(titles)) == len(titles)
    return titles


def test_markdown_is_a_table():
    lines = run_python(LEDGER, "--markdown").out.splitlines()
    assert "skip connections" in titles_of(lines)
    for title in ("described", "classes", "G FLOPs", "path", "mean", "published errors (%)"):
        assert "| {} |".format(title) in lines[0]
    assert "2.18" in next(line for line in lines if line.startswith("| sparsenet-100-24 |"))


def test_short_markdown_is_what_a_readme_has_room_for(rows):
    lines = run_python(LEDGER, "--markdown", "--short").out.splitlines()
    assert len(titles_of(lines)) == 6
    cells = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in lines if "|" in line}
    assert [cell.strip() for cell in cells["sparsenet-100-32-64-128"]] == [
        "27.72M", "28,725,604", "differs", "4,183", "c10+ 3.88, c100+ 18.8",
    ]  # fmt: skip
    assert not cells["ascend"][2].strip(), "nothing is printed that could be met"
    printed = {name for name, row in rows.items() if row["published"] or row["errors"]}
    assert printed and set(cells) - printed <= {"network", "---"}
    assert printed <= set(cells)
    assert any(rows["sparsenet-100-32-64-128"]["reason"] in line for line in lines)


def test_no_tensorflow_is_imported():
    program = (
        "import sys; sys.path[:0] = [{!r}, {!r}]; import ledger; ledger.ledger()\n"
        "sys.exit('tensorflow' in sys.modules or 'numpy' in sys.modules)"
    ).format(str(CHECKOUT), str(LEDGER.parent))
    assert run_python("-c", program).code == 0


def test_mistakes():
    assert_refused(run_python(LEDGER, "--cvs"), "--cvs")
    assert_refused(run_python(LEDGER, "--csv", "--markdown"), "--markdown")
    for flags in (["--short"], ["--short", "--csv"]):
        assert_refused(run_python(LEDGER, *flags), "--short", "--markdown")


def test_one_network_of_ones_own():
    result = run_python(LEDGER, "--depth", "40", "--growth_rate", "12", "--csv")
    (row,) = csv.DictReader(io.StringIO(result.out))
    assert row["name"] == "sparsenet-40-12" and row["skip_connections"] == "111"
    assert (row["classes"], row["verdict"], row["parameters"]) == ("10", "", "189514")


def test_one_network_that_is_published_has_its_figures(rows):
    for flags in (["--recipe", "sparsenet-40-24"], ["--depth", "40", "--growth_rate", "24"]):
        result = run_python(LEDGER, *flags, "--csv")
        assert list(csv.DictReader(io.StringIO(result.out))) == [rows["sparsenet-40-24"]]
    ten = run_python(LEDGER, *flags, "--dataset", "c10")
    assert "748,522" in ten.out and "match" not in ten.out
    assert "keras" not in ten.out and "REMARKS" not in ten.out
    assert max(map(len, ten.out.splitlines())) <= 80
    assert_refused(run_python(LEDGER, *flags, "--only", "sparse"), "--only sparse")


def test_milliseconds_are_printed_beside_measured_ones(rows):
    printed = {name: row["published_milliseconds"] for name, row in rows.items()}
    assert (printed["sparsenet-201-48"], printed["densenet-121"]) == ("43.1", "19.5")
    assert all(row["milliseconds"] == "" for row in rows.values())
    own = ["--layers", "1,1", "--growth_rate", "2", "--measure"]
    (row,) = csv.DictReader(io.StringIO(run_python(LEDGER, *own, "--csv").out))
    assert float(row["milliseconds"]) > 0 and row["published_milliseconds"] == ""
    assert "ms here" in run_python(LEDGER, *own).out

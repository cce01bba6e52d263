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
    """With one count of the recipes changed by one."""
    program = (
        "import sys; sys.path[:0] = [{!r}, {!r}]; import dataclasses, recipes, ledger, errors\n"
        "row = recipes.RECIPES['sparsenet-40-24']\n"
        "wrong = dataclasses.replace(row.published, counted=757253)\n"
        "recipes.RECIPES['sparsenet-40-24'] = dataclasses.replace(row, published=wrong)\n"
        "sys.argv = ['ledger.py', '--check']; sys.exit(errors.exit_code_of(ledger.main))"
    ).format(str(CHECKOUT), str(LEDGER.parent))
    result = run_python("-c", program)
    assert result.code == 1 and "sparsenet-40-24" in result.err


def test_verdicts(rows):
    differing = {name for name, row in rows.items() if row["verdict"] == "differs"}
    assert differing == {
        "sparsenet-100-32-64-128", "sparsenet-bc-100-16-32-64", "sparsenet-bc-100-32-64-128",
    }  # fmt: skip
    assert all(rows[name]["note"] for name in differing)
    printed = [row for row in rows.values() if row["published_flops"]]
    assert len(printed) == 7 and {row["flops_verdict"] for row in printed} == {"match"}


def test_csv_has_plain_integers(rows):
    assert rows["sparsenet-100-24"]["parameters"] == "2522404"
    assert rows["resnet-1001"]["parameters"] == "10327706"
    assert rows["resnet-1001"]["without_bn"] == "10178490"
    assert rows["liu-zeng-abc-v4-scripts"]["parameters"] == "2358442"
    assert rows["ascend"]["parameters"] == "2560810"
    for row in rows.values():
        for column in ("parameters", "macs", "flops", "connections", "activation_bytes"):
            assert row[column] == "" or row[column].isdigit(), row


def test_text_fits_80_columns_and_answers_the_keras_question():
    result = run_python(LEDGER)
    assert result.code == 0
    assert all(len(line) <= 80 for line in result.out.splitlines())
    for words in ("0.74M", "735,676", "2,500,498", "conv0 has k"):
        assert words in result.out


def test_markdown_is_a_table():
    lines = run_python(LEDGER, "--markdown").out.splitlines()
    assert lines[0].startswith("| network |")
    assert {line.count("|") for line in lines if line.startswith("|")} == {lines[0].count("|")}


def test_no_tensorflow_is_imported():
    program = (
        "import sys; sys.path[:0] = [{!r}, {!r}]; import ledger; ledger.ledger()\n"
        "sys.exit('tensorflow' in sys.modules or 'numpy' in sys.modules)"
    ).format(str(CHECKOUT), str(LEDGER.parent))
    assert run_python("-c", program).code == 0


def test_mistakes():
    assert_refused(run_python(LEDGER, "--cvs"), "--cvs")
    assert_refused(run_python(LEDGER, "--csv", "--markdown"), "--markdown")

"""The shell scripts, as a person starts them."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import CHECKOUT, Result

modern_only = pytest.mark.skipif(
    sys.version_info < (3, 10), reason="the scripts themselves choose the Python"
)


def bash(*arguments, cwd=CHECKOUT, **env):
    done = subprocess.run(
        ["bash"] + [str(a) for a in arguments],
        cwd=str(cwd),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=dict(os.environ, **env),
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


@modern_only
@pytest.mark.trains
@pytest.mark.takes_minutes
def test_quickstart_twice_from_another_directory(tmp_path):
    """The whole of it: digits test error of at most 2.0 %; the environment is used again."""
    script = CHECKOUT / "scripts" / "quickstart.sh"
    result = bash(script, "--log_dir", tmp_path, "--name", "run", cwd=tmp_path)
    assert result.code == 0, result
    lines = {line[:16].strip(): line[17:] for line in result.out.split("\n\n")[-1].splitlines()}
    assert float(lines["test error"].split()[0]) <= 2.0
    assert lines["run directory"] == str(tmp_path / "run")
    assert os.path.isfile(lines["curves"])
    again = bash(script, "--max_epoch", "1", "--subset", "64", "--log_dir", tmp_path)
    assert again.code == 0, again
    assert "installing" not in again.out


@modern_only
def test_a_python_without_venv_is_told_the_package(tmp_path):
    """With a stand-in for Debian's bare python3, in a checkout without an environment."""
    shutil.copytree(str(CHECKOUT / "scripts"), str(tmp_path / "scripts"))
    stand_in = tmp_path / "bin" / "python3"
    stand_in.parent.mkdir()
    stand_in.write_text(
        '#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; esac\nexec "{}" "$@"\n'.format(
            sys.executable
        )
    )
    stand_in.chmod(0o755)
    path = "{}:{}".format(stand_in.parent, os.environ["PATH"])
    result = bash(tmp_path / "scripts" / "quickstart.sh", PATH=path)
    assert result.code == 2 and "python3-venv" in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / ".venv").exists()


@modern_only
def test_no_python_that_will_do_is_one_sentence(tmp_path):
    for tool in ("bash", "dirname", "cmp"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    result = bash(CHECKOUT / "scripts" / "quickstart.sh", PATH=str(tmp_path))
    assert result.code == 2 and result.err.count("\n") == 1
    assert "3.10 to 3.13" in result.err

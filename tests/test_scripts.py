"""The shell scripts, as a person starts them."""

import os
import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import CHECKOUT, Result, assert_refused

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
    for tool in ("bash", "dirname", "readlink", "grep", "cmp"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    result = bash(CHECKOUT / "scripts" / "quickstart.sh", PATH=str(tmp_path))
    assert result.code == 2 and result.err.count("\n") == 1
    assert "3.10 to 3.13" in result.err


# However they are started ----------------------------------------------------------------------


@pytest.mark.parametrize("shell", [["sh"], ["bash", "--posix"]])
def test_any_shell_hands_a_script_to_bash(shell):
    done = subprocess.run(
        shell + [str(CHECKOUT / "scripts" / "train_1p_ci.sh"), "--help"], capture_output=True
    )
    assert done.returncode == 0 and done.stdout.startswith(b"usage: bash train_1p_ci.sh"), done
    assert done.stderr == b""


def scripts_to_start():
    """The scripts that are not sourced by others, which a comment says of these."""
    for path in sorted((CHECKOUT / "scripts").glob("*.sh")):
        if path.read_text().startswith("#!"):
            yield path.name


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_line_ends_of_windows_are_one_sentence(tmp_path, shell):
    for path in (CHECKOUT / "scripts").glob("*.sh"):
        (tmp_path / path.name).write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    names = list(scripts_to_start())
    assert len(names) >= 8
    for name in names:
        done = subprocess.run([shell, str(tmp_path / name)], capture_output=True)
        assert_refused(Result(done.returncode, "", done.stderr.decode()), "Windows", "sed -i")
    command = done.stderr.decode().strip().partition("as after ")[2]
    subprocess.run(["bash", "-c", command], check=True)
    for path in (CHECKOUT / "scripts").glob("*.sh"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


@modern_only
def test_settings_for_other_installations_do_not_reach_an_environment(tmp_path):
    """pip refuses PIP_USER in a virtual environment; a PYTHONHOME breaks every Python."""
    (tmp_path / "nothing.txt").write_text("")
    program = (
        "source {}/scripts/environment.sh\n"
        "python=$(find_modern_python)\nmake_environment $python environment\n"
        "install environment nothing.txt\nenvironment/bin/python -m pip config list\n"
    ).format(shlex.quote(str(CHECKOUT)))
    env = {"PIP_USER": "1", "PIP_TARGET": "elsewhere", "PYTHONHOME": "/nowhere"}
    result = bash("-euc", program, cwd=tmp_path, **env)
    assert result.code == 0 and ":env:.user='0'" in result.out, result
    assert "target" not in result.out
    assert (tmp_path / "environment" / "nothing.txt.installed").exists()

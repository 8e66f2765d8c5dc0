"""The command runs what was installed, whatever lies in the folder it is started in."""

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import Ended, environment

PLANTED = "import os; os.write(2, b'PLANTED\\n')\n"


@pytest.mark.parametrize("name", ["typer", "orjson", "jobs", "batch", "json", "sitecustomize"])
def test_a_module_in_the_current_folder_is_not_run(
    command: Callable[..., Ended], tmp_path: Path, name: str
) -> None:
    (tmp_path / f"{name}.py").write_text(PLANTED)
    ended = command("check", "none.csv")
    assert ended.exit_code == 66
    assert "PLANTED" not in ended.stderr


def test_there_is_no_way_to_start_it_that_imports_from_the_current_folder(tmp_path: Path) -> None:
    assert find_spec("jobs.__main__") is None
    (tmp_path / "typer.py").write_text(PLANTED)
    ended = subprocess.run(
        [sys.executable, "-m", "jobs", "--help"],
        cwd=tmp_path,
        env=environment(tmp_path, None, {}),
        capture_output=True,
        check=False,
        text=True,
    )
    assert ended.returncode != 0
    assert "PLANTED" not in ended.stderr

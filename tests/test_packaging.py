"""The built wheel holds everything a run needs, and only under its own name."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of what git knows, without an isolated (networked) build."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / "src" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "src" / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
        + [str(folder / "src")],
        check=True,
        capture_output=True,
    )
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_graphs_prompts_and_lists(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"agentloop"}
    for path in [
        *(ROOT / "graphs").glob("*.py"),
        *(ROOT / "prompts").rglob("*.md"),
        *(ROOT / "prompts").rglob("*.yaml"),
        *(ROOT / "prompts").rglob("*.jsonl"),
        *(ROOT / "prompts").rglob("*.txt"),
    ]:
        assert f"agentloop/{path.relative_to(ROOT)}" in names
    assert "agentloop/py.typed" in names
    assert "agentloop/models/weights-smollm2.txt" in names
    assert {"agentloop/report/page.html.j2", "agentloop/report/page.css"} <= set(names)
    for path in [*(ROOT / "agentloop" / "view").glob("*/*.*")]:
        if path.suffix != ".pyc":
            assert str(path.relative_to(ROOT)) in names


def test_the_wheel_runs_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """The wheel itself is the only way to agentloop here: Python imports it as a zip would lie."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]\n"
        "import agentloop; assert agentloop.__file__.startswith(sys.argv[1]), agentloop.__file__\n"
        "from agentloop.cli import run_cli\n"
        "assert run_cli(['recipes', 'show', 'grounded_qa']) == 0\n"
        "import agentloop.graphs; assert agentloop.graphs.__file__.startswith(sys.argv[1])\n"
        "r = agentloop.run('instructions', seeds=[{'task': 'a b c'}], store='s.duckdb',\n"
        "    model=agentloop.ScriptedModel(lambda request: 'no json'))\n"
        "assert r.counts['failed'] == 1\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "site")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "```mermaid" in done.stdout


def test_a_bare_checkout_runs_without_an_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]\n"
        "from agentloop.recipes import find_recipe\n"
        "print(find_recipe('grounded_qa').recipe.load().rubric.name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "grounded_qa", done.stderr

"""What importing loads, and which way imports go."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vfio_migration
import vmstate

ROOT = Path(__file__).parents[1]


def loaded_by(statement: str) -> set[str]:
    """Give the top-level packages that a fresh interpreter has after this statement but not before."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return {name.partition(".")[0] for name in out.stdout.split()}


@pytest.mark.parametrize(
    ("statement", "ours"), [("import vmstate", {"vmstate"}), ("import vfio_migration", {"vmstate", "vfio_migration"})]
)
def test_importing_loads_the_standard_library_and_structlog_only(statement: str, ours: set[str]) -> None:
    # structlog itself takes what it finds of these for its own output
    allowed = set(sys.stdlib_module_names) | loaded_by("import structlog")
    assert loaded_by(statement) - allowed == ours


@pytest.mark.parametrize("package", [vmstate, vfio_migration])
def test_every_public_name_is_there_and_documented(package: object) -> None:
    names: list[str] = package.__all__  # type: ignore[attr-defined]
    assert names == sorted(names, key=lambda name: (not name.isupper(), name))
    undocumented = [name for name in names if not getattr(getattr(package, name), "__doc__", None)]
    assert undocumented == []


# Higher numbers may import lower ones (design, section 9).
LAYERS = [
    ["errors"],
    ["runstate", "policy", "log", "interrupts", "threads", "order"],
    ["clock", "monitor", "trace", "migratable"],
    ["virtual_clock", "biglock", "channel"],
    ["handlers"],
    ["devices"],
    ["qtree", "bracket"],
    ["machine"],
]


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return found | {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}


def test_imports_within_vmstate_go_down_only() -> None:
    layer = {f"vmstate.{name}": number for number, names in enumerate(LAYERS) for name in names}
    modules = {f"vmstate.{path.stem}": path for path in (ROOT / "vmstate").glob("[a-z]*.py")}
    assert set(layer) == set(modules)
    for name, path in modules.items():
        wrong = [each for each in imports_of(path) if each in layer and layer[each] >= layer[name]]
        assert wrong == [], name


def test_vmstate_knows_nothing_of_vfio_and_the_library_nothing_of_the_command_line() -> None:
    on_top = {
        "chrome_trace",
        "cli",
        "critical_path",
        "html_page",
        "import_command",
        "importing",
        "lanes",
        "naming",
        "outputs",
        "overrides",
        "plan",
        "plot",
        "predict",
        "predict_terminal",
        "pytest_plugin",
        "qemu_log",
        "runner",
        "scenario",
        "scenario_faults",
        "scenario_model",
        "terminal",
        "testing",
        "timeline",
        "what_if",
    }
    for path in (ROOT / "vmstate").glob("*.py"):
        assert not any(each.startswith("vfio_migration") for each in imports_of(path)), path
    for path in (ROOT / "vfio_migration").rglob("*.py"):
        if not on_top & {path.stem, path.parent.name}:
            wrong = [
                each for each in imports_of(path) if each.startswith("vfio_migration.") and each.split(".")[1] in on_top
            ]
            assert wrong == [], path

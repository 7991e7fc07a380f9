"""What importing loads, and which way imports go."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from suite import ROOT

import vfio_migration
import vmstate
from vmstate import exploring


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


# From the top down, as docs/architecture.md draws them: a folder imports only from those under it.
FLOORS = [
    "pytest_vfio_switchover",
    "cli",
    "testing",
    "emulator",
    "fleet_drawing",
    "drawing",
    "fleet",
    "measuring",
    "importing",
    "forecast",
    "scenarios",
    "plan",
    "recorded",
    "live",
    "registered",
    "changes",
    "strategies",
    "kernel",
    "device",
    "engines",
    "errors",
    "inputs",
    "wording",
]
VMSTATE = [
    "exploring",
    "machine",
    "bracket",
    "qtree",
    "device_tree",
    "handlers",
    "big_lock",
    "clocks",
    "migratable",
    "callback_errors",
    "trace",
    "monitor",
    "run_state",
    "interrupts",
    "log",
    "errors",
]


def modules(package: str) -> dict[str, Path]:
    """Give the source of each module of a package that is installed, by its dotted name."""
    root = Path(getattr(sys.modules[package], "__file__", "")).parent
    return {
        ".".join([package, *path.relative_to(root).with_suffix("").parts]).removesuffix(".__init__"): path
        for path in root.rglob("*.py")
    }


def imports_of(path: Path) -> list[tuple[str, str]]:
    """Give module and name of everything that a module imports, in functions too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found += [(node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
    return found


def floor_of(module: str) -> str:
    """Name the floor of a module: the folder, or the file, directly below its package."""
    return f"{module}.".split(".")[1].removeprefix("_")


@pytest.mark.parametrize(("package", "floors"), [("vfio_migration", FLOORS), ("vmstate", VMSTATE)])
def test_a_floor_imports_only_from_those_under_it(package: str, floors: list[str]) -> None:
    height = {floor: len(floors) - number for number, floor in enumerate(floors)}
    assert set(height) == {floor_of(name) for name in modules(package)} - {""}
    for name, path in modules(package).items():
        for module, _ in imports_of(path):
            if name != package and module.split(".")[0] == package and floor_of(module) != floor_of(name):
                assert height[floor_of(name)] > height.get(floor_of(module), len(floors) + 1), (name, module)


@pytest.mark.parametrize("package", ["vfio_migration", "vmstate"])
def test_a_floor_is_entered_by_its_door(package: str) -> None:
    """What another floor takes is exported by the folder, in `__all__`; what has an underscore stays inside."""
    doors = {module: sys.modules.get(module) or importlib.import_module(module) for module in modules(package)}
    for name, path in modules(package).items():
        for module, wanted in imports_of(path):
            if module.split(".")[0] not in ("vfio_migration", "vmstate"):
                continue
            inside = module.rpartition(".")[0] == name.rpartition(".")[0] or name == module.rpartition(".")[0]
            assert inside or not wanted.startswith("_"), (name, module, wanted)
            if floor_of(module) != floor_of(name) and package in module and name != package:
                assert module.count(".") == 1, f"{name} goes into {module} past its door"
                if hasattr(doors[module], "__path__"):
                    assert wanted in doors[module].__all__, (name, module, wanted)


def test_the_picture_of_the_floors_is_true() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    pictures = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert [[line.split()[0] for line in picture.splitlines()] for picture in pictures[:2]] == [FLOORS, VMSTATE]


def test_vmstate_knows_nothing_of_vfio() -> None:
    for name, path in modules("vmstate").items():
        assert not any(module.startswith("vfio_migration") for module, _ in imports_of(path)), name


def test_vfio_migration_takes_from_vmstate_what_that_exports() -> None:
    for name, path in modules("vfio_migration").items():
        taken = [(module, wanted) for module, wanted in imports_of(path) if module.split(".")[0] == "vmstate"]
        doors = {"vmstate": vmstate.__all__, "vmstate.exploring": exploring.__all__}
        assert all(wanted in doors[module] for module, wanted in taken), (name, taken)

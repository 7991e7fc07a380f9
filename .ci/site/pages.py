"""
What the site has beside docs/: the README and its neighbours, and a page for each public name (hooks of MkDocs).

Public is what the packages that users import from offer in `__all__`. Rejected: pages that are written by hand and list
the names, since one that is forgotten there is missed by nobody.
"""

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
from lists import ListsAfterParagraphs

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "vmstate",
    "vmstate.exploring",
    "vfio_migration",
    "vfio_migration.testing",
    "vfio_migration.scenarios",
    "vfio_migration.forecast",
    "vfio_migration.fleet",
    "vfio_migration.importing",
    "vfio_migration.strategies",
    "vfio_migration.emulator",
    "vfio_migration.kernel",
    "vfio_migration.measuring",
    "vfio_migration.recorded",
    "vfio_migration.drawing",
)
NEIGHBOURS = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the names to the navigation."""
    names: list[dict[str, Any]] = []
    for package in PACKAGES:
        pages: list[Any] = [f"api/{package}/index.md"]
        pages += [{name: f"api/{package}/{name}.md"} for name in importlib.import_module(package).__all__]
        names.append({package: pages})
    assert config.nav is not None  # noqa: S101 - it stands in mkdocs.yml
    config.nav.append({"API": names})
    config.markdown_extensions.append(ListsAfterParagraphs())  # type: ignore[arg-type] - Markdown takes both
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are no files of docs/."""
    for source, page in NEIGHBOURS.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        # They stand one folder up, and the site's first page is the README.
        text = text.replace("](docs/", "](").replace("](README.md", "](index.md").replace("](LICENSE)", "](LICENSE.md)")
        files.append(File.generated(config, page, content=text))
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    files.append(File.generated(config, "LICENSE.md", content=f"# Licence\n\n```text\n{licence}\n```\n"))
    for package in PACKAGES:
        module = importlib.import_module(package)
        rows = [f"| [`{name}`]({name}.md) | {_summary(getattr(module, name))} |" for name in module.__all__]
        about = inspect.cleandoc(module.__doc__ or "")
        table = "\n".join(["| name | |", "| --- | --- |", *rows])
        files.append(File.generated(config, f"api/{package}/index.md", content=f"# {package}\n\n{about}\n\n{table}\n"))
        for name in module.__all__:
            content = f"---\ntitle: {name}\n---\n\n::: {package}.{name}\n"
            files.append(File.generated(config, f"api/{package}/{name}.md", content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Have links from docs/ to the README's neighbours lead to their pages."""
    return markdown.replace("](../README.md", "](index.md").replace("](../", "](")


def _summary(named: Any) -> str:
    """Give the first sentence of what is said of a name; of a constant, its value."""
    if not callable(named) and not inspect.ismodule(named) and type(named).__module__ == "builtins":
        return f"`{named!r}`"[:80].replace("|", r"\|")
    text = inspect.cleandoc(named.__doc__ or "").split("\n\n")[0]
    return " ".join(text.split()).replace("|", r"\|")

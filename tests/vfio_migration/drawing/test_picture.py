import importlib.util
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from suite.machines import small
from suite.pictured import host, many, named, whole
from typer.testing import CliRunner

from vfio_migration import VFIOMigrationError
from vfio_migration.cli.main import app
from vfio_migration.drawing.page import html_page
from vfio_migration.drawing.picture import check_plot, write_plot
from vfio_migration.drawing.vocabulary import MARKS
from vfio_migration.plan.switchover import Bounds
from vfio_migration.recorded.timeline import Timeline
from vfio_migration.scenarios.runner import ModeResult, Result, Run, run_scenario
from vmstate import VirtualClock

needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed (the extra `plot`)"
)
SVG = "{http://www.w3.org/2000/svg}"


def height(file: Path) -> float:
    return float(ET.parse(file).getroot().attrib["height"].removesuffix("pt"))


@pytest.mark.slow
@needs_matplotlib
def test_the_same_result_gives_the_same_bytes(tmp_path: Path) -> None:
    for suffix in ("svg", "png"):
        files = [tmp_path / f"{name}.{suffix}" for name in "ab"]
        for file in files:
            write_plot(host(), str(file))
        assert files[0].read_bytes() == files[1].read_bytes()


@needs_matplotlib
def test_an_svg_is_small_well_formed_and_free_of_fonts_and_links(tmp_path: Path) -> None:
    file = tmp_path / "host.svg"
    write_plot(host(), str(file))
    assert file.stat().st_size < 200_000
    root = ET.parse(file).getroot()
    assert list(root.iter(f"{SVG}text")) == []
    assert list(root.iter(f"{SVG}image")) == []
    assert [each.text for each in root.iter(f"{SVG}title")] == [
        "host: switchover 2,593.2 ms serial, 841.2 ms parallel, 3.08 times as fast"
    ]


@needs_matplotlib
def test_a_png_is_one(tmp_path: Path) -> None:
    file = tmp_path / "host.PNG"
    write_plot(host(), str(file))
    data = file.read_bytes()
    assert data.startswith(b"\x89PNG\r\n")
    assert int.from_bytes(data[16:20]) == 1500


@pytest.mark.slow
@needs_matplotlib
def test_the_picture_grows_with_the_devices(tmp_path: Path) -> None:
    few, more = tmp_path / "8.svg", tmp_path / "64.svg"
    write_plot(host(), str(few))
    write_plot(many(64), str(more))
    assert height(few) < height(more) < 3 * height(few)


@needs_matplotlib
@pytest.mark.parametrize("name", ["$x$", "$", "<b>&amp;", "--", "短い名前", "W" * 100])
def test_any_name_can_be_drawn(tmp_path: Path, name: str) -> None:
    file = tmp_path / "plot.svg"
    write_plot(named(name), str(file))
    ET.parse(file)


@needs_matplotlib
@pytest.mark.parametrize("mode", ["serial", "parallel"])
def test_one_mode_will_do(tmp_path: Path, mode: str) -> None:
    one, both = tmp_path / "one.svg", tmp_path / "both.svg"
    write_plot(host(mode), str(one))
    write_plot(host(), str(both))
    assert height(one) < height(both)


@needs_matplotlib
def test_a_switchover_that_was_not_reached_is_drawn_as_such(tmp_path: Path) -> None:
    run = run_scenario(small(), ("serial",), runs=1, make_clock=VirtualClock).modes["serial"].typical
    lost = Run(run.report, state_intact=False, timeline=Timeline((), None, None))
    write_plot(Result("lost", {"serial": ModeResult((lost,))}, Bounds(0.0, 0.0, 0.0)), str(tmp_path / "lost.svg"))
    ET.parse(tmp_path / "lost.svg")


@needs_matplotlib
def test_a_user_s_own_configuration_changes_nothing(tmp_path: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - not installed everywhere

    files = [tmp_path / "a.svg", tmp_path / "b.svg"]
    write_plot(host(), str(files[0]))
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "none", "text.color": "red", "savefig.bbox": "tight"}):
        write_plot(host(), str(files[1]))
        assert mpl.rcParams["font.size"] == 30
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("name", ["plot", "plot.pdf", "svg", "-", "plot.svg.gz"])
def test_a_name_of_another_format_is_refused(name: str) -> None:
    with pytest.raises(VFIOMigrationError, match=r"must end in \.svg or \.png"):
        check_plot(name)


def test_without_matplotlib_the_command_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfio_migration.drawing.picture.find_spec", lambda name: None)
    done = CliRunner().invoke(app, ["run", "vfs", "--plot", str(tmp_path / "plot.svg")])
    assert done.exit_code == 2
    assert "pip install 'vfio-switchover[plot]'" in done.output
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_said_before_anything_runs(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", "vfs", "--plot", str(tmp_path / "plot.pdf")])
    assert done.exit_code == 2
    assert ".svg or .png" in done.output


@needs_matplotlib
def test_nowhere_to_write_is_said_before_anything_runs(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", "vfs", "--plot", str(tmp_path / "no" / "plot.svg")])
    assert done.exit_code == 2
    assert "cannot be written" in done.output


@needs_matplotlib
def test_the_command_writes_the_picture(tmp_path: Path) -> None:
    file = tmp_path / "plot.svg"
    done = CliRunner().invoke(app, ["run", "vfs", "--virtual", "--runs", "1", "--plot", str(file)])
    assert done.exit_code == 0
    ET.parse(file)


def test_the_command_line_does_not_load_matplotlib_by_itself() -> None:
    code = "import sys, vfio_migration.cli.main; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


@needs_matplotlib
def test_a_page_and_a_picture_have_the_same_colours(tmp_path: Path) -> None:
    result = whole()
    write_plot(result, str(tmp_path / "whole.svg"))
    picture, page = (tmp_path / "whole.svg").read_text(encoding="utf-8"), html_page(result)
    for each in MARKS.values():
        for colour in each.light:
            assert colour in page
            assert colour in picture, each.key

import logging
import subprocess
import sys

import pytest

from vmstate.log import get_logger

SILENT = """
import logging, structlog
import vmstate

machine = vmstate.Machine(trace=vmstate.StructlogSink())

def fail(*arguments):
    raise ValueError("a subscriber's failure is logged as an error")

machine.monitor.subscribe(fail)
machine.start()
machine.stop()
vmstate.log.get_logger("vmstate.test").critical("the worst")
assert logging.getLogger().handlers == []
assert logging.lastResort is not None
assert not structlog.is_configured()
"""
LOUD = "import logging\nlogging.basicConfig()\n" + SILENT.partition("assert")[0]


def run(code: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


def test_nothing_is_printed_or_configured_until_the_embedder_asks_for_it() -> None:
    ended = run(SILENT)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_with_a_handler_of_the_embedders_the_records_appear() -> None:
    ended = run(LOUD)
    assert ended.returncode == 0
    assert "ERROR:vmstate.monitor:subscriber failed" in ended.stderr
    assert "CRITICAL:vmstate.test:the worst" in ended.stderr
    assert "runstate_set" not in ended.stderr  # debug


def test_the_fields_of_a_log_line_are_attributes_of_its_record_and_stand_in_its_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    get_logger("vmstate.test").warning("thread refused: 100%s", device="vf0", count=3)
    (record,) = caplog.records
    assert (vars(record)["device"], vars(record)["count"]) == ("vf0", 3)
    assert record.getMessage() == "thread refused: 100%s device=vf0 count=3"
    assert (record.name, record.levelno) == ("vmstate.test", logging.WARNING)


def test_an_exception_goes_along_with_the_record(caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("what went wrong")
    get_logger("vmstate.test").error("failed", exc_info=error)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert record.getMessage() == "failed"


def test_bound_fields_and_levels_work_as_with_any_structlog_logger(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="vmstate.test")
    logger = get_logger("vmstate.test").bind(device="vf0")
    logger.info("not this")
    logger.warning("this")
    assert [record.getMessage() for record in caplog.records] == ["this device=vf0"]


def test_many_loggers_of_one_package_share_one_silent_handler() -> None:
    root = logging.getLogger("vmstate")
    before = root.handlers.copy()
    get_logger("vmstate.one")
    get_logger("vmstate.two")
    assert root.handlers == before
    assert any(isinstance(handler, logging.NullHandler) for handler in before)

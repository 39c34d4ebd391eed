"""What others wrote never commands a terminal."""

import io
import json
import logging

import pytest
import structlog

from pilothouse.cli.logs import configure_logs
from pilothouse.cli.output import Output, print_json, print_rows
from pilothouse.cli.terminal import echo
from pilothouse.settings import Settings

HOSTILE = [chr(number) for number in (*range(9), *range(11, 32), *range(127, 160))]
HOSTILE += [chr(number) for number in (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))]
TEXT = "[red]a" + "".join(HOSTILE) + "é"


def test_tables_lines_and_json_hold_no_raw_control(capsys: pytest.CaptureFixture[str]):
    print_rows([{"name": TEXT}], ["name"], Output.TABLE)
    table = capsys.readouterr().out
    echo(TEXT)
    line = capsys.readouterr().out
    print_json({"name": TEXT})
    text = capsys.readouterr().out

    for out in (table, line, text):
        assert not set(out) & set(HOSTILE)
        assert "[red]a" in out
        assert "é" in out
    assert "\\x1b" in table
    assert json.loads(text) == {"name": TEXT}


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_logs_hold_no_raw_control(log_format: str):
    stream = io.StringIO()
    settings = Settings().model_copy(update={"log_format": log_format})
    handlers = logging.root.handlers[:]
    try:
        configure_logs(settings, stream=stream)
        structlog.get_logger("x").warning(TEXT, name=TEXT, deep=[TEXT])
    finally:
        structlog.reset_defaults()
        logging.root.handlers[:] = handlers
    assert "red" in stream.getvalue()
    assert not set(stream.getvalue()) & set(HOSTILE)

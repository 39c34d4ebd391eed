"""``pilothouse …`` as a person types it in the folder of a chart."""

import subprocess
from collections.abc import Callable

from tests.support.charts import config_map_template
from tests.support.servers import CompletedCommand

CHART_YAML = "apiVersion: v2\nname: typed\nversion: 0.1.0\n"
MAP = config_map_template()

Typed = Callable[..., CompletedCommand]
Start = Callable[..., "subprocess.Popen[str]"]


def done(completed: CompletedCommand) -> str:
    assert completed.returncode == 0, completed.stderr
    return completed.stdout

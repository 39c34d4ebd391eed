"""The compose recipe fits the image that it runs, and its settings are settings."""

import re
from pathlib import Path

import yaml

from pilothouse.cli import COMMANDS
from pilothouse.settings import unknown_variables

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_recipe_runs_the_image_with_a_read_only_root_and_its_data_in_a_volume():
    recipe = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    image = (DEPLOY / "container" / "Containerfile").read_text()
    [service] = recipe["services"].values()

    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert service["command"][0] in COMMANDS
    assert unknown_variables(service["environment"]) == {}
    [volume] = [volume.partition(":") for volume in service["volumes"]]
    assert volume[0] in recipe["volumes"]
    assert f"VOLUME {volume[2]}\n" in image
    assert f"PILOTHOUSE_DATA_DIR={volume[2]}\n" in image
    assert (service["read_only"], service["tmpfs"], service["cap_drop"]) == (True, ["/tmp"], ["ALL"])
    exposed = re.findall(r"^EXPOSE (.*)$", image, re.MULTILINE)[0].split()
    assert {port.partition(":")[2] for port in service["ports"]} <= set(exposed)

"""How charts are named on the command line: on this machine, of a source, in a registry."""

from typing import cast

import pytest
import typer

from pilothouse.cli import local_charts
from pilothouse.cli.client import Client, Credentials
from pilothouse.cli.exits import UsageError
from pilothouse.cli.sources import source_reference

NO_CONTEXT = cast("typer.Context", None)  # only addresses of registries ask the server


@pytest.mark.parametrize("separator", [":", "@"])
def test_a_version_follows_a_colon_or_an_at_sign(separator: str):
    found = source_reference(NO_CONTEXT, f"team/web{separator}1.2.0-rc.1+build.7")
    assert found == {"source": "team", "name": "web", "version": "1.2.0-rc.1+build.7"}


def test_a_chart_without_a_version_has_none_unless_an_option_says_it():
    assert source_reference(NO_CONTEXT, "team/web") == {"source": "team", "name": "web"}
    assert source_reference(NO_CONTEXT, "team/web@1.0.0", version="1.0.0")["version"] == "1.0.0"
    assert source_reference(NO_CONTEXT, "team/web", version="^1")["version"] == "^1"


@pytest.mark.parametrize("digest", ["@sha256:0", ":1.0.0@sha256:0"])
def test_a_digest_is_no_version(digest: str):
    with pytest.raises(UsageError, match=r"name a version, team/web:VERSION"):
        source_reference(NO_CONTEXT, f"team/web{digest}")


def test_two_versions_contradict_each_other():
    with pytest.raises(UsageError, match="is another version"):
        source_reference(NO_CONTEXT, "team/web:1.0.0", version="2.0.0")


def test_a_chart_in_a_folder_below_takes_a_source_with_that_folder():
    with pytest.raises(UsageError, match=r"where the source has the address of the chart's folder"):
        source_reference(NO_CONTEXT, "root/team/web")


def test_the_address_of_a_source_is_not_that_of_the_server():
    with pytest.raises(UsageError, match=r"the address of a chart source cannot be changed: remove the source"):
        Client("oci://host.test/team", credentials=Credentials())


@pytest.mark.parametrize("chart", ["https://host.test/folder/api-0.1.0.tgz", "http://host.test/folder/api"])
def test_the_address_of_a_repository_needs_a_source(chart: str):
    with pytest.raises(UsageError, match=r"source add NAME https?://host\.test/folder', .*name SOURCE/CHART"):
        local_charts.find_local(chart)


@pytest.mark.parametrize("chart", ["oci://host.test/team/web", "oci://host.test/team/web.tgz", "team/web", "web@1"])
def test_what_the_server_has_is_not_looked_for_here(chart: str):
    assert local_charts.find_local(chart) is None

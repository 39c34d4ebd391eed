"""What this installation may write differently about releases, and what it never changes."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from pilothouse.api.cce.models import RELEASE_FIELDS, ReleaseSerializer
from pilothouse.redaction import masks_of
from pilothouse.services.releases.masking import hide_in_object, hide_in_text, hide_values, mask_values
from pilothouse.services.releases.pages import Release
from pilothouse.settings import ReleaseSettings

RELEASE = Release(
    cluster_id="c",
    cluster_name="cluster",
    namespace="shop",
    name="web",
    revision=3,
    status="superseded",
    description="mine",
    status_description="Upgrade complete",
    chart_name="web",
    chart_version="1.0.0",
    values_json='{"admin_password":"x"}',
    created_at=datetime(2026, 1, 1, 23, tzinfo=UTC),
    updated_at=datetime(2026, 1, 2, 23, 59, 59, 999999, tzinfo=UTC),
)


def form(**settings: bool) -> ReleaseSerializer:
    return ReleaseSerializer(ZoneInfo("Asia/Shanghai"), ReleaseSettings(**settings))


def test_times_carry_the_offset_and_no_fraction_and_every_member_is_there():
    written = form().to_wire(RELEASE)
    assert set(written) == RELEASE_FIELDS
    assert (written["create_at"], written["update_at"]) == ("2026-01-02T07:00:00+08:00", "2026-01-03T07:59:59+08:00")
    assert (written["status"], written["values"]) == ("SUPERSEDED", '{"admin_password":"x"}')


def test_the_status_that_the_vendor_lacks_can_be_left_out():
    assert form(superseded_as_unknown=True).to_wire(RELEASE)["status"] == "UNKNOWN"
    assert form(superseded_as_unknown=True).to_wire(replace(RELEASE, status="deployed"))["status"] == "DEPLOYED"


def test_a_status_that_helm_may_invent_is_unknown():
    assert form().to_wire(replace(RELEASE, status="half-deployed"))["status"] == "UNKNOWN"


def test_values_can_be_masked():
    assert form(mask_values=True).to_wire(RELEASE)["values"] == '{"admin_password":"******"}'


@pytest.mark.parametrize(
    ("plain", "masked"),
    [
        ({"image": "nginx", "port": 80}, {"image": "nginx", "port": 80}),
        ({"db": {"PASSWORD": "x", "user": "u"}}, {"db": {"PASSWORD": "******", "user": "u"}}),
        ({"secrets": {"a": ["b", {"c": 7}]}}, {"secrets": {"a": ["******", {"c": "******"}]}}),
        ({"token": {"enabled": True, "value": ""}}, {"token": {"enabled": True, "value": ""}}),
        ({"apiKey": "x", "sshPrivateKey": None}, {"apiKey": "******", "sshPrivateKey": None}),
        ({"keyboard": "us", "compass": "n"}, {"compass": "******", "keyboard": "us"}),
    ],
)
def test_what_stands_under_a_name_that_says_secret_is_masked(plain: object, masked: object):
    assert json.loads(mask_values(json.dumps(plain))) == masked


@pytest.mark.parametrize(
    ("values", "hidden"),
    [
        ("", ""),
        ("{}", "{}"),
        (
            '{"a":"x","b":{"c":1,"d":[true,null,1.5,{"e":""}]},"f":{},"g":[]}',
            '{"a":"******","b":{"c":"******","d":["******","******","******",{"e":"******"}]},"f":{},"g":[]}',
        ),
    ],
)
def test_hidden_values_keep_their_names_and_their_shape(values: str, hidden: str):
    assert hide_values(values) == hidden


def test_what_identifies_an_object_stays_and_its_application_does_not():
    live = {
        "apiVersion": "example.test/v1",
        "kind": "Longer-Kind",
        "metadata": {
            "name": "example.test",
            "uid": "u-12345678",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": '{"a": "pw"}', "x": "is example.test"},
        },
        "spec": {"replicas": 3, "number": 123456789, "on": True, "none": None, "kind": "Longer-Kind"},
    }
    values = {"a": "example.test", "b": "u-12345678", "c": 123456789, "d": "Longer-Kind", "e": 3}
    hidden = hide_in_object(live, masks_of(values=values))
    assert hidden == {
        "apiVersion": "example.test/v1",
        "kind": "Longer-Kind",
        "metadata": {
            "name": "example.test",
            "uid": "u-12345678",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "******", "x": "is ***"},
        },
        "spec": {"replicas": 3, "number": "***", "on": True, "none": None, "kind": "***"},
    }


@pytest.mark.parametrize("said", ["Install complete", "Rollback to 3", "Preparing upgrade", "deployed", ""])
def test_what_helm_says_of_every_release_is_never_withheld(said: str):
    assert hide_in_text(said, None, public=()) == said
    more = f"{said} of db-password"
    assert hide_in_text(more, '{"a":"db-password"}', public=()) == f"{said} of ***"
    assert "db-password" not in hide_in_text(more, None, public=())


def test_live_objects_that_were_read_for_somebody_else_are_not_shown():
    hidden = replace(form(), hides_values=True)
    shown = replace(RELEASE, resources_json='{"a":1}')
    assert (hidden.to_wire(shown)["resources"], form().to_wire(shown)["resources"]) == ("", '{"a":1}')
    assert hidden.to_wire(replace(shown, resources_hide_values=True))["resources"] == '{"a":1}'

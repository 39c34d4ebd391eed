"""Addresses of chart sources that are refused, and what is proposed instead."""

import pytest

from pilothouse.errors import InvalidArgument
from pilothouse.services.sources.records import Kind, checked_url


@pytest.mark.parametrize(
    ("kind", "url", "proposed"),
    [
        ("http", "https://charts.example.com/team/index.yaml", "https://charts.example.com/team"),
        ("http", "http://127.0.0.1:8879/team/index.yaml", "http://127.0.0.1:8879/team"),
        ("oci", "oci://registry.example.com/team/web:1.0.0", "oci://registry.example.com/team"),
    ],
)
def test_the_proposed_address_is_one_that_the_source_has(kind: Kind, url: str, proposed: str):
    with pytest.raises(InvalidArgument) as refused:
        checked_url(kind, url)
    assert str(refused.value).endswith(f": {proposed}")
    assert checked_url(kind, proposed) == proposed

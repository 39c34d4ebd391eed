"""The header that counts releases by status."""

from pilothouse.api.v1.release_lists import as_header


def test_words_that_are_not_helms_count_as_unknown():
    totals = {"deployed": 2, "unknown": 1, "a\r\nSet-Cookie: b": 3, "\u4f60": 4}
    assert as_header(totals) == "deployed=2, unknown=8"

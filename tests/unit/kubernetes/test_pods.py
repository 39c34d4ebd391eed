"""Lines of logs as they are shown."""

import pytest

from pilothouse.kubernetes.pods import shown_lines

BEGIN, END = b"-----BEGIN RSA PRIVATE KEY-----", b"-----END RSA PRIVATE KEY-----"


def shown(*lines: bytes) -> list[str]:
    return shown_lines(lines, [], longest=1000, room=10_000_000)


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        ([b"MHcCAQ", END, b"after"], ["***", "after"]),
        ([b"12:00 MHcCAQ", b"12:01 " + END + b" x", b"after"], ["*** x", "after"]),
        ([b"MHcCAQ", END, BEGIN, b"MHcCAQ", END, b"after"], ["***", "***", "after"]),
        ([b"before", BEGIN, b"MHcCAQ", END, b"after"], ["before", "***", "after"]),
        ([b"before", BEGIN, b"MHcCAQ"], ["before", "***"]),
        ([b"MHcCAQ", b"-----END CERTIFICATE-----", b"after"], ["MHcCAQ", "-----END CERTIFICATE-----", "after"]),
    ],
)
def test_a_private_key_is_masked_even_if_its_beginning_is_not_among_the_lines(lines: list[bytes], left: list[str]):
    assert shown(*lines) == left

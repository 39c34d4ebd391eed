"""Which of Helm's errors say that the cluster did not answer: those are tried again, all others are final."""

import pytest

from pilothouse.engine.helm_errors import helm_error, status_of, tells_of_unreachable

PATCH = 'Patch "https://h:6443/api/v1/namespaces/n/configmaps/c?fieldManager=helm"'


@pytest.mark.parametrize(
    "cause",
    [
        f"{PATCH}: EOF",
        f"{PATCH}: unexpected EOF",
        f"{PATCH}: read tcp 127.0.0.1:4->127.0.0.1:5: read: connection reset by peer",
        f"{PATCH}: dial tcp 10.0.0.1:6443: connect: connection refused",
        f"{PATCH}: dial tcp 10.0.0.1:6443: connect: no route to host",
        f"{PATCH}: dial tcp 10.0.0.1:6443: i/o timeout",
        f"{PATCH}: net/http: TLS handshake timeout",
        f"{PATCH}: http2: client connection lost",
        "the server is currently unable to handle the request (patch configmaps c)",
        "the server has received too many requests and has asked us to try again later (patch configmaps c)",
        "etcdserver: request timed out",
    ],
)
@pytest.mark.parametrize(
    "words", ['Release "r" failed: {}', 'Upgrade "r" failed: {}', 'Rollback "r" failed: {}', "{}"], ids=str.split
)
def test_a_cluster_that_does_not_answer_is_no_answer_of_helms(words: str, cause: str):
    assert tells_of_unreachable(words.format(cause))


def test_why_objects_could_not_be_deleted_counts():
    assert (
        status_of(helm_error(f"failed to delete release: r: [{PATCH}: EOF]", kind="HelmReleaseError")) == "unreachable"
    )
    denied = 'failed to delete release: r: [configmaps "c" is forbidden: no]'
    assert status_of(helm_error(denied, kind="HelmReleaseError")) == "refused"


@pytest.mark.parametrize(
    "text",
    [
        "execution error at (c/templates/a.yaml:1:3): connection refused",
        'Upgrade "r" failed: Apply failed with 1 conflict: conflict with "x": .data.EOF',
        'Upgrade "r" failed: configmaps "c" is forbidden: User "u" cannot patch: EOF',
        'Upgrade "r" failed: context deadline exceeded',
        "values don't meet the specifications of the schema(s)",
    ],
)
def test_helms_own_answers_are_final(text: str):
    assert not tells_of_unreachable(text)

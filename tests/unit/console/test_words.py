import pytest

from pilothouse import errors
from pilothouse.console import words
from pilothouse.kubernetes.health import Health
from pilothouse.states import OperationState, ReleaseStatus
from pilothouse.store.audit import Outcome


@pytest.mark.parametrize(
    ("called", "said"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36",
         "Chrome on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/130.0 Safari/537.36 Edg/130.0",
         "Edge on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Safari/604.1",
         "Safari on iPhone"),
        ("Mozilla/5.0 (Linux; Android 15) Gecko/132.0 Firefox/132.0", "Firefox on Android"),
        ("curl/8.9.1", "curl/8.9.1"),
        ("x" * 100, "x" * 59 + "…"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_browser_is_told_in_a_few_words(called: str, said: str):
    assert words.agent(called) == said


def test_only_what_an_operation_is_at_work_on_has_the_icon_that_turns():
    assert words.status(ReleaseStatus.PENDING_UPGRADE).icon == "loader"
    assert words.status(ReleaseStatus.PENDING_UPGRADE, moving=False).icon == "lock"
    assert words.status(ReleaseStatus.DEPLOYED, moving=False) == words.status(ReleaseStatus.DEPLOYED)
    assert words.state(OperationState.RUNNING, moving=False).icon == "clock"
    assert not any(words.health(one).icon == "loader" for one in Health)


@pytest.mark.parametrize("word", Outcome)
def test_each_outcome_of_the_audit_has_a_word(word: Outcome):
    assert words.outcome(word).text == word.capitalize()


def test_values_are_told_without_the_names_that_go_gives_them():
    text = 'spec.replicas: expected numeric (int or float), got string: &value.valueUnstructured{Value:"three"}'
    assert words.plain(text) == 'spec.replicas: expected numeric (int or float), got string: "three"'
    assert words.plain("a {plain} text") == "a {plain} text"


@pytest.mark.parametrize(
    ("error", "heading", "may_help"),
    [
        (errors.ArchiveGone("x"), "There is no such thing here", False),
        (errors.NotPermitted("x", action="a"), "You may not do this", False),
        (errors.PlanMoved("x"), "It is not any more as it was shown", False),
        (errors.ProviderUnavailable("x"), "The identity provider does not answer", True),
        (errors.Busy("x"), "The server has too much to do", True),
        (errors.TransactionConflict("x"), "Somebody changed the same thing at this moment", True),
        (errors.DatabaseUnavailable("x"), "The server's database does not answer", True),
        (errors.SourceDenied("x"), "The chart source refuses its credentials", True),
        (errors.SourceUntrusted("x"), "The chart source's certificate is not trusted", True),
        (errors.SourceUnavailable("x"), "The chart source does not answer", True),
        (errors.InvalidSource("x"), "This cannot be done as it was asked", False),
        (errors.HelmError("x", kind="HelmRenderError"), "Helm cannot do this", False),
        (errors.CorruptRelease("x"), "The release cannot be read", True),
        (errors.EngineTimeout("x"), "The server failed", True),
        (errors.DamagedRow("x"), "The server failed", True),
    ],
)
def test_an_error_is_told_by_its_kind(error: errors.PilothouseError, heading: str, *, may_help: bool):
    told = words.explain(error)
    assert (told[0], told[2]) == (heading, may_help)
    assert told[1].endswith(".")


UNKNOWN = "It is not known whether it was done"


@pytest.mark.parametrize(
    ("error", "unknown"),
    [
        (errors.DatabaseUnavailable("x"), True),
        (errors.ClusterUnavailable("x"), True),
        (errors.EngineTimeout("x"), True),
        (errors.TransactionConflict("x"), False),
        (errors.HelmError("x", kind="HelmRenderError"), False),
        (errors.PlanMoved("x"), False),
        (errors.Busy("x"), False),
    ],
)
def test_a_form_that_may_have_been_carried_out_is_not_told_as_undone(error: errors.PilothouseError, *, unknown: bool):
    heading, advice, _ = words.explain(error, is_write=True)
    assert (UNKNOWN in advice, heading) == (unknown, words.explain(error)[0])
    assert not unknown or "Nothing was changed" not in advice
    assert UNKNOWN not in words.explain(error)[1]


def test_an_order_that_may_have_been_stored_is_not_told_as_left_alone():
    told = [words.ordered("", unsure=False), words.ordered("bad"), words.ordered("bad", unsure=True)]
    assert [one.text for one in told] == ["Ordered", "Left alone", "Unknown"]


def test_what_is_no_fault_of_the_server_is_not_told_as_one():
    for error in (errors.HelmError("x", kind="HelmRenderError"), errors.CorruptRelease("x")):
        assert "no fault of yours" not in words.explain(error)[1]

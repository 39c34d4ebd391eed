"""Texts side by side: no line is lost, what is the same is folded, and the work is limited."""

import time

from hypothesis import given
from hypothesis import strategies as st

from pilothouse.console.side_by_side import MOST_LINES, compare_lines, compare_planned, group_lines
from pilothouse.services.releases.plan_changes import PlannedChange

LINES = st.lists(st.sampled_from("abcdef"), max_size=30)


@given(old=LINES, new=LINES)
def test_every_line_of_both_texts_is_there_once_in_its_order(old: list[str], new: list[str]):
    found = compare_lines(old, new)
    assert [(line.old_number, line.old) for line in found if line.old_number] == list(enumerate(old, 1))
    assert [(line.new_number, line.new) for line in found if line.new_number] == list(enumerate(new, 1))
    assert all(
        (line.kind == "same") == (line.old_number > 0 < line.new_number and line.old == line.new) for line in found
    )
    assert [line for group in group_lines(found) for line in group.lines] == found


def test_lines_that_are_the_same_are_folded_but_for_three_around_a_difference():
    old = [str(number) for number in range(30)]
    new = [*old[:10], "ten", *old[11:27], "27", "28 now", "29"]
    groups = group_lines(compare_lines(old, new))
    assert [(group.folded, len(group.lines)) for group in groups] == [(True, 7), (False, 7), (True, 11), (False, 5)]
    assert all(line.kind == "same" for group in groups if group.folded for line in group.lines)


def test_few_lines_are_not_worth_a_fold():
    groups = group_lines(compare_lines([*"abcdef", "x"], [*"abcdef", "y"]))
    assert [(group.folded, len(group.lines)) for group in groups] == [(False, 7)]


def test_large_texts_are_compared_in_no_time_and_a_page_has_its_limit():
    def planned(old: dict[str, str] | None, new: dict[str, str] | None) -> PlannedChange:
        return PlannedChange("v1", "ConfigMap", "n", "c", "changed", [], "changed", [], "", old, new)

    large = {f"key-{number}": "value" for number in range(MOST_LINES - 10)}
    other = {f"other-{number}": "value" for number in range(MOST_LINES // 2)}
    begun = time.process_time()
    whole, beyond, small = compare_planned(
        [planned(large, large | {"key-7": "another"}), planned(large, other), planned({"a": "b"}, {"a": "c"})]
    )
    assert time.process_time() - begun < 20
    assert [sum(len(group.lines) for group in one.groups) for one in (whole, beyond)] == [MOST_LINES - 10, 0]
    assert small.groups == [], "the page is full"

"""Two revisions of a release compared, or one with what the cluster has: objects, values and notes."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.auth.policy import READ_VALUES
from pilothouse.chart_archive.yaml_text import dump_yaml
from pilothouse.console.release import PREFIX, look, place_of, recheck_and_note, revision_of, show_page
from pilothouse.console.rendering import refusal
from pilothouse.console.requests import caller_of
from pilothouse.console.side_by_side import MOST_LINES, Group, compare_lines, group_lines
from pilothouse.errors import PilothouseError
from pilothouse.http.requests import service_of
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.off_loop import off_loop
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.releases.details import ReleaseDetails, ReleaseRef
from pilothouse.services.releases.differences import ReleaseDifferences, RevisionDiff
from pilothouse.services.releases.drift_reads import ReleaseDrifts
from pilothouse.services.releases.parts import ReleaseParts

_LARGE: Final = 2**20


@dataclass(frozen=True)
class TextDiff:
    """A text of two revisions, side by side; ``masked``: the person does not see all of it.

    ``too_long``: they differ, in more lines than a page has.
    """

    old_revision: int
    new_revision: int
    groups: list[Group] = field(repr=False)
    too_long: bool
    masked: bool


async def show_diff(request: Request) -> Response:
    """Compare two revisions, or the objects of one with what the cluster has."""
    diff: Any = None
    refused, values, notes = None, None, None
    try:
        if request.query_params.get("to", "") == "live":
            diff = await _compare_live(request)
        else:
            place, before, after = await _read(request, revision_of(request, "from"), revision_of(request, "to"))
            caller = await recheck_and_note(request, place, "diff")
            values, notes = await _compare_texts(request, caller, before, after)
            diff = await service_of(request, ReleaseDifferences).compare(caller, before, after)
    except PilothouseError as error:
        refused = refusal(request, error)
    return await show_page(
        request, "release_diff.html", tab="history", refused=refused, diff=diff, values=values, notes=notes
    )


async def _compare_live(request: Request) -> dict[str, Any]:
    revision = revision_of(request, "from")
    found = await look(request, partial(service_of(request, ReleaseDrifts).read, revision=revision), part="drift")
    return {
        "from_revision": found.revision,
        "to_revision": None,
        "summary": found.summary,
        "missing": found.missing,
        **vars(found),
    }


async def _compare_texts(
    request: Request, caller: Caller, before: StoredRelease, after: StoredRelease
) -> tuple[TextDiff, TextDiff]:
    """Return the values that were given, and the notes, as the caller may see them."""
    parts, hides = service_of(request, ReleaseParts), not caller.may(READ_VALUES)
    given, notes, masked = [], [], hides
    for stored in (before, after):
        shown = (await parts.show_values(caller, stored, "user")).values
        masked = masked or shown != stored.config
        given.append(await off_loop(partial(dump_yaml, shown), size=_LARGE) if shown else "")
        notes.append((await parts.show_notes(caller, stored)).text)
    revisions = before.revision, after.revision
    return (
        TextDiff(*revisions, *await _compare_lines(*given), masked=masked),
        TextDiff(*revisions, *await _compare_lines(*notes), masked=hides),
    )


async def _compare_lines(old: str, new: str) -> tuple[list[Group], bool]:
    """Return the lines in groups, none if all are the same; and True for more lines than a page has."""
    if old == new:
        return [], False
    groups = await off_loop(
        lambda: group_lines(compare_lines(old.splitlines(), new.splitlines())), size=len(old) + len(new)
    )
    too_long = sum(len(group.lines) for group in groups) > MOST_LINES
    return [] if too_long else groups, too_long


async def compare(request: Request, *, old: int | None, new: int | None, is_gone: bool = False) -> RevisionDiff:
    """Return what differs between two revisions; None is the one before the other, or the newest.

    ``is_gone``: the objects of the old one are not in the cluster any more.
    """
    place, before, after = await _read(request, old, new)
    if is_gone:
        before = replace(before, manifest="")
    caller = await recheck_and_note(request, place, "diff")
    return await service_of(request, ReleaseDifferences).compare(caller, before, after)


async def _read(request: Request, old: int | None, new: int | None) -> tuple[ReleaseRef, StoredRelease, StoredRelease]:
    caller = caller_of(request)
    place = await service_of(request, ReleaseDetails).locate(caller, place_of(request))
    found = await service_of(request, ReleaseDifferences).read(caller, place, from_revision=old, to_revision=new)
    return place, *found


ROUTES: Final = [Route(f"{PREFIX}/diff", show_diff, methods=["GET"])]

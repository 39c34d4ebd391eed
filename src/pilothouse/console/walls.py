"""The wall of a cluster in forms: in which namespaces the project works there, and as whom; for administrators."""

import re
from typing import Final
from urllib.parse import quote

from starlette.requests import Request

from pilothouse.console.forms import Fields, require_typed_name
from pilothouse.console.requests import caller_of, here
from pilothouse.console.texts import gettext
from pilothouse.console.value_forms import require
from pilothouse.errors import Checks
from pilothouse.http.requests import request_id_of, service_of
from pilothouse.services.cluster_walls import ClusterWalls
from pilothouse.services.clusters import Clusters
from pilothouse.services.walls import SET_WALL, Wall
from pilothouse.store.clusters import ClusterName

WALL_FIELDS: Final = ("namespaces", "user", "groups")


def read_wall(fields: Fields) -> Wall:
    """Return the wall of a form: namespaces apart by blanks or commas, groups by lines.

    Raises InvalidRequest with all that is wrong of one that cannot be.
    """
    checks = Checks()
    checks.read(lambda: require(fields, "namespaces", gettext("missing; a wall has at least one")))
    checks.read(lambda: require(fields, "user", gettext("missing; a wall has one that is acted as")))
    groups = (line.strip() for line in fields.get("groups", "").splitlines())
    wall = Wall(
        namespaces=tuple(name for name in re.split(r"[\s,]+", fields.get("namespaces", "")) if name),
        user=fields.get("user", "").strip(),
        groups=tuple(group for group in groups if group),
    )
    checks.read(wall.check_given)
    checks.end()
    return wall


def typed_wall(wall: Wall | None) -> Fields:
    """Return the fields of a form that holds the wall."""
    if wall is None:
        return {}
    return {"namespaces": "\n".join(wall.namespaces), "user": wall.user, "groups": "\n".join(wall.groups)}


async def set_wall(request: Request, fields: Fields) -> str:
    """Set or change the wall; return the path of its place."""
    return await _store(request, fields, await _named(request), read_wall(fields))


async def remove_wall(request: Request, fields: Fields) -> str:
    """Remove the wall, if the cluster's name was typed; return the path of its place."""
    caller_of(request).require_in_account(SET_WALL)
    named = await _named(request)
    ask = gettext("type the cluster's name, %(name)s, to remove the wall of it", name=named.name)
    require_typed_name(fields, named.name, ask=ask)
    return await _store(request, fields, named, None)


async def _named(request: Request) -> ClusterName:
    caller = caller_of(request)
    return await service_of(request, Clusters).identify(request.path_params["cluster"], project_id=caller.project_id)


async def _store(request: Request, fields: Fields, named: ClusterName, wall: Wall | None) -> str:
    caller, shown = caller_of(request), fields.get("shown", "")
    await service_of(request, ClusterWalls).set_wall(
        caller, named.id, wall, request_id=request_id_of(request), shown=shown
    )
    return f"{here(caller)}/clusters/{quote(named.name, safe='')}#wall"

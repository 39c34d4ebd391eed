"""Projects, which own clusters, charts and releases, and their account."""

import re
import uuid
from dataclasses import dataclass

from pilothouse.errors import AlreadyExists, Forbidden, InvalidArgument, InvalidRequest, NotFound, NotPermitted
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import current_caller
from pilothouse.store import audit
from pilothouse.store import projects as store
from pilothouse.store.database import Database, retry_conflicts
from pilothouse.store.projects import ProjectRow

_CREATE = "iam:projects:createProject"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_LONGEST_DESCRIPTION = 255


@dataclass(frozen=True)
class Page:
    """A page of a list, and whether more comes after it."""

    rows: list[ProjectRow]
    more: bool


class Projects:
    """List, create, disable and delete the projects of an account."""

    def __init__(self, database: Database, *, region: str) -> None:
        self._database = database
        self.region = region

    async def list_page(
        self, caller: Caller, *, name: str | None = None, enabled: bool | None = None, page: int, per_page: int
    ) -> Page:
        """Return one page, by name, of the account's projects in which the caller has a role."""
        async with self._database.autocommit() as connection:
            rows = await store.list_projects(
                connection,
                domain_id=caller.domain_id,
                name=name,
                enabled=enabled,
                for_user=caller.user_id,
                carried=caller.carried,
                offset=(page - 1) * per_page,
                limit=per_page + 1,
            )
        return Page(rows[:per_page], more=len(rows) > per_page)

    async def list_all(self, caller: Caller) -> list[ProjectRow]:
        """Return the account's projects in which the caller has a role, by name; with a role in the account, all."""
        async with self._database.autocommit() as connection:
            return await store.list_projects(
                connection, domain_id=caller.domain_id, for_user=caller.user_id, carried=caller.carried
            )

    async def list_usable(self, caller: Caller) -> list[ProjectRow]:
        """Return the enabled projects in which the caller has a role."""
        async with self._database.autocommit() as connection:
            return await store.list_projects(
                connection, domain_id=caller.domain_id, enabled=True, for_user=caller.user_id, carried=caller.carried
            )

    async def show(self, caller: Caller, project_id: str) -> ProjectRow:
        """Return one project of the account in which the caller has a role, else raise NotFound."""
        async with self._database.autocommit() as connection:
            row = await store.find_project(
                connection,
                domain_id=caller.domain_id,
                project_id=project_id,
                for_user=caller.user_id,
                carried=caller.carried,
            )
        if row is None:
            raise NotFound(f"project {project_id!r} does not exist in this account")
        return row

    def check_create_in_region(self, caller: Caller) -> None:
        """Return if the caller may create projects; else Forbidden, with the explanation that the Node SDK lacks."""
        try:
            caller.require_in_account(_CREATE)
        except NotPermitted as error:
            raise NotPermitted(f"{error}. {self._region_hint()}", action=error.action) from None

    def _region_hint(self) -> str:
        return (
            f"This server is region {self.region!r}; if a client asked for its region's project, set its region to "
            f"{self.region}"
        )

    async def create_in_region(self, caller: Caller, *, name: str, description: str, request_id: str) -> ProjectRow:
        """Do the same as ``create`` with the vendor's rule for names: the region, '_', and more.

        The rule keeps a client with the wrong region from creating a project with that region's name: the Node SDK
        tries to if its lookup finds none.
        """
        if not name.startswith(f"{self.region}_"):
            raise Forbidden(
                f"project {name!r} was not created: names of new projects start with '{self.region}_'. "
                f"{self._region_hint()}"
            )
        return await self.create(caller, name=name, description=description, request_id=request_id)

    async def create(self, caller: Caller, *, name: str, description: str, request_id: str) -> ProjectRow:
        """Create a project of the account; raise InvalidRequest for its name, or AlreadyExists."""
        caller.require_in_account(_CREATE)
        if not _NAME.fullmatch(name):
            raise InvalidArgument(
                f"name: {name!a} is not a project name: 1 to 64 letters, digits, '-' and '_', a letter or digit first"
            )
        if len(description) > _LONGEST_DESCRIPTION or not description.isprintable():
            raise InvalidArgument(f"description: at most {_LONGEST_DESCRIPTION} printable characters, on one line")
        project_id = uuid.uuid4().hex
        async with self._database.transaction() as tx:
            (await current_caller(tx, caller)).require_in_account(_CREATE)
            added = await store.add_project(
                tx, project_id=project_id, domain_id=caller.domain_id, name=name, description=description
            )
            if not added:
                raise AlreadyExists(f"name: this account already has a project named {name!r}")
            await audit.record(
                tx, caller, "iam:projects:createProject", target=project_id, target_name=name, request_id=request_id
            )
        return await self.show(caller, project_id)

    @retry_conflicts
    async def set_enabled(self, caller: Caller, project_id: str, *, enabled: bool, request_id: str) -> ProjectRow:
        """Enable or disable a project; nobody can act in a disabled one, and its tokens are revoked.

        Operations that were accepted before are carried out.
        """
        caller.require_in_account("iam:projects:updateProject")
        row = await self.show(caller, project_id)
        if not enabled and project_id == caller.project_id:
            raise InvalidRequest("enabled: these credentials act in this project; disable it with others")
        async with self._database.transaction() as tx:
            (await current_caller(tx, caller)).require_in_account("iam:projects:updateProject")
            await store.set_enabled(tx, project_id, enabled=enabled)
            await audit.record(
                tx,
                caller,
                "iam:projects:updateProject",
                target=project_id,
                target_name=row.name,
                detail="enable" if enabled else "disable",
                request_id=request_id,
            )
        return await self.show(caller, project_id)

    @retry_conflicts
    async def remove(self, caller: Caller, project_id: str, *, request_id: str) -> None:
        """Delete an empty project; raise InvalidRequest if it is not empty."""
        caller.require_in_account("iam:projects:deleteProject")
        row = await self.show(caller, project_id)
        async with self._database.transaction() as tx:
            (await current_caller(tx, caller)).require_in_account("iam:projects:deleteProject")
            if not await store.remove_project(tx, project_id):
                raise InvalidRequest(
                    f"project {project_id} has clusters, charts, access keys or a record of operations; "
                    "disable it instead"
                )
            await audit.record(
                tx, caller, "iam:projects:deleteProject", target=project_id, target_name=row.name, request_id=request_id
            )

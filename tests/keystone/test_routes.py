"""Every route asked with tokens of a real Keystone: they may what its roles stand for here, and nothing else."""

from contextlib import closing
from functools import partial
from pathlib import Path

from tests.hostile.test_who_may_do_what import wrong_cells
from tests.keystone.conftest import Accepting
from tests.support.matrix import OWN, Caller, Wire
from tests.support.matrix_world import one_project
from tests.support.route_table import application


def test_a_token_gets_from_every_route_what_its_roles_say(
    accepting: Accepting, kubeconfig: str, namespace: str, tmp_path: Path
):
    admin, full, reader = (frozenset({role}) for role in ("te_admin", "CCE FullAccess", "CCE ReadOnlyAccess"))
    log_in = partial(accepting.keystone.log_in, project="shop")
    here = accepting.server.project_id
    callers = (
        Caller("frank", OWN, roles=admin, account_roles=admin, token=log_in("frank"), project_id=here),
        Caller("alice", OWN, roles=full, token=log_in("alice"), project_id=here),
        Caller("bob", OWN, roles=reader, token=log_in("bob"), project_id=here),
    )
    with (
        one_project(accepting.server, kubeconfig, namespace, *callers) as world,
        closing(Wire(accepting.server)) as wire,
    ):
        assert wrong_cells(world, wire, application(tmp_path)) == []

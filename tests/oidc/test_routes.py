"""Every route asked with tokens of a real provider: they may what the roles of their groups say, and nothing else."""

from contextlib import closing
from pathlib import Path

from tests.hostile.test_who_may_do_what import wrong_cells
from tests.oidc.conftest import SignedOn
from tests.support.matrix import OWN, Caller, Wire
from tests.support.matrix_world import one_project
from tests.support.route_table import application


def test_a_token_gets_from_every_route_what_its_groups_say(
    signed_on: SignedOn, kubeconfig: str, namespace: str, tmp_path: Path
):
    admin, reader = frozenset({"te_admin"}), frozenset({"CCE ReadOnlyAccess"})
    token = signed_on.provider.token_of
    here = signed_on.server.project_id
    callers = (
        Caller("alice, an administrator", OWN, roles=admin, account_roles=admin, token=token("alice"), project_id=here),
        Caller("bob, a reader", OWN, roles=reader, token=token("bob"), project_id=here),
    )
    with (
        one_project(signed_on.server, kubeconfig, namespace, *callers) as world,
        closing(Wire(signed_on.server)) as wire,
    ):
        assert wrong_cells(world, wire, application(tmp_path)) == []

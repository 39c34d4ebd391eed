"""Log-ins leave no memory behind in the API's process, in whichever of its threads they are checked."""

from collections import Counter

from benchmarks.samples import held_by
from tests.support.servers import open_folder, part, run_server
from tests.support.tokens import token_of


def test_the_api_keeps_no_memory_of_log_ins():
    with open_folder() as folder, run_server(folder, kubeconfig=None) as server:
        api = part(server, "api")
        before = held_by(api, Counter()).private
        for _ in range(12):  # one after the other, in as many threads as there are for them
            token_of(server)
        assert held_by(api, Counter()).private - before < 6, "megabytes; Argon2 takes 12 for a password"

"""What a reader of a cluster is told when other readers of the process hold all that it may hold."""

import pytest

from pilothouse.errors import Busy, ClusterUnavailable
from pilothouse.kubernetes.budget import Budget, Reading, Room, budgeted


def test_a_request_is_told_to_ask_again():
    room = Room(each=100, total=300)
    with budgeted(Budget(seconds=5, most_bytes=1000)):
        others, reading = Reading(room, "one"), Reading(room, "one")
        others.spend(80)
        with pytest.raises(Busy):
            reading.spend(40)


def test_a_worker_finds_the_cluster_out_of_reach_for_a_moment():
    room = Room(each=100, total=300)
    others, reading = Reading(room, "one"), Reading(room, "one")
    others.spend(80)
    with pytest.raises(ClusterUnavailable, match="sends too much at once"):
        reading.spend(40)
    others.close()
    reading.spend(40)

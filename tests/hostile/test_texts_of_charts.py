"""What a chart says when it fails is masked without keeping others waiting."""

import pytest

from tests.support.bystanders import longest_wait
from tests.support.charts import build_chart
from tests.support.servers import RunningServer

#: Before, each of these held the event loop for 10 s and more.
TEXTS = {
    "beginnings of tokens": '{{ fail (repeat 25000 "eyJ") }}',
    "beginnings of keys": '{{ fail (repeat 5000 "-----BEGIN PRIVATE KEY-----") }}',
    "a long word": '{{ fail (repeat 200000 "a") }}',
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_long_message_is_masked_in_a_moment(attacked: RunningServer, namespace: str, name: str):
    chart = build_chart("talks", templates={"a.yaml": TEXTS[name]})
    uploaded = attacked.upload(chart, parameters='{"skip_lint": true, "override": true}')
    assert uploaded.status_code == 201, uploaded.text
    values = {f"key{number}": f"value-{number}-of-many" for number in range(10_000)}

    def attack() -> None:
        answer = attacked.create(
            chart_id=uploaded.json()["id"],
            namespace=namespace,
            name="talks",
            values=values,
            parameters={"dry_run": True},
        )
        assert answer.status_code == 400, answer.text

    assert longest_wait(attacked, attack) < 1.0

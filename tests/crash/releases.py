"""What is done to a release while something dies: the actions, from a state that was reached undisturbed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import httpx2

from tests.crash.deployment import FINAL, Deployment
from tests.support.charts import build_chart, config_map_template, hook_job_template
from tests.support.servers import wait_for

Hook = Literal["quick", "slow", "endless"]
ActionName = Literal["install", "upgrade", "rollback", "uninstall", "cancel", "cancel-upgrade"]
ACTIONS: tuple[ActionName, ...] = ("install", "upgrade", "rollback", "uninstall", "cancel")
#: The short set has no time for the last one, whose points are much like those of a rollback and a cancel.
ALL_ACTIONS: tuple[ActionName, ...] = (*ACTIONS, "cancel-upgrade")
#: These end a running operation, and no operation of their own is accepted for them.
CANCELS: frozenset[ActionName] = frozenset({"cancel", "cancel-upgrade"})

CHART = "survivor"
#: What says that an object belongs to a release, for the judge.
LABEL = "crash.test/release"

_LABELS = f"  labels: {{{LABEL}: '{{{{ .Release.Name }}}}'}}\n"
_SERVICE = f"""\
apiVersion: v1
kind: Service
metadata:
  name: {{{{ .Release.Name }}}}
{_LABELS}spec:
  ports: [{{port: {{{{ .Values.port }}}}}}]
"""
_FATES = {
    "slow": "pilothouse.dev/simulate: slow, pilothouse.dev/simulate-delay: 20s",
    "endless": "pilothouse.dev/simulate: never-ready",
}
#: Added to the major version of a chart by its hook.
_SERIES: dict[Hook, int] = {"quick": 0, "slow": 100, "endless": 200}


def chart(version: int, *, hook: Hook = "quick") -> bytes:
    """A chart whose versions differ in every way: objects that change, that come and that go, and a hook.

    Every version has the ConfigMap ``-config`` and the Service; each odd one also ``-odd``, each even one ``-even``.
    """
    job = hook_job_template("pre-install,pre-upgrade,pre-rollback,pre-delete")
    if hook != "quick":
        annotated = f"    metadata: {{annotations: {{{_FATES[hook]}}}}}\n    spec:\n      restartPolicy"
        job = hook_job_template("post-install,post-upgrade").replace("    spec:\n      restartPolicy", annotated)
    parity = "odd" if version % 2 else "even"
    return build_chart(
        CHART,
        f"{version}.0.0",
        templates={
            "config.yaml": _labelled(config_map_template()),
            "parity.yaml": _labelled(config_map_template(parity)),
            "service.yaml": _SERVICE,
            "hook.yaml": job,
        },
        values={"text": f"version {version}", "port": 8000 + version},
    )


def _labelled(template: str) -> str:
    return template.replace("\ndata:\n", f"\n{_LABELS}data:\n")


@dataclass
class Charts:
    """The chart's versions as this deployment knows them."""

    deployment: Deployment
    _ids: dict[int, str] = field(default_factory=dict)

    def id_of(self, version: int, *, hook: Hook = "quick") -> str:
        """The id of the uploaded chart."""
        key = version + _SERIES[hook]
        if key not in self._ids:
            archive = chart(key, hook=hook)
            answer = self.deployment.server.upload(archive, parameters='{"override": true}')
            assert answer.status_code == 201, answer.text
            self._ids[key] = str(answer.json()["id"])
        return self._ids[key]


@dataclass(frozen=True)
class Release:
    """One release and one thing that is done to it."""

    charts: Charts
    namespace: str
    name: str
    action: ActionName

    @property
    def deployment(self) -> Deployment:
        return self.charts.deployment

    @property
    def path(self) -> str:
        cluster = self.deployment.server.cluster_id
        return f"/cce/cam/v3/clusters/{cluster}/namespace/{self.namespace}/releases/{self.name}"

    def prepare(self) -> None:
        """The state from which the action starts."""
        match self.action:
            case "upgrade" | "uninstall":
                self._undisturbed(lambda: self._create(1))
            case "rollback":
                self._undisturbed(lambda: self._create(1))
                self._undisturbed(lambda: self._put("upgrade", chart_id=self.charts.id_of(2)))
            case "cancel":
                self.begin_install(hook="slow")
            case "cancel-upgrade":
                self._undisturbed(lambda: self._create(1))
                answer = self._put("upgrade", chart_id=self.charts.id_of(2, hook="slow"))
                assert answer.is_success, answer.text
                wait_for(lambda: self._runs_hook("upgrade"), seconds=120)
            case "install":
                pass

    def begin_install(self, *, hook: Hook) -> None:
        """Returns when the hook runs, and with it the operation waits."""
        answer = self._create(1, hook=hook)
        assert answer.is_success, answer.text
        wait_for(lambda: self._runs_hook("install"), seconds=120, otherwise=self._situation)

    def send(self) -> httpx2.Response:
        """The request for the action."""
        match self.action:
            case "install":
                return self._create(1)
            case "upgrade":
                return self._put("upgrade", chart_id=self.charts.id_of(2))
            case "rollback":
                return self._put("rollback", chart_id="")
            case "uninstall" | "cancel":
                return self.deployment.server.send("DELETE", self.path)
            case "cancel-upgrade":
                operation = self.deployment.operations(self.name)[-1][0]
                return self.deployment.server.send("POST", f"/api/v1/operations/{operation}/cancel")

    def _undisturbed(self, send: Callable[[], httpx2.Response]) -> None:
        answer = send()
        assert answer.is_success, answer.text
        state = wait_for(self._final_state, seconds=120, otherwise=self._situation)
        assert state == "succeeded", self._situation()

    def _final_state(self) -> str:
        state = self.deployment.operations(self.name)[-1][1]
        return state if state in FINAL else ""

    def _situation(self) -> str:
        """What is known of an operation that nothing disturbed and that did not end well."""
        operation = self.deployment.operations(self.name)[-1][0]
        lines = [self.text(), *map(str, self.deployment.history(operation))]
        for member in self.deployment.members:
            lines += [f"--- {member.name} ({'runs' if member.alive() else 'is gone'})", member.said()[-3000:]]
        return "\n".join(lines)

    def text(self) -> str:
        """How the last operation ended, in its own words."""
        rows = self.deployment.ask(
            "SELECT state, status_description, last_error FROM operations WHERE release_name = %s"
            " ORDER BY created_at DESC LIMIT 1",
            self.name,
        )
        return " | ".join(rows[0]) if rows else "no operation"

    def _runs_hook(self, action: str) -> bool:
        """Whether the operation tells that its hook runs: everything else that it makes is there by then."""
        rows = self.deployment.ask(
            "SELECT 1 FROM operation_events e JOIN operations o ON o.id = e.operation_id"
            " WHERE o.release_name = %s AND o.action = %s AND e.kind = 'hook_progress'",
            self.name,
            action,
        )
        return bool(rows)

    def _create(self, version: int, *, hook: Hook = "quick") -> httpx2.Response:
        return self.deployment.server.create(
            chart_id=self.charts.id_of(version, hook=hook),
            name=self.name,
            namespace=self.namespace,
            version=f"{version + _SERIES[hook]}.0.0",
            values={},
        )

    def _put(self, action: str, *, chart_id: str) -> httpx2.Response:
        body = {"chart_id": chart_id, "action": action, "values": {}, "parameters": {"include_hooks": True}}
        return self.deployment.server.send("PUT", self.path, json_body=body)

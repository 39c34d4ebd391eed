"""What is done to a release while something dies: the actions, from a state that was reached undisturbed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import httpx2

from tests.crash.deployment import FINAL, Deployment
from tests.support.charts import build_chart, config_map_template, hook_job_template
from tests.support.servers import wait_for

Hook = Literal["quick", "slow", "endless", "slow-rollback", "slow-delete"]
#: ``apply`` is that of a plan; ``cancel`` is a DELETE, ``cancel-keep`` leaves what was installed; ``checks`` are the
#: tests as a part of an upgrade. What is undone has failed, and so has what is cleaned up.
ActionName = Literal[
    "install", "upgrade", "rollback", "uninstall", "uninstall-keep", "test", "checks",
    "apply-install", "apply", "apply-rollback", "apply-uninstall",
    "cancel", "cancel-keep", "cancel-upgrade", "cancel-rollback", "cancel-uninstall", "cancel-uninstall-keep",
    "cancel-test", "cancel-checks",
    "undo-install", "undo-upgrade", "undo-checks", "cleanup-upgrade",
]  # fmt: skip
ALL_ACTIONS: tuple[ActionName, ...] = get_args(ActionName)
#: The short set has no time for the others, whose points are much like theirs.
ACTIONS: tuple[ActionName, ...] = ("install", "upgrade", "rollback", "uninstall", "cancel")
#: These end a running operation, and no operation of their own is accepted for them.
CANCELS: frozenset[ActionName] = frozenset(one for one in ALL_ACTIONS if one.startswith("cancel"))

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
#: Two tests; of the first the judge sees whether it is left behind.
_TESTS = f"""\
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{{{ .Release.Name }}}}-tested
{_LABELS}  annotations: {{helm.sh/hook: test, helm.sh/hook-weight: "-1", helm.sh/hook-delete-policy: hook-succeeded}}
---
apiVersion: v1
kind: Pod
metadata:
  name: {{{{ .Release.Name }}}}-test
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: hook-succeeded,hook-failed
    pilothouse.dev/simulate: {{{{ .Values.fate | quote }}}}
    pilothouse.dev/simulate-delay: 20s
spec: {{restartPolicy: Never, containers: [{{name: main, image: "busybox:1"}}]}}
"""
_SLOW = "pilothouse.dev/simulate: slow, pilothouse.dev/simulate-delay: 20s"
_FATES = {"endless": "pilothouse.dev/simulate: never-ready"}
_EVENTS = {"slow-rollback": "post-rollback", "slow-delete": "pre-delete"}
#: Of the first revision, where what is to be cancelled waits in a hook that is run with it.
_FIRST_HOOKS: dict[ActionName, Hook] = {
    "cancel-rollback": "slow-rollback",
    "cancel-uninstall": "slow-delete",
    "cancel-uninstall-keep": "slow-delete",
}
#: Added to the major version of a chart by its hook.
_SERIES: dict[Hook, int] = {"quick": 0, "slow": 100, "endless": 200, "slow-rollback": 300, "slow-delete": 400}


def chart(version: int, *, hook: Hook = "quick") -> bytes:
    """Return a chart whose versions differ in every way: objects that change, that come and that go, and a hook.

    Every version has the ConfigMap ``-config`` and the Service; each odd one also ``-odd``, each even one ``-even``.
    """
    job = hook_job_template("pre-install,pre-upgrade,pre-rollback,pre-delete")
    if hook != "quick":
        fate, event = _FATES.get(hook, _SLOW), _EVENTS.get(hook, "post-install,post-upgrade")
        annotated = f"    metadata: {{annotations: {{{fate}}}}}\n    spec:\n      restartPolicy"
        job = hook_job_template(event).replace("    spec:\n      restartPolicy", annotated)
    parity = "odd" if version % 2 else "even"
    return build_chart(
        CHART,
        f"{version}.0.0",
        templates={
            "config.yaml": _labelled(config_map_template()),
            "parity.yaml": _labelled(config_map_template(parity)),
            "service.yaml": _SERVICE,
            "hook.yaml": job,
            "tests.yaml": _TESTS,
        },
        values={"text": f"version {version}", "port": 8000 + version, "fate": ""},
    )


def _labelled(template: str) -> str:
    return template.replace("\ndata:\n", f"\n{_LABELS}data:\n")


@dataclass
class Charts:
    """The chart's versions as this deployment knows them."""

    deployment: Deployment
    _ids: dict[int, str] = field(default_factory=dict)

    def id_of(self, version: int, *, hook: Hook = "quick") -> str:
        """Return the id of the uploaded chart."""
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
    _plans: dict[str, dict[str, str]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def deployment(self) -> Deployment:
        return self.charts.deployment

    @property
    def path(self) -> str:
        cluster = self.deployment.server.cluster_id
        return f"/cce/cam/v3/clusters/{cluster}/namespace/{self.namespace}/releases/{self.name}"

    def prepare(self) -> None:
        """Make the state from which the action starts."""
        if self.action not in {"install", "undo-install", "apply-install", "cancel", "cancel-keep"}:
            self._undisturbed(lambda: self._create(1, hook=_FIRST_HOOKS.get(self.action, "quick")))
        if self.action.endswith("rollback"):
            self._undisturbed(lambda: self._put("upgrade", chart_id=self.charts.id_of(2)))
        if self.action.startswith("apply"):
            self._plans[self.name] = self._plan()
        if self.action in CANCELS:
            self._begin()

    def _begin(self) -> None:
        """Return when what is to be cancelled waits, in a hook or in a test."""
        match self.action:
            case "cancel-upgrade":
                self._wait_in("upgrade", self._put("upgrade", chart_id=self.charts.id_of(2, hook="slow")))
            case "cancel-rollback":
                self._wait_in("rollback", self._put("rollback", chart_id=""))
            case "cancel-uninstall":
                self._wait_in("uninstall", self.deployment.server.send("DELETE", self.path))
            case "cancel-uninstall-keep":
                self._wait_in("uninstall", self._uninstall_keeping())
            case "cancel-checks":
                self._wait_in("upgrade", self._check("slow"), what="test")
            case "cancel-test":
                self._wait_in("test", self._own("POST", "/test", {}), what="test")
            case _:
                self.begin_install(hook="slow")

    def begin_install(self, *, hook: Hook) -> None:
        """Return when the hook runs, and with it the operation waits."""
        self._wait_in("install", self._create(1, hook=hook))

    def _wait_in(self, action: str, begun: httpx2.Response, *, what: str = "hook") -> None:
        assert begun.is_success, begun.text
        wait_for(lambda: self._runs(action, what), seconds=120, otherwise=self._situation)

    def send(self) -> httpx2.Response:  # noqa: C901, PLR0911  # one for each action
        """Return the request for the action."""
        match self.action:
            case "install":
                return self._create(1)
            case "upgrade":
                return self._put("upgrade", chart_id=self.charts.id_of(2))
            case "apply" | "apply-install" | "apply-rollback" | "apply-uninstall":
                return self._apply()
            case "rollback":
                return self._put("rollback", chart_id="")
            case "undo-upgrade" | "undo-install" | "cleanup-upgrade":
                return self._fail()
            case "test":
                return self._own("POST", "/test", {})
            case "checks":
                return self._check("")
            case "undo-checks":
                return self._check("fail")
            case "uninstall" | "cancel":
                return self.deployment.server.send("DELETE", self.path)
            case "uninstall-keep":
                return self._uninstall_keeping()
        operation = self.deployment.operations(self.name)[-1][0]
        keep = {"keep": self.action == "cancel-keep"}
        return self.deployment.server.send("POST", f"/api/v1/operations/{operation}/cancel", json_body=keep)

    def _fail(self) -> httpx2.Response:
        """Send what no API server takes whole, and what is to be undone, or cleaned up, for that."""
        options = {"cleanup_on_fail" if self.action == "cleanup-upgrade" else "rollback_on_failure": True}
        body = {"chart": {"id": self.charts.id_of(2)}, "values": [{"set": "port=0"}], "options": options}
        return self._own("PUT", "", body)

    def _uninstall_keeping(self) -> httpx2.Response:
        return self._own("DELETE", "", {"options": {"keep_history": True}})

    def _own(self, method: str, below: str, body: dict[str, Any]) -> httpx2.Response:
        """Return the answer of our own API about the release."""
        cluster = self.deployment.server.cluster_id
        path = f"/api/v1/clusters/{cluster}/namespaces/{self.namespace}/releases/{self.name}{below}"
        return self.deployment.server.send(method, path, json_body=body)

    def _check(self, fate: str) -> httpx2.Response:
        """An upgrade with its tests, which is to be rolled back if they fail."""
        options = {"checks": ["test"], "rollback_on_failure": True}
        body = {"chart": {"id": self.charts.id_of(2)}, "values": [{"set": f"fate={fate}"}], "options": options}
        return self._own("PUT", "", body)

    def _apply(self) -> httpx2.Response:
        plan = self._plans[self.name]
        path = f"/api/v1/plans/{plan['id']}/apply"
        return self.deployment.server.send("POST", path, json_body={"digest": plan["digest"]})

    def _plan(self) -> dict[str, str]:
        deploy = {"chart": {"id": self.charts.id_of(1 if self.action == "apply-install" else 2)}}
        others: dict[ActionName, dict[str, Any]] = {
            "apply-rollback": {"rollback": {}},
            "apply-uninstall": {"delete": {}},
        }
        answer = self._own("POST", "/plan", others.get(self.action, {"deploy": deploy}))
        assert answer.is_success, answer.text
        plan: dict[str, str] = answer.json()
        return plan

    def _undisturbed(self, send: Callable[[], httpx2.Response]) -> None:
        answer = send()
        assert answer.is_success, answer.text
        state = wait_for(self._final_state, seconds=120, otherwise=self._situation)
        assert state == "succeeded", self._situation()

    def _final_state(self) -> str:
        state = self.deployment.operations(self.name)[-1][1]
        return state if state in FINAL else ""

    def _situation(self) -> str:
        """Return what is known of an operation that nothing disturbed and that did not end well."""
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

    def _runs(self, action: str, what: str) -> bool:
        """Whether the operation tells that its hook, or its test, runs: everything else that it makes is there then."""
        rows = self.deployment.ask(
            "SELECT 1 FROM operation_events e JOIN operations o ON o.id = e.operation_id"
            " WHERE o.release_name = %s AND o.action = %s AND e.kind = 'hook_progress' AND e.text LIKE %s",
            self.name,
            action,
            f"% {self.name}-{what}%",
        )
        return bool(rows)

    def _create(self, version: int, *, hook: Hook = "quick") -> httpx2.Response:
        return self.deployment.server.create(
            chart_id=self.charts.id_of(version, hook=hook),
            name=self.name,
            namespace=self.namespace,
            version=f"{version + _SERIES[hook]}.0.0",
            values={"fate": "slow"} if self.action == "cancel-test" else {},
        )

    def _put(self, action: str, *, chart_id: str) -> httpx2.Response:
        body = {"chart_id": chart_id, "action": action, "values": {}, "parameters": {"include_hooks": True}}
        return self.deployment.server.send("PUT", self.path, json_body=body)

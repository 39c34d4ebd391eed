"""Every call of the Helm library, and everything that has to be true before one.

This file leans on private names of helm-python-sdk 0.2.2 (``_native``, ``_raw``): the C interface takes every option of
Helm's actions, the Python class only some. ``probe`` asks the loaded library for each option before the first
operation, so that another version is noticed at start and not in the middle of a release.

Each call makes its own chart handle and its own configuration: a handle is changed by use (one caller's values would
reach the next), and a configuration remembers its API versions, and a failed connection, for ever. Nothing here
prints, and no text of an error holds values, unless Helm itself quotes them.
"""

import hashlib
import io
import json
import re
import shutil
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import helm_python
from helm_python import _native

from pilothouse.archive.budget import ArchiveLimits
from pilothouse.engine.archives import canonical_archive
from pilothouse.engine.base import (
    MAX_HISTORY,
    ChildOptions,
    InspectRequest,
    InstallRequest,
    LintRequest,
    ReleaseOutcome,
    RenderNameRequest,
    Request,
    RollbackRequest,
    UninstallRequest,
    UpgradeRequest,
    whole_seconds,
)
from pilothouse.engine.inspections import inspect_rendered
from pilothouse.engine.progress import CAUSE_NOT_TOLD, ProgressReader
from pilothouse.engine.refusals import refusal
from pilothouse.engine.tunnel import Tunnel
from pilothouse.errors import HelmRefused

ProgressSink = Callable[[dict[str, Any]], None]

_NO_HANDLE = _native.HANDLE(0)
_WAITS = {"none": "hookOnly", "hooks": "hookOnly", "ready": "watcher"}
_DEBUG = 0
_CAUSE = CAUSE_NOT_TOLD.encode()
_PROGRESS_SECONDS = 0.25

# A client dry run sends nothing, yet the library wants a configuration; port 1 makes a mistake fail at once.
_NO_CLUSTER = json.dumps(
    {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "none", "user": {}}],
        "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
        "current-context": "none",
    }
)

_LINT_OPTIONS = {"namespace": "default", "with_subcharts": False, "skip_schema_validation": False}
_SEVERITIES = {1: "info", 2: "warning", 3: "error"}
# where the library unpacks a chart for its lint; the name of the chart's own folder follows
_LINT_FOLDER = re.compile(r"/\S*/helm-lint\d+/")


class Engine:
    """The library in this process, ready for one operation at a time."""

    def __init__(self, options: ChildOptions, tunnel: Tunnel | None = None) -> None:
        """With a tunnel, the library was started to use it for everything."""
        self._options = options
        self._tunnel = tunnel
        self._addresses: Sequence[str] = ()
        self._limits = ArchiveLimits(
            unpacked_bytes=options.chart_unpacked_bytes,
            file_bytes=options.chart_file_bytes,
            files=options.chart_files,
            depth=options.chart_depth,
        )
        self._cache = KubeCache(Path(options.kube_cache))
        self._checked: dict[bytes, bytes] = {}

    def run(self, request: Request[Any], on_progress: ProgressSink | None, *, addresses: Sequence[str] = ()) -> Any:
        """The outcome of one request as plain data; raises HelmRefused with Helm's text.

        ``addresses`` are where the cluster of the request may be reached, if there is a tunnel.
        """
        self._addresses = addresses
        sink = _LogSink(on_progress)
        try:
            with sink:
                return RUNNERS[type(request)](self, request)
        except helm_python.HelmError as error:
            text = f"{error.detail}: {sink.cause}" if sink.cause else error.detail
            refused = refusal(text, kind=type(error).__name__)
            if self._tunnel is not None:
                refused = HelmRefused(self._tunnel.restore(str(refused)), kind=refused.kind)
            raise refused from None

    @contextmanager
    def open_config(self, kubeconfig: str, namespace: str) -> Iterator["EngineConfig"]:
        """A new configuration for one operation; never one that could fall back to credentials of this host."""
        if not kubeconfig.strip():
            raise HelmRefused("the kubeconfig is empty", kind="HelmKubeError")
        self._cache.select(kubeconfig)
        with ExitStack() as stack:
            if self._tunnel is not None and self._addresses:
                kubeconfig = stack.enter_context(self._tunnel.leading(kubeconfig, self._addresses))
            config = EngineConfig(
                kubeconfig_content=kubeconfig,
                namespace=namespace,
                qps=self._options.qps,
                burst_limit=self._options.burst,
            )
            yield stack.enter_context(config)

    def rewrite(self, archive: bytes) -> bytes:
        """The chart as an archive that is safe to give to the library; the last one is remembered."""
        digest = hashlib.sha256(archive).digest()
        plain = self._checked.get(digest)
        if plain is None:
            plain = canonical_archive(archive, limits=self._limits)
            self._checked = {digest: plain}
        return plain

    def load_chart(self, archive: bytes, *, hooks: bool = True) -> helm_python.Chart:
        """A new handle for a chart that is safe to open and may be installed; the caller keeps and closes it."""
        plain = self.rewrite(archive) if hooks else canonical_archive(archive, limits=self._limits, hooks=False)
        chart = helm_python.Chart.load_archive(plain)
        if chart.metadata.get("type") == "library":
            chart.close()
            raise HelmRefused("the chart is a library chart, which cannot be installed", kind="HelmChartInvalidError")
        return chart


class EngineConfig(helm_python.Config):
    """A configuration whose actions take every option that the C interface knows."""

    def deploy_with(
        self,
        action: str,
        chart: helm_python.Chart,
        name: str,
        values: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Helm's own summary after ``helm_install`` or ``helm_upgrade``, manifest and notes included."""
        answer = _native.call_string(
            action,
            self._raw(),
            _NO_HANDLE,
            chart._raw(),  # noqa: SLF001 - the handle is what the C interface takes
            None,
            name,
            json.dumps(values),
            json.dumps(options),
        )
        summary: dict[str, Any] = json.loads(answer)
        return summary

    def rollback_with(self, name: str, options: Mapping[str, Any]) -> None:
        """Make the next revision of the release from an earlier one."""
        _native.call_status("helm_rollback", self._raw(), name, json.dumps(options))

    def uninstall_with(self, name: str, options: Mapping[str, Any]) -> str:
        """Remove the release; Helm's note of what it kept."""
        answer: dict[str, Any] = json.loads(
            _native.call_string("helm_uninstall", self._raw(), name, json.dumps(options))
        )
        return str(answer.get("info") or "")

    def refuses_options(self, action: str, options: Mapping[str, Any]) -> str | None:
        """What the library says against these options, None when it takes them. Nothing is done.

        Install and upgrade stop because there is no chart, the others because there is no cluster.
        """
        try:
            match action:
                case "helm_rollback":
                    self.rollback_with("probe", options)
                case "helm_uninstall":
                    self.uninstall_with("probe", options)
                case _:
                    _native.call_string(
                        action, self._raw(), _NO_HANDLE, _NO_HANDLE, None, "probe", "{}", json.dumps(options)
                    )
        except helm_python.HelmInvalidArgError as error:
            return None if "chart_ref is required" in error.detail else error.detail
        except helm_python.HelmKubeError:
            return None
        except helm_python.HelmError as error:
            return error.detail
        return "the call was accepted without a chart and a cluster"


class KubeCache:
    """The library's discovery cache on disk, which never serves two kubeconfigs.

    It is keyed by the server's address alone: two tenants' clusters behind one address, or one cluster seen through
    two accounts, would share entries.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._owner = b""

    def select(self, kubeconfig: str) -> None:
        """Clear the cache unless the last operation had this very kubeconfig."""
        owner = hashlib.sha256(kubeconfig.encode()).digest()
        if owner != self._owner:
            for entry in self._folder.iterdir() if self._folder.is_dir() else ():
                shutil.rmtree(entry, ignore_errors=True)
            self._owner = owner


def install(engine: Engine, request: InstallRequest) -> dict[str, Any]:
    """Install as ``InstallRequest`` says."""
    return _deploy(engine, request, "helm_install", install_options(request))


def install_options(request: InstallRequest) -> dict[str, Any]:
    """Every key that the library's install takes from us, always all of them, so that the probe covers each."""
    return {
        **_deploy_options(request),
        "replace": request.replace,
        "create_namespace": request.create_namespace,
        "server_side_apply": True,
    }


def upgrade(engine: Engine, request: UpgradeRequest) -> dict[str, Any]:
    """Upgrade as ``UpgradeRequest`` says."""
    return _deploy(engine, request, "helm_upgrade", upgrade_options(request))


def upgrade_options(request: UpgradeRequest) -> dict[str, Any]:
    """As ``install_options``, for the library's upgrade."""
    return {
        **_deploy_options(request),
        "reset_values": request.reset_values,
        "reuse_values": request.reuse_values,
        "max_history": MAX_HISTORY if request.prune else 0,
        "server_side_apply": "true",
    }


def rollback(engine: Engine, request: RollbackRequest) -> None:
    """Roll back as ``RollbackRequest`` says."""
    with engine.open_config(request.kubeconfig, request.namespace) as config:
        config.rollback_with(request.release_name, rollback_options(request))


def rollback_options(request: RollbackRequest) -> dict[str, Any]:
    """As ``install_options``, for the library's rollback."""
    return {
        "version": request.to_revision,
        "timeout_seconds": whole_seconds(request.timeout_seconds),
        "dry_run": request.dry_run,
        "wait": _WAITS[request.wait],
        "wait_for_jobs": False,
        "disable_hooks": request.disable_hooks,
        "max_history": MAX_HISTORY if request.prune else 0,
        "server_side_apply": "true",
        "force_conflicts": False,
    }


def uninstall(engine: Engine, request: UninstallRequest) -> str:
    """Uninstall as ``UninstallRequest`` says."""
    with engine.open_config(request.kubeconfig, request.namespace) as config:
        return config.uninstall_with(request.release_name, uninstall_options(request))


def uninstall_options(request: UninstallRequest) -> dict[str, Any]:
    """As ``install_options``, for the library's uninstall; never ``ignore_not_found``, which hides storage errors."""
    return {
        "timeout_seconds": whole_seconds(request.timeout_seconds),
        "wait": _WAITS[request.wait],
        "disable_hooks": request.disable_hooks,
        "keep_history": False,
        "description": request.description,
    }


def _deploy(
    engine: Engine, request: InstallRequest | UpgradeRequest, action: str, options: dict[str, Any]
) -> dict[str, Any]:
    kubeconfig = request.kubeconfig
    if request.dry_run == "client" and not kubeconfig.strip():
        kubeconfig = _NO_CLUSTER
    chart = engine.load_chart(request.chart, hooks=not request.show_hooks)
    with chart:
        with engine.open_config(kubeconfig, request.namespace) as config:
            summary = config.deploy_with(action, chart, request.release_name, request.values, options)
        # after the call: the handle now holds what conditions, aliases and import-values of subcharts made of the chart
        merged = chart.merge_values(request.values)
    deployed_at = summary.get("deployed_at", "")
    outcome = ReleaseOutcome(
        name=summary["name"],
        namespace=summary["namespace"],
        revision=summary["revision"],
        status=summary["status"],
        description=request.description or _default_description(request),
        manifest=summary.get("manifest", ""),
        notes=summary.get("notes", ""),
        first_deployed=deployed_at,
        last_deployed=deployed_at,
        chart_name=summary.get("chart_name", ""),
        chart_version=summary.get("chart_version", ""),
        app_version=summary.get("app_version", ""),
        labels=summary.get("labels") or {},
        values=merged,
    )
    return vars(outcome)


def _deploy_options(request: InstallRequest | UpgradeRequest) -> dict[str, Any]:
    return {
        "namespace": request.namespace,
        "timeout_seconds": whole_seconds(request.timeout_seconds),
        "dry_run": request.dry_run,
        "wait": _WAITS[request.wait],
        "wait_for_jobs": False,
        "disable_hooks": request.disable_hooks,
        "description": request.description,
        "labels": request.labels,
        "force_conflicts": False,
        "take_ownership": request.show_hooks,
        # with server-side apply the API server says the same, in the same words, for half the time
        "disable_openapi_validation": True,
    }


def render_name(_engine: Engine, request: RenderNameRequest) -> str:
    """The template's text; it has the functions of a chart, so neither the environment nor a cluster."""
    with helm_python.Chart.load_archive(_name_chart(request.template)) as chart:
        try:
            rendered = chart.render({}, name="release", namespace="default")
        except helm_python.HelmError as error:
            raise HelmRefused(error.detail.replace("name/templates/", ""), kind=type(error).__name__) from None
    return rendered.get("name/templates/name_template", "")


def inspect(engine: Engine, request: InspectRequest) -> dict[str, Any]:
    """What the chart makes of the values, as ``InspectRequest`` says."""
    with engine.load_chart(request.chart) as chart:
        rendered = chart.render(
            request.values,
            name=request.release_name,
            namespace=request.namespace,
            revision=request.revision,
            is_install=not request.is_upgrade,
            is_upgrade=request.is_upgrade,
        )
        crds = [str(crd["data"]) for crd in chart.crds]
    return inspect_rendered(request, engine.rewrite(request.chart), rendered=rendered, crds=crds)


def lint(engine: Engine, request: LintRequest) -> dict[str, Any]:
    """What ``helm lint`` says of the chart. The library unpacks the file into this child's private folder itself."""
    with tempfile.NamedTemporaryFile(suffix=".tgz") as file:
        file.write(engine.rewrite(cast("bytes", request.chart)))
        file.flush()
        report = json.loads(_native.call_string("helm_lint_run_opts", file.name, "{}", json.dumps(_LINT_OPTIONS)))
    findings = [
        {
            "severity": _SEVERITIES.get(message["severity"], "info"),
            "path": _LINT_FOLDER.sub("", message["path"]),
            "message": " ".join(_LINT_FOLDER.sub("", message["error"]).split()),
        }
        for message in report.get("messages") or ()
    ]
    return {"findings": findings}


def probe() -> dict[str, str]:
    """The versions of the loaded library; raises RuntimeError when it does not take an option that we pass."""
    common: dict[str, Any] = {"kubeconfig": "", "namespace": "default", "release_name": "probe"}
    for action, options in (
        ("install", install_options(InstallRequest(**common, chart=b"", description="probe"))),
        ("upgrade", upgrade_options(UpgradeRequest(**common, chart=b"", description="probe"))),
        ("rollback", rollback_options(RollbackRequest(**common, to_revision=1))),
        ("uninstall", uninstall_options(UninstallRequest(**common, description="probe"))),
    ):
        # a configuration that failed to connect must not be used again
        with EngineConfig(kubeconfig_content=_NO_CLUSTER, namespace="default", qps=1.0, burst_limit=10) as config:
            complaint = config.refuses_options(f"helm_{action}", options)
        if complaint is not None:
            raise RuntimeError(f"the Helm library does not take our {action} options: {complaint}")
    try:
        _native.call_string("helm_lint_run_opts", "/nonexistent.tgz", "{}", json.dumps(_LINT_OPTIONS))
    except helm_python.HelmError as error:
        raise RuntimeError(f"the Helm library does not take the lint options: {error.detail}") from None
    return {"library": _native.helm_c_version(), "helm": _native.helm_sdk_version()}


def _default_description(request: InstallRequest | UpgradeRequest) -> str:
    if request.dry_run != "none":
        return "Dry run complete"
    return "Install complete" if isinstance(request, InstallRequest) else "Upgrade complete"


def _name_chart(template: str) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz", compresslevel=1) as archive:
        for path, text in (
            ("name/Chart.yaml", '{"apiVersion":"v2","name":"name","version":"0.0.0"}'),
            ("name/templates/name_template", template),
        ):
            content = text.encode()
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return raw.getvalue()


class _LogSink:
    """Sends the library's log lines of one operation to a progress sink, as events.

    At first lines are only kept: an operation that is over in a moment needs no progress, and does not pay for it.
    ``cause`` is that of an error which does not tell it, as far as the library was asked to log.
    """

    def __init__(self, sink: ProgressSink | None) -> None:
        self.cause = ""
        self._sink = sink
        self._reader = ProgressReader()
        self._lock = threading.Lock()
        self._kept: list[tuple[int, bytes]] | None = []
        self._timer = threading.Timer(_PROGRESS_SECONDS, self._begin)
        self._timer.daemon = True
        # the library keeps the bare pointer: the object has to live until the handler is taken out again
        self._callback = _native.LOG_CALLBACK(self._take)

    def __enter__(self) -> None:
        if self._sink is not None:
            self._timer.start()
            _native.call_status_no_error_out("helm_set_log_handler", self._callback, None, _DEBUG)

    def __exit__(self, *exc_info: object) -> None:
        if self._sink is not None:
            _native.call_status_no_error_out("helm_set_log_handler", _native.LOG_CALLBACK(), None, _DEBUG)
            self._timer.cancel()
            with self._lock:
                self._sink = None  # nothing of this operation is sent after its outcome

    def _begin(self) -> None:
        with self._lock:
            kept, self._kept = self._kept or [], None
            for level, line in kept:
                self._send(level, line)

    def _take(self, level: int, line: bytes | None, _user_data: Any) -> None:
        # runs on any thread of the library's; an exception here would have nowhere to go but standard error
        with self._lock:
            if line is not None and line.startswith(_CAUSE):
                self.cause = line.removeprefix(_CAUSE).decode(errors="replace")
            if self._kept is not None:
                self._kept.append((level, line or b""))
            else:
                self._send(level, line or b"")

    def _send(self, level: int, line: bytes) -> None:
        event = self._reader.read(level, line.decode(errors="replace"))
        if event is not None and self._sink is not None:
            self._sink(vars(event))


RUNNERS: Mapping[type[Request[Any]], Callable[[Engine, Any], Any]] = {
    InstallRequest: install,
    UpgradeRequest: upgrade,
    RollbackRequest: rollback,
    UninstallRequest: uninstall,
    RenderNameRequest: render_name,
    LintRequest: lint,
    InspectRequest: inspect,
}

"""``pilothouse install`` and ``upgrade`` as a person who knows helm types them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from lightkube import Client, KubeConfig
from lightkube.resources.core_v1 import ConfigMap, Namespace

from tests.support.charts import build_chart
from tests.support.forwarder import Forwarder
from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer, wait_for
from tests.support.typed import MAP, Start, Typed, done
from tests.support.workloads import hook_template
from tools.localcluster.cluster import RunningCluster

UNSCHEDULABLE = """\
apiVersion: v1
kind: Pod
metadata: {name: {{ .Release.Name }}}
spec:
  nodeSelector: {nowhere: "true"}
  containers: [{name: one, image: "nowhere.invalid/one"}]
"""


def test_a_folder_becomes_a_release_and_is_changed_as_helm_does(
    *, typed: Typed, folder: Path, namespace: str, helm_cli: HelmCommand, make_namespace: Callable[[], str]
):
    (folder / "more.yaml").write_text("nested: {a: 1000000}\nlist: [3]\n")
    (folder / "note.txt").write_text('one, "two"\nthree')
    other = make_namespace()
    steps = [
        ["-f", "more.yaml", "--set", "list[1]=9,text=y", "--set-string", "nested.d=1", "--set-file", "note=note.txt"],
        ["--set-json", 'nested.e={"f": [1, null]}', "--set-literal", "text=a,b"],
        [],
        ["--reuse-values", "--set", "text=null"],
        ["--reset-values"],
        ["--labels", "team=shop,stage=test", "--description", "by hand", "--history-max", "3"],
    ]
    for flags in steps:
        said = done(typed("upgrade", "--install", "web", ".", *flags))
        helm_cli("upgrade", "--install", "web", str(folder), "-n", other, *[_there(folder, flag) for flag in flags])
        for part in ("values", "manifest"):
            assert helm_cli("get", part, "web", "-n", namespace) == helm_cli("get", part, "web", "-n", other), flags
        assert "NOTES:\nhello web" in said

    mine, theirs = (json.loads(helm_cli("history", "web", "-n", one, "-o", "json")) for one in (namespace, other))
    fields = ("revision", "status", "chart", "description")
    assert [[one[name] for name in fields] for one in mine] == [[one[name] for name in fields] for one in theirs]


def _there(folder: Path, flag: str) -> str:
    return flag.replace("note.txt", str(folder / "note.txt")) if "note" in flag else _file(folder, flag)


def _file(folder: Path, flag: str) -> str:
    return str(folder / flag) if flag == "more.yaml" else flag


def test_a_folder_is_uploaded_once_per_content(server: RunningServer, typed: Typed, folder: Path):
    def uploaded() -> list[tuple[str, str, str]]:
        rows = server.send("GET", f"/api/v1/charts?name={folder.name}").json()
        return [(row["id"], row["digest"], row["updated_at"]) for row in rows]

    other = typed("install", "web", ".", "--version", "9.9.9")
    assert (other.returncode, "--version 9.9.9: . is here, and is version" in other.stderr) == (2, True)
    done(typed("install", "web", "."))
    [first] = uploaded()
    (folder / "values.yaml").touch()
    done(typed("upgrade", "web", "."))
    assert uploaded() == [first]

    (folder / "templates" / "map.yaml").write_text(MAP + "# changed\n")
    done(typed("upgrade", "web", "."))
    [second] = uploaded()

    assert (second[0] == first[0], second[1] == first[1]) == (True, False)
    assert "# changed" in done(typed("get", "manifest", "web"))


@pytest.mark.parametrize(("times", "status"), [(1, 0), (99, 1)])
def test_a_folder_of_the_same_name_and_version_at_the_same_moment_is_never_deployed(
    *, server: RunningServer, typed: Typed, folder: Path, start: Start, times: int, status: int
):
    other = build_chart(folder.name, "0.1.0", templates={"map.yaml": MAP + "# other\n"})
    uploads: list[int] = []

    def overtake(data: bytes) -> None:
        if data.startswith(b"PUT /api/v1/clusters/") and len(uploads) < times:
            parameters = {"override": True, "skip_lint": True, "source": "command line"}
            uploads.append(server.upload(other, parameters=json.dumps(parameters)).status_code)

    address = urlsplit(server.url)
    way = Forwarder(address.hostname or "", address.port or 0, before=overtake)
    try:
        process = start("upgrade", "--install", "web", ".", url=f"http://127.0.0.1:{way.port}")
        _, said = process.communicate(timeout=60)
    finally:
        way.stop()

    assert process.returncode == status, said
    assert uploads == [201] * min(times, 5)
    if status:
        assert "tried 5 times, and each time somebody uploaded another chart" in said
        assert typed("status", "web").returncode == 1
    else:
        assert "# other" not in done(typed("get", "manifest", "web"))


def test_a_chart_that_was_uploaded_for_all_is_not_replaced_by_a_folder(
    server: RunningServer, typed: Typed, folder: Path, helm_cli: HelmCommand
):
    done(typed("install", "same", "."))
    done(typed("chart", "upload", "."))
    (folder / "templates" / "map.yaml").write_text(MAP + "# mine\n")

    refused = typed("upgrade", "same", ".")

    assert refused.returncode == 1
    said = " ".join(refused.stderr.split())
    assert "which somebody uploaded for all to use, and keeps one of each version" in said
    [packs] = re.findall(r"'helm (package \. --version 0\.1\.0-mine)' and installed from (\S+)\.tgz", said)
    helm_cli(*packs[0].replace(" . ", f" {folder} ").split(), "--destination", str(folder.parent))
    done(typed("upgrade", "same", f"../{packs[1]}.tgz", "--dry-run"))
    done(typed("upgrade", "same", f"../{packs[1]}.tgz"))
    assert "# mine" in done(typed("get", "manifest", "same"))
    done(typed("upgrade", "same", f"{folder.name}@0.1.0"))
    assert "# mine" not in done(typed("get", "manifest", "same"))
    done(typed("chart", "upload", ".", "--override"))
    done(typed("upgrade", "same", f"{folder.name}@0.1.0"))
    assert "# mine" in done(typed("get", "manifest", "same"))
    [row] = server.send("GET", f"/api/v1/charts?name={folder.name}&version=0.1.0").json()
    assert row["source"] == ""


def test_names_are_checked_as_helm_does(typed: Typed):
    assert "'web' has no deployed releases" in typed("upgrade", "web", ".").stderr
    done(typed("install", "web", "."))
    again = typed("install", "web", ".")
    assert (again.returncode, "cannot reuse a name that is still in use" in again.stderr) == (1, True)
    made = done(typed("install", ".", "--generate-name", "-o", "json"))
    assert json.loads(made)["name"].startswith("typed-")
    assert (
        json.loads(done(typed("install", ".", "--name-template", 'x{{ "Y" | lower }}', "-o", "json")))["name"] == "xy"
    )


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["install", "web"], 2, "must either provide a name or specify --generate-name"),
        (["install", "web", "./no-chart"], 2, "./no-chart: there is no such file or folder"),
        (["upgrade", "no-such", "./no-chart"], 2, "./no-chart: there is no such file or folder"),
        (["upgrade", "no-such", ".", "--timeout", "5"], 2, "did you mean 5s?"),
        (["install", "web", ".", "-f", "no.yaml"], 2, "cannot read no.yaml"),
        (["install", "web", ".", "--wait=soon"], 2, "'soon' is none of watcher, hookOnly, legacy"),
        (["install", "web", ".", "--timeout", "300"], 2, "did you mean 300s?"),
        (["install", "web", ".", "--lables", "a=b"], 2, "--labels"),
        (["install", "web", ".", "--labels", "a"], 2, "must be KEY=TEXT"),
        (["install", "web", ".", "--set", "text"], 2, '--set: failed parsing --set data: key "text" has no value'),
        (["upgrade", "--install", "web", ".", "--set", "text"], 2, "--set: failed parsing --set data"),
        (["upgrade", "--install", "web", ".", "-f", "templates/NOTES.txt"], 2, "templates/NOTES.txt, line 1"),
        (["upgrade", "--install", "web", ".", "--checks", "none"], 2, "--checks"),
        (["plan", "web", ".", "--set-json", "a={"], 2, "--set-json: failed parsing --set-json data"),
        (["install", "web", ".", "--dry-run", "-f", "templates/NOTES.txt"], 2, "templates/NOTES.txt, line 1"),
        (["install", ".", "--name-template", "{{"], 2, "name_template"),
        (["install", "web", "no-such-chart"], 1, "no chart of this project is named 'no-such-chart'"),
        (["install", "Web", "."], 2, "Web"),
        (["audit", "list", "--since", "yesterday"], 2, "since"),
        (["install", "web", ".", "--cluster", "no-such"], 1, "no-such"),
        (["install", "web", ".", "-n", "no-such"], 1, "create it first, or set --create-namespace"),
        (["uninstall", "no-such"], 1, "no-such"),
        (["rollback", "no-such"], 1, "no-such"),
        (["apply", "no-such"], 1, "no-such"),
        (["diff", "web", "x"], 2, "'x' is not the number of a revision"),
    ],
)
def test_what_is_wrong_is_said_on_standard_error(typed: Typed, arguments: list[str], status: int, words: str):
    ended = typed(*arguments)

    assert (ended.returncode, ended.stdout) == (status, "")
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_switches_take_helms_values_and_wait_takes_no_word_of_its_own(typed: Typed):
    said = done(typed("upgrade", "--install=true", "--wait", "web", ".", "--create-namespace=false", "-o", "json"))

    assert json.loads(said)["name"] == "web"


def test_a_failure_says_why_and_ends_with_status_1(typed: Typed, folder: Path):
    (folder / "templates" / "web.yaml").write_text(UNSCHEDULABLE)
    failed = typed("install", "web", ".", "--wait", "--timeout", "3s")

    assert (failed.returncode, failed.stdout) == (1, "")
    assert "Unschedulable" in failed.stderr
    assert (
        failed.stderr.splitlines()[-1].startswith("pilothouse: install of web failed: ") or "deadline" in failed.stderr
    )
    assert "STATUS: failed" in done(typed("status", "web"))


def test_who_reads_only_the_head_gets_no_traceback(server: RunningServer, typed: Typed, folder: Path, namespace: str):
    done(typed("install", "web", "."))
    ended = subprocess.run(
        ["bash", "-c", '"$0" -m pilothouse diff web 1 1 -o json -n "$1" | head -c 1', sys.executable, namespace],
        env={
            "PATH": os.environ["PATH"],
            "PILOTHOUSE_URL": server.url,
            "CLOUD_SDK_AK": server.access_key,
            "CLOUD_SDK_SK": server.secret_key,
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.stdout, ended.stderr) == ("{", "")


def test_without_a_context_it_is_said_what_to_type(folder: Path):
    ended = subprocess.run(
        [sys.executable, "-m", "pilothouse", "upgrade", "--install", "web", "."],
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "type 'pilothouse login URL'" in ended.stderr


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("upgrade", "web", ".", "--install", "--set", "a"), 2),
        (("upgrade", "web", ".", "--install", "--timeout", "9999999s"), 2),
        (("upgrade", "web", ".", "--install", "--force-conflicts", "--force-replace"), 2),
        (("list", "--filter", "["), 2),
        (("operation", "list", "--state", "nope"), 2),
        (("audit", "list", "--outcome", "nope"), 2),
        (("webhook", "add", "Web", "https://example.com/"), 2),
        (("history", "not-there"), 1),
        (("rollback", "not-there", "99"), 1),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else str(one),
)
def test_what_was_typed_wrong_has_a_status_of_its_own(typed: Typed, words: tuple[str, ...], status: int):
    refused = typed(*words)

    assert (refused.returncode, refused.stdout) == (status, ""), refused.stderr


def test_diff_tells_objects_and_fields(typed: Typed):
    done(typed("install", "web", "."))
    done(typed("upgrade", "web", ".", "--set", "text=y"))

    said = typed("diff", "web", "--detailed-exitcode")
    same = typed("diff", "web", "2", "2", "--detailed-exitcode")

    assert said.returncode == 2
    assert "web: revision 1 to 2\n+0 ~1 -0 =0\n~ ConfigMap " in said.stdout
    assert "    /data/text: x -> y" in said.stdout
    assert (same.returncode, same.stdout.splitlines()[1]) == (0, "+0 ~0 -0 =1")
    assert json.loads(typed("diff", "web", "1", "2", "-o", "json").stdout)["summary"]["changed"] == 1


def test_detached_it_goes_on_and_wait_follows_it(typed: Typed, folder: Path):
    done(typed("install", "web", "."))
    accepted = json.loads(done(typed("upgrade", "web", ".", "--set", "text=later", "--detach", "-o", "json")))

    said = done(typed("wait", "web"))

    assert accepted["action"] == "upgrade"
    assert "REVISION: 2" in said
    assert f"operation {accepted['id']}" in said
    assert re.search(
        r"; there is one in namespace \S+ of cluster test\b", typed("status", "web", "-n", "kube-system").stderr
    )
    assert folder.exists()


def test_an_operation_is_named_by_its_release_and_told_to_who_is_refused_meanwhile(typed: Typed, folder: Path):
    (folder / "templates" / "web.yaml").write_text(UNSCHEDULABLE)
    accepted = json.loads(done(typed("install", "web", ".", "--wait", "--detach", "-o", "json")))["id"]
    advice = f"'pilothouse operation follow {accepted}' shows it, 'pilothouse operation cancel {accepted}' ends it"

    for verb in ("install", "upgrade"):
        refused = typed(verb, "web", ".")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert advice in refused.stderr, verb
    wait_for(lambda: "waiting for Pod web" in done(typed("operation", "list", "--release", "web")))
    cancelled = json.loads(done(typed("operation", "cancel", "web", "-o", "json")))

    assert cancelled["id"] == accepted
    assert typed("operation", "follow", "web").returncode == 1
    assert json.loads(done(typed("operation", "show", "web", "-o", "json")))["state"] == "cancelled"
    unknown = typed("operation", "cancel", "no-such")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "'no-such' is neither the id of an operation nor a release with operations in namespace" in unknown.stderr


def test_quietly_nothing_is_printed_unless_it_fails(typed: Typed, folder: Path):
    for words in (
        ["install", "web", "."],
        ["upgrade", "web", ".", "--set", "text=y"],
        ["upgrade", "--install", "new", "."],
    ):
        ended = typed(*words, "-q", "--wait")
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", ""), words
    (folder / "templates" / "web.yaml").write_text(UNSCHEDULABLE)

    failed = typed("upgrade", "web", ".", "--wait", "--timeout", "2s", "--quiet")
    told = typed("upgrade", "web", ".", "--wait", "--timeout", "2s", "-o", "json")

    assert (failed.returncode, failed.stdout) == (1, "")
    assert "pilothouse: upgrade of web failed: " in failed.stderr
    operation = json.loads(told.stdout)
    assert (told.returncode, operation["state"], operation["release"]) == (1, "failed", "web")
    assert f"REVISION: {operation['revision']}" in typed("status", "web").stdout
    left = typed("install", "bad", ".", "--wait", "--timeout", "2s")
    assert (left.returncode, "or remove it with: pilothouse uninstall bad\n" in left.stderr) == (1, True)
    assert "STATUS: failed" in typed("status", "bad").stdout
    undone = typed("install", "undone", ".", "--rollback-on-failure", "--timeout", "2s")
    assert (undone.returncode, "as a failed release" in undone.stderr) == (1, False)


def test_the_shell_completes_releases_then_charts(server: RunningServer, typed: Typed, folder: Path, namespace: str):
    done(typed("install", "web", "."))

    def completed(line: str) -> list[str]:
        words = line.split(" ")
        completing = {"_PILOTHOUSE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        return server.command(variables={"PILOTHOUSE_NAMESPACE": namespace, **completing}).stdout.split()

    assert completed("pilothouse upgrade ") == ["web"]
    assert completed(f"pilothouse upgrade --install web {folder.name[:-1]}") == [f"{folder.name}@0.1.0"]
    assert completed("pilothouse upgrade web ./") == []
    plan = done(typed("plan", "web", ".", "--set", "text=y")).rpartition("pilothouse apply ")[2].strip()
    assert plan in completed("pilothouse apply ")
    assert completed(f"pilothouse apply {plan[:13]}") == [plan]
    assert completed("pilothouse operation follow w") == ["web"]
    assert completed("pilothouse get values web --revision ") == ["1"]
    done(typed("upgrade", "web", ".", "--set", "text=z"))
    assert plan not in completed("pilothouse apply ")
    stale = typed("apply", plan)
    assert (stale.returncode, "; who wrote what: pilothouse history web -n " in stale.stderr) == (1, True)
    assert completed("pilothouse status --revision ") == []


def test_drift_is_what_somebody_changed_by_hand(
    *, typed: Typed, namespace: str, kubernetes: RunningCluster, folder: Path
):
    done(typed("install", "web", "."))
    assert typed("drift", "web", "--detailed-exitcode").returncode == 0
    client = Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False)
    names = [str(one.metadata and one.metadata.name) for one in client.list(ConfigMap, namespace=namespace)]
    [name] = [name for name in names if "web" in name]
    client.patch(ConfigMap, name, {"data": {"text": "by hand"}}, namespace=namespace)
    client.close()

    found = typed("drift", "web", "--detailed-exitcode")

    assert found.returncode == 2, found.stderr
    assert "by hand" in found.stdout
    assert found.stdout == done(typed("diff", "web", "1", "live"))
    assert "pilothouse upgrade web --reuse-chart --reuse-values --force-conflicts; what it does not" in found.stderr
    done(typed("upgrade", "web", ".", "--force-conflicts"))
    assert typed("drift", "web", "--detailed-exitcode").returncode == 0
    assert folder.exists()


def test_fields_of_others_are_told_with_the_flag_that_takes_them_over(
    *, typed: Typed, namespace: str, kubernetes: RunningCluster
):
    done(typed("install", "web", "."))
    done(typed("upgrade", "web", ".", "--set", "text=two"))
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as client:
        client.patch(ConfigMap, "web-config", {"data": {"text": "by hand"}}, namespace=namespace)

    planned = typed("plan", "web", ".", "--set", "text=ours", "--detailed-exitcode")
    dry = typed("rollback", "web", "1", "--dry-run")
    failed = typed("upgrade", "web", ".", "--set", "text=ours")

    for told in (planned.stdout, dry.stdout, failed.stderr.splitlines()[-1]):
        assert "--force-conflicts" in told
        assert "options." not in told
    assert (planned.returncode, dry.returncode, failed.returncode) == (1, 1, 1)
    assert "pilothouse apply" not in planned.stdout
    operation = json.loads(done(typed("operation", "list", "--release", "web", "-o", "json")))[0]["id"]
    assert "--force-conflicts" in done(typed("operation", "show", operation))
    forced = done(typed("plan", "web", ".", "--set", "text=ours", "--force-conflicts"))
    assert "is taken over from" in forced
    assert "(--force-conflicts)" in forced


def test_a_plan_says_in_one_line_that_the_namespace_will_be_created(
    *, typed: Typed, namespace: str, kubernetes: RunningCluster
):
    new = f"{namespace}-new"
    flags = ("web", ".", "-n", new, "--create-namespace")

    planned = done(typed("plan", "--install", *flags))

    assert f"WARNING: namespace '{new}' will be created\n" in planned
    assert planned.count("namespace") == 1
    assert "refused" not in planned
    assert "+1 ~0 -0 =0" in planned
    try:
        assert "REVISION: 1" in done(typed("apply", planned.rpartition("pilothouse apply ")[2].strip(), "-n", new))
        assert "will be created" not in done(typed("plan", *flags, "--set", "text=y"))
    finally:
        with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as client:
            client.delete(Namespace, new)


def test_rollback_and_uninstall_are_helms(*, typed: Typed, namespace: str, helm_cli: HelmCommand):
    done(typed("install", "web", "."))
    done(typed("upgrade", "web", ".", "--set", "text=y"))
    said = done(typed("rollback", "web"))

    assert "Rollback was a success! Happy Helming!" in said
    rows = json.loads(helm_cli("history", "web", "-n", namespace, "-o", "json"))
    assert rows[-1]["description"] == "Rollback to 1"
    assert json.loads(done(typed("rollback", "web", "2", "--wait", "-o", "json")))["revision"] == 4

    assert done(typed("uninstall", "web", "--keep-history", "--description", "gone")) == 'release "web" uninstalled\n'
    assert json.loads(helm_cli("list", "-n", namespace, "-o", "json"))[0]["status"] == "uninstalled"
    done(typed("install", "web", "."))
    done(typed("un", "web"))
    missing = typed("uninstall", "web")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert f"release 'web' does not exist in namespace '{namespace}' of cluster '" in missing.stderr
    assert typed("uninstall", "web", "--ignore-not-found").returncode == 0
    nowhere = typed("uninstall", "web", "--ignore-not-found", "--cluster", "nowhere")
    assert (nowhere.returncode, "no cluster of this project is named 'nowhere'" in nowhere.stderr) == (1, True)
    assert json.loads(helm_cli("list", "-n", namespace, "-o", "json")) == []


@pytest.mark.parametrize("broken", [False, True], ids=["deployed", "never-installed"])
@pytest.mark.parametrize(("flags", "status"), [(["--ignore-not-found"], 0), ([], 1)])
def test_an_uninstall_that_another_one_overtakes(
    *, server: RunningServer, typed: Typed, fragile: Path, start: Start, flags: list[str], status: int, broken: bool
):
    """The release is there when the command looks, and gone when it asks for its end."""
    installed = typed("install", "web", str(fragile), *(["--set", "broken=why"] if broken else []))
    assert installed.returncode == int(broken), installed.stderr
    removed: list[int] = []

    def overtake(data: bytes) -> None:
        if data.startswith(b"DELETE /api/v1/clusters/") and not removed:
            removed.append(0)
            removed[0] = typed("uninstall", "web").returncode

    address = urlsplit(server.url)
    way = Forwarder(address.hostname or "", address.port or 0, before=overtake)
    try:
        process = start("uninstall", "web", *flags, url=f"http://127.0.0.1:{way.port}")
        _, said = process.communicate(timeout=60)
    finally:
        way.stop()

    assert (process.returncode, removed) == (status, [0]), said
    assert "release 'web' does not exist in namespace" in said


def test_what_was_uninstalled_with_its_history_comes_back(*, typed: Typed, namespace: str, helm_cli: HelmCommand):
    done(typed("install", "web", "."))
    done(typed("uninstall", "web", "--keep-history"))
    assert "name revision 1" in typed("rollback", "web").stderr
    refused = typed("upgrade", "web", ".")
    assert (refused.returncode, "'web' has no deployed releases" in refused.stderr) == (1, True)
    assert re.search(r"CHANGED BY: .*, uninstall, \S+Z, operation ", done(typed("status", "web")))

    done(typed("rollback", "web", "1"))

    rows = json.loads(helm_cli("history", "web", "-n", namespace, "-o", "json"))
    assert [(row["revision"], row["status"]) for row in rows] == [(1, "uninstalled"), (2, "deployed")]
    assert rows[-1]["description"] == "Rollback to 1"
    assert "kind: ConfigMap" in helm_cli("get", "manifest", "web", "-n", namespace)


def test_an_uninstall_cancels_the_install_that_runs(
    *, typed: Typed, folder: Path, namespace: str, helm_cli: HelmCommand
):
    (folder / "templates" / "web.yaml").write_text(UNSCHEDULABLE)
    for name in ("web", "other"):
        done(typed("install", name, ".", "--wait", "--timeout", "5m", "--detach"))
    wait_for(lambda: all("install running" in done(typed("status", name)) for name in ("web", "other")))

    assert done(typed("uninstall", "web")) == 'release "web" uninstalled\n'
    said = done(typed("uninstall", "other", "--detach"))
    wait_for(lambda: "does not exist" in typed("status", "other").stderr)

    assert said.startswith("the cancel of the install of other is accepted as operation ")
    assert json.loads(helm_cli("list", "-n", namespace, "-o", "json")) == []
    assert json.loads(done(typed("list", "-o", "json"))) == []


@pytest.fixture
def fragile(folder: Path) -> Path:
    """The chart with a template that does not render, and one that never becomes ready, if they are wanted."""
    broken, stuck = "{{ if .Values.broken }}{{ fail .Values.broken }}{{ end }}", UNSCHEDULABLE
    (folder / "templates" / "broken.yaml").write_text(broken)
    (folder / "templates" / "stuck.yaml").write_text(f"{{{{ if .Values.stuck }}}}\n{stuck}{{{{ end }}}}\n")
    return folder


def test_what_a_failure_has_undone_is_no_cancel(typed: Typed, fragile: Path):
    done(typed("install", "web", str(fragile)))
    undoing = ("--set", "stuck=true", "--rollback-on-failure", "--timeout", "2s")
    assert typed("upgrade", "web", ".", *undoing).returncode == 1

    said = done(typed("status", "web"))

    assert "REVISION: 3" in said
    assert "DESCRIPTION: Rollback to 1" in said
    assert re.search(r"\nCHANGED BY: \S+, rollback on failure, operation \S+\n", said)
    causes = [row["changed_by"]["cause"] for row in json.loads(done(typed("history", "web", "-o", "json")))]
    assert causes == ["install", "upgrade", "rollback_on_failure"]


UNLOCK = ["release", "unlock", "--reason", "its machine burnt down"]


def test_an_install_that_left_nothing_is_told_in_one_voice(typed: Typed, fragile: Path):
    assert typed("install", "bad", str(fragile), "--set", "broken=why").returncode == 1
    undoing = ("--set", "stuck=true", "--rollback-on-failure", "--timeout", "2s")
    assert typed("install", "undone", ".", *undoing).returncode == 1
    for name in ("bad", "undone"):
        said = typed("status", name)
        assert said.returncode == 1  # as of what is not there: status X || install X
        assert "STATUS: failed\nREVISION: (none)\n" in said.stdout
        assert f"remove this entry with: pilothouse uninstall {name}\n" in said.stdout
        assert re.search("was never installed: pilothouse operation show [0-9a-f-]{36}", said.stderr)
    for command in (["history"], ["get", "all"], ["drift"], ["rollback"], ["test"], UNLOCK):
        refused = typed(*command, "bad")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "release 'bad' was never installed and has no revision: its installation failed" in refused.stderr
    assert "has no deployed releases" in typed("upgrade", "bad", ".").stderr
    assert done(typed("list")).count("failed (not installed)") == 2
    assert [row["revision"] for row in json.loads(done(typed("list", "-o", "json")))] == [0, 0]
    assert done(typed("list", "-q")) == ""
    assert "REVISION: 1" in done(typed("install", "bad", "."))


def test_an_uninstall_removes_what_was_never_installed_and_goes_on(
    *, typed: Typed, fragile: Path, namespace: str, helm_cli: HelmCommand
):
    for name in ("first", "second"):
        assert typed("install", name, str(fragile), "--set", "broken=why").returncode == 1
    done(typed("install", "good", "."))
    assert "has no revision: nothing of it is in the cluster" in typed("uninstall", "first", "--dry-run").stderr
    removed = "removed; its installation had failed, and had left nothing in the cluster"
    assert done(typed("uninstall", "first")) == f'release "first" {removed}\n'

    ended = typed("uninstall", "second", "no-such", "good")

    assert ended.stdout == f'release "second" {removed}\nrelease "good" uninstalled\n'
    assert ended.stderr.startswith("pilothouse: release 'no-such' does not exist in namespace '")
    assert ended.returncode == 1
    assert json.loads(done(typed("list", "-o", "json"))) == []
    assert json.loads(helm_cli("list", "-n", namespace, "-o", "json")) == []


def test_a_plan_is_shown_and_applied(typed: Typed, folder: Path):
    done(typed("install", "web", "."))
    planned = typed("plan", "web", ".", "--set", "text=planned", "--detailed-exitcode")
    assert planned.returncode == 2, planned.stderr
    assert "+0 ~1 -0 =0" in planned.stdout
    assert "    /data/text: x -> planned" in planned.stdout
    plan = planned.stdout.rpartition("pilothouse apply ")[2].strip()
    digest = planned.stdout.rpartition("\ndigest ")[2].partition(",")[0]
    assert done(typed("apply", plan, "--dry-run")) == planned.stdout
    assert typed("apply", plan, "--digest", f"sha256:{'0' * 64}").returncode == 1

    said = done(typed("apply", plan, "--digest", digest))

    assert "REVISION: 2" in said
    assert "text: planned" in done(typed("get", "manifest", "web")).replace('"', "")
    assert typed("plan", "web", ".", "--reuse-values", "--detailed-exitcode").returncode == 0
    again = typed("apply", plan)
    assert (again.returncode, again.stdout) == (1, "")
    assert "~1" in done(typed("upgrade", "web", ".", "--reset-values", "--dry-run"))
    back = done(typed("rollback", "web", "1", "--dry-run"))
    assert "to revision 1 (" in back.partition("\n")[0]
    assert "~1" in back
    assert "-1" in done(typed("uninstall", "web", "--dry-run"))
    assert "REVISION: 2" in done(typed("status", "web"))
    assert folder.exists()


def test_a_chart_that_is_not_maintained_any_more_says_so_as_helm_does(typed: Typed, folder: Path):
    with (folder / "Chart.yaml").open("a") as definition:
        definition.write("deprecated: true\n")
    said = "WARNING: this chart is deprecated"

    assert "WARNING: the chart is deprecated" in done(typed("install", "web", ".", "--dry-run"))
    assert said in done(typed("install", "web", "."))
    assert said in done(typed("status", "web"))
    assert json.loads(done(typed("status", "web", "-o", "json")))["chart_deprecated"] is True


def test_tests_are_run_and_their_logs_printed_as_helm_does(typed: Typed, folder: Path):
    (folder / "templates" / "test.yaml").write_text(
        hook_template("test", fate="'{{ .Values.fate }}'", policy="hook-succeeded,hook-failed", kind="Pod", name="try")
    )
    with (folder / "values.yaml").open("a") as file:
        file.write('fate: ""\n')
    said = done(typed("install", "web", ".", "--checks", "test"))
    assert "STATUS: deployed" in said

    said = done(typed("test", "web", "--logs", "--timeout", "1m"))

    assert re.search(
        r"TEST SUITE:     web-try\nLast Started:   \S+Z\nLast Completed: \S+Z\nPhase:          Succeeded\n", said
    )
    assert re.search(r"\nPOD LOGS: web-try \(main\)\n.*simulated container: started\n", said)
    answer = json.loads(done(typed("test", "web", "--filter", "name=web-try", "-o", "json")))
    assert (answer["action"], answer["evidence"][0]["pods"][0]["owner"]) == ("test", "Pod/web-try")
    unknown = typed("test", "web", "--filter", "name=web-try,name=web-tri")
    assert (unknown.returncode, "has no test 'web-tri'; its tests are web-try" in unknown.stderr) == (1, True)

    failed = typed("upgrade", "web", ".", "--set", "fate=fail", "--checks", "test", "--rollback-on-failure")
    assert failed.returncode == 1
    assert "revision 2 is deployed, but its tests failed" in failed.stderr
    assert "simulated container: started" in failed.stderr
    done(typed("upgrade", "web", ".", "--set", "fate=fail"))
    broken = typed("test", "web", "--logs")
    assert broken.returncode == 1
    assert "Phase:          Failed" in broken.stdout
    assert "test of web failed: " in broken.stderr
    explained = typed("test", "web").stderr
    assert explained.count("waited for Pod ") == 1
    assert re.search(r"  hook Pod \S+/web-try  \S", explained)
    assert "again, with whole logs: pilothouse test web --logs" in explained
    typed("upgrade", "web", ".", "--set", "fate=fail", "--checks", "test")
    assert "complete; the operation failed after that, in its checks" in done(typed("history", "web"))

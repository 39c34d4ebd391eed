"""The chart that installs Pilothouse itself: by helm, and by Pilothouse. The nodes here are simulated."""

import base64
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilothouse.auth.key_file import parse_keys
from pilothouse.cli import COMMANDS
from pilothouse.oidc.configuration import read_providers
from pilothouse.settings import KeystoneSettings, OidcSettings, Settings, unknown_variables
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer

_DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
_CHART = _DEPLOY / "chart" / "pilothouse"
_EXTERNAL = ("--set", "database.existingSecret=database")
#: Two providers: one with everything that can be said of one, and one for programs only.
_PROVIDERS: list[dict[str, Any]] = [
    {
        "name": "corp",
        "title": "Example Corp",
        "issuer": "https://sso.example.com/realms/staff",
        "clientId": "pilothouse",
        "clientSecret": {"existingSecret": "corp", "key": "secret"},
        "deviceClientId": "pilothouse-cli",
        "audience": "pilothouse-api",
        "account": "staff",
        "scopes": ["openid", "profile", "groups"],
        "algorithms": ["RS256", "Ed25519"],
        "userClaim": "email",
        "groupsClaim": "realm_access.roles",
        "requiredClaims": {"email_verified": "true"},
    },
    {"name": "ci", "issuer": "https://ci.example.com", "audience": "pilothouse-api"},
]
_OIDC = {
    "enabled": True,
    "publicUrl": "https://pilothouse.example.com",
    "allowed": "sso.example.com,ci.example.com",
    "ca": {"existingSecret": "authority"},
    "providers": _PROVIDERS,
}

_KEYSTONE = {
    "enabled": True,
    "url": "https://keystone.example.com:5000/v3",
    "password": {"existingSecret": "service-user", "key": "word"},
    "name": "cloud",
    "title": "Example Cloud",
    "account": "staff",
    "user": "validator",
    "userDomain": "Services",
    "project": "services",
    "projectDomain": "Services",
    "allowed": "keystone.example.com",
    "ca": {"existingSecret": "authority"},
}
_SMALL_KEYSTONE = {name: _KEYSTONE[name] for name in ("enabled", "url", "password")}


def keystone(**changed: Any) -> tuple[str, str]:
    """Return the flags that let tokens of Keystone in, with some values changed."""
    return ("--set-json", f"keystone={json.dumps(_KEYSTONE | changed)}")


def single_sign_on(**changed: Any) -> tuple[str, str]:
    """Return the flags that switch single sign-on on, with some values changed."""
    return ("--set-json", f"oidc={json.dumps(_OIDC | changed)}")


#: Every switch of values.yaml, on and off, as far as the local cluster has the kinds.
_SWITCHES: dict[str, tuple[str, ...]] = {
    "external": _EXTERNAL,
    "embedded": ("--set", "mode=embedded,embedded.storage.storageClassName=fast"),
    "tls": (*_EXTERNAL, "--set", "tls.existingSecret=tls,masterKeys.existingSecret=keys"),
    "ingress": (*_EXTERNAL, "--set", "ingress.enabled=true,ingress.className=nginx,ingress.tlsSecret=outside"),
    "scaled": (*_EXTERNAL, "--set", "api.autoscaling.enabled=true,worker.replicas=1,topologySpread.enabled=false"),
    "closed": (*_EXTERNAL, "--set-json", 'networkPolicy={"enabled":true,"apiFrom":[{"podSelector":{}}]}'),
    "placed": (
        *_EXTERNAL,
        "--set",
        "priorityClassName=system-cluster-critical,nodeSelector.disk=fast,podLabels.team=one,podAnnotations.note=two",
        "--set-json",
        'tolerations=[{"operator":"Exists"}]',
        "--set-json",
        'imagePullSecrets=[{"name":"registry"}]',
    ),
    "oidc": (*_EXTERNAL, *single_sign_on()),
    "oidc-embedded": ("--set", "mode=embedded,podAnnotations.note=two", *single_sign_on()),
    "keystone": (*_EXTERNAL, *keystone()),
    "keystone-embedded": ("--set", "mode=embedded", "--set-json", f"keystone={json.dumps(_SMALL_KEYSTONE)}"),
    "oidc-keystone": (*_EXTERNAL, *single_sign_on(), *keystone()),
    "set": (*_EXTERNAL, "--set-string", "settings.WORKER__OPERATIONS=8,settings.REGION=eu-west-0"),
}
_MONITORED = ("--set", "monitoring.podMonitor=true,monitoring.prometheusRule=true,httpRoute.enabled=true")


def rendered(helm_cli: HelmCommand, *flags: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(helm_cli("template", "own", str(_CHART), *flags)) if one]


def containers(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    pods = [one["spec"]["template"]["spec"] for one in objects if one["kind"] in ("Deployment", "StatefulSet")]
    return [container for pod in pods for container in (*pod.get("initContainers", ()), *pod["containers"])]


@pytest.mark.parametrize("switch", _SWITCHES)
def test_the_cluster_accepts_the_chart_with_every_switch(helm_cli: HelmCommand, namespace: str, switch: str):
    helm_cli("install", "own", str(_CHART), "-n", namespace, "--dry-run=server", *_SWITCHES[switch])


@pytest.mark.parametrize("switch", _SWITCHES)
def test_its_containers_run_commands_and_settings_that_there_are(helm_cli: HelmCommand, switch: str):
    for container in containers(rendered(helm_cli, *_SWITCHES[switch])):
        program, command = container["command"][:2]
        assert (program, command in COMMANDS) in (("pilothouse", True), ("install", False))
        assert unknown_variables(environment_of(container)) == {}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_its_settings_do_not_contradict_each_other(helm_cli: HelmCommand, monkeypatch: pytest.MonkeyPatch):
    for flags in _SWITCHES.values():
        (environment, *_) = (one["env"] for one in containers(rendered(helm_cli, *flags)) if "env" in one)
        with monkeypatch.context() as patched:
            for one in environment:
                patched.setenv(one["name"], one.get("value", "postgresql://nobody@nowhere/none"))
            assert Settings().monitoring.port == 9464


@pytest.mark.parametrize("switch", ["oidc", "oidc-embedded"])
def test_the_api_reads_the_providers_of_the_values(helm_cli: HelmCommand, tmp_path: Path, switch: str):
    objects = rendered(helm_cli, *_SWITCHES[switch])
    mounted = mount_providers(objects, tmp_path)

    with_it = [one for one in containers(objects) if "PILOTHOUSE_OIDC__FILE" in environment_of(one)]
    assert {one["name"] for one in with_it} == ({"prepare", "api"} if switch == "oidc" else {"pilothouse"})
    for container in with_it:
        assert {"name": "oidc", "mountPath": "/oidc", "readOnly": True} in container["volumeMounts"]
        settings = OidcSettings.model_validate(
            {
                name.removeprefix("PILOTHOUSE_OIDC__").lower(): text.replace("/oidc/", f"{tmp_path}/")
                for name, text in environment_of(container).items()
                if name.startswith("PILOTHOUSE_OIDC__")
            }
        )
        assert settings.ca == mounted["ca.crt"]
        corp, ci = read_providers(settings).values()
        assert corp.client_secret() == "key secret of corp"
        assert (corp.device_client_id, ci.device_client_id) == ("pilothouse-cli", "")
        assert (corp.client_id, corp.user_claim, corp.groups_claim) == ("pilothouse", "email", "realm_access.roles")
        assert (corp.title, corp.account, corp.audience) == ("Example Corp", "staff", "pilothouse-api")
        assert (corp.scopes, corp.algorithms) == (("openid", "profile", "groups"), ("RS256", "Ed25519"))
        assert corp.required_claims == {"email_verified": "true"}
        assert (ci.client_id, ci.client_secret(), ci.groups_claim) == ("", "", "groups")


@pytest.mark.parametrize("switch", ["keystone", "keystone-embedded", "oidc-keystone"])
def test_the_api_knows_the_keystone_of_the_values(
    helm_cli: HelmCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switch: str
):
    objects = rendered(helm_cli, *_SWITCHES[switch])
    mounted = mount_secrets(objects, "keystone", tmp_path)
    with_it = [one for one in containers(objects) if "PILOTHOUSE_KEYSTONE__URL" in environment_of(one)]
    assert {one["name"] for one in with_it} == ({"pilothouse"} if "embedded" in switch else {"prepare", "api"})
    for container in with_it:
        assert {"name": "keystone", "mountPath": "/keystone", "readOnly": True} in container["volumeMounts"]
        with monkeypatch.context() as patched:
            for name, text in environment_of(container).items():
                if name.startswith("PILOTHOUSE_KEYSTONE__"):
                    patched.setenv(name, text.replace("/keystone/", f"{tmp_path}/"))
            found = Settings().keystone
        assert found.url == "https://keystone.example.com:5000"
        assert found.password_file == mounted["password"]
        assert mounted["password"].read_text() == "key word of service-user\n"
        if switch == "keystone-embedded":
            defaults = KeystoneSettings()
            assert (found.ca, found.name, found.user, found.project) == (None, "keystone", "pilothouse", "service")
            assert (found.user_domain, found.account) == (defaults.user_domain, defaults.account)
        else:
            assert (found.ca, found.name, found.title) == (mounted["ca.crt"], "cloud", "Example Cloud")
            assert (found.user, found.user_domain) == ("validator", "Services")
            assert (found.project, found.project_domain) == ("services", "Services")
            assert (found.account, found.allowed) == ("staff", "keystone.example.com")


def test_every_value_of_keystone_is_a_setting():
    values = yaml.safe_load((_CHART / "values.yaml").read_text())["keystone"]
    schema = json.loads((_CHART / "values.schema.json").read_text())["properties"]["keystone"]
    assert set(values) == set(_KEYSTONE) == set(schema["properties"])
    for name in set(values) - {"enabled", "password"}:
        assert re.sub("([A-Z])", r"_\1", name).lower() in KeystoneSettings.model_fields


def test_a_changed_provider_restarts_the_api_and_nothing_else(helm_cli: HelmCommand):
    templates = []
    for title in ("One", "Two"):
        flags = single_sign_on(providers=[_PROVIDERS[0] | {"title": title}])
        objects = rendered(helm_cli, *_EXTERNAL, *flags, "--set", "masterKeys.existingSecret=keys")
        templates.append(
            {one["metadata"]["name"]: one["spec"]["template"] for one in objects if one["kind"] == "Deployment"}
        )
    assert {name for name, first in templates[0].items() if first != templates[1][name]} == {"own-pilothouse-api"}


def environment_of(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in container.get("env", ())}


def mount_providers(objects: list[dict[str, Any]], folder: Path) -> dict[str, Path]:
    """Write what Kubernetes would mount at /oidc; each Secret has its key and name as content."""
    (maps,) = (one for one in objects if one["kind"] == "ConfigMap")
    volumes = [
        volume
        for one in objects
        if one["kind"] in ("Deployment", "StatefulSet")
        for volume in one["spec"]["template"]["spec"]["volumes"]
        if volume["name"] == "oidc"
    ]
    assert len(volumes) == 1, "only the API has it"
    files = {}
    for source in volumes[0]["projected"]["sources"]:
        if "configMap" in source:
            assert source["configMap"]["name"] == maps["metadata"]["name"]
            files.update({name: text.replace("/oidc/", f"{folder}/") for name, text in maps["data"].items()})
        else:
            secret = source["secret"]
            files.update({item["path"]: f"key {item['key']} of {secret['name']}\n" for item in secret["items"]})
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return {name: folder / name for name in files}


def mount_secrets(objects: list[dict[str, Any]], volume: str, folder: Path) -> dict[str, Path]:
    """Write what Kubernetes would mount for the only volume of that name; content: each Secret's key and name."""
    pods = [one["spec"]["template"]["spec"] for one in objects if one["kind"] in ("Deployment", "StatefulSet")]
    (found,) = (one for pod in pods for one in pod["volumes"] if one["name"] == volume)
    files = {}
    for source in found["projected"]["sources"]:
        secret = source["secret"]
        for item in secret["items"]:
            files[item["path"]] = folder / item["path"]
            files[item["path"]].write_text(f"key {item['key']} of {secret['name']}\n")
    return files


def test_monitoring_has_the_alert_rules_of_the_project(helm_cli: HelmCommand):
    objects = {one["kind"]: one for one in rendered(helm_cli, *_EXTERNAL, *_MONITORED)}
    rules = yaml.safe_load((_DEPLOY / "monitoring" / "alerts.yaml").read_text())
    assert (_CHART / "files" / "alerts.yaml").read_text() == (_DEPLOY / "monitoring" / "alerts.yaml").read_text()
    assert objects["PrometheusRule"]["spec"] == rules
    assert {"PodMonitor", "HTTPRoute"} <= set(objects)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ((), "database.existingSecret: name a Secret"),
        (("--set", "mode=both"), "mode"),
        ((*_EXTERNAL, "--set", "api.replica=3"), "replica"),
        ((*_EXTERNAL, "--set", "settings.worker__operations=8"), "worker__operations"),
        ((*_EXTERNAL, "--set", "image.digest=latest"), "digest"),
        ((*_EXTERNAL, *single_sign_on(providers=[])), "providers"),
        ((*_EXTERNAL, *single_sign_on(publicUrl="")), "oidc.publicUrl"),
        ((*_EXTERNAL, *single_sign_on(publicUrl="pilothouse.example.com/below")), "publicUrl"),
        ((*_EXTERNAL, *single_sign_on(providers=[_PROVIDERS[0] | {"groupClaim": "groups"}])), "groupClaim"),
        ((*_EXTERNAL, *single_sign_on(providers=[_PROVIDERS[0] | {"algorithms": ["HS256"]}])), "algorithms"),
        ((*_EXTERNAL, *single_sign_on(providers=[_PROVIDERS[0] | {"scopes": ["profile"]}])), "scopes"),
        ((*_EXTERNAL, *single_sign_on(providers=[_PROVIDERS[0], _PROVIDERS[0]])), "two providers are called corp"),
        ((*_EXTERNAL, *single_sign_on(providers=[{"name": "corp", "issuer": "https://sso.example.com"}])), "audience"),
        ((*_EXTERNAL, *single_sign_on(providers=[_PROVIDERS[0] | {"deviceClientId": ""}])), "deviceClientId"),
        (
            (*_EXTERNAL, *single_sign_on(providers=[_PROVIDERS[0] | {"deviceClientId": "pilothouse"}])),
            "deviceClientId must be another client than clientId",
        ),
        (
            (*_EXTERNAL, *single_sign_on(providers=[_PROVIDERS[0] | {"deviceClientId": "pilothouse-api"}])),
            "deviceClientId must not be the audience",
        ),
        ((*_EXTERNAL, *single_sign_on(), "--set", "settings.OIDC__FILE=/elsewhere"), "settings.OIDC__FILE"),
        ((*_EXTERNAL, *keystone(url="")), "/keystone/url"),
        ((*_EXTERNAL, *keystone(url="http://keystone.example.com/v3")), "/keystone/url"),
        ((*_EXTERNAL, *keystone(url="https://admin:s3cret@keystone.example.com/v3")), "/keystone/url"),
        (
            (*_EXTERNAL, *single_sign_on(providers=[_PROVIDERS[0] | {"issuer": "https://a:b@sso.example.com"}])),
            "issuer",
        ),
        ((*_EXTERNAL, *keystone(password={})), "/keystone/password/existingSecret"),
        ((*_EXTERNAL, *keystone(password="of the service user")), "/keystone/password"),
        ((*_EXTERNAL, *keystone(name="Cloud")), "/keystone/name"),
        ((*_EXTERNAL, *keystone(passwordFile="/elsewhere")), "passwordFile"),
        ((*_EXTERNAL, *keystone(), "--set", "settings.KEYSTONE__USER=other"), "settings.KEYSTONE__USER"),
        ((*_EXTERNAL, *keystone(), "--set", "settings.KEYSTONE__PASSWORD_FILE=/p"), "settings.KEYSTONE__PASSWORD_FILE"),
        ((*_EXTERNAL, *single_sign_on(), *keystone(name="corp")), "a provider of oidc is called corp already"),
    ],
)
def test_a_wrong_value_is_refused_by_name(helm_cli: HelmCommand, flags: tuple[str, ...], named: str):
    with pytest.raises(subprocess.CalledProcessError) as refused:
        helm_cli("template", "own", str(_CHART), *flags)
    assert named in refused.value.stderr


def test_helm_installs_tests_upgrades_and_removes_it_and_the_keys_stay(helm_cli: HelmCommand, namespace: str):
    of_release = ("own", str(_CHART), "-n", namespace, *_EXTERNAL)
    helm_cli("install", *of_release, "--wait", "--timeout", "60s")
    first = master_key(helm_cli, namespace)
    assert parse_keys(first, Path("master.key")).keys

    helm_cli("upgrade", *of_release, "--set", "api.replicas=3", "--wait", "--timeout", "60s")
    helm_cli("test", "own", "-n", namespace, "--timeout", "60s")
    helm_cli("uninstall", "own", "-n", namespace)
    helm_cli("install", *of_release, "--take-ownership")

    assert master_key(helm_cli, namespace) == first


def master_key(helm_cli: HelmCommand, namespace: str) -> bytes:
    found = yaml.safe_load_all(helm_cli("get", "manifest", "own", "-n", namespace))
    return next(base64.b64decode(one["data"]["master.key"]) for one in found if one["kind"] == "Secret")


def test_pilothouse_installs_it(
    server: RunningServer, namespace: str, helm_cli: HelmCommand, packed: Callable[[], bytes]
):
    uploaded = server.upload(packed(), parameters='{"override": true}')
    assert uploaded.status_code == 201, uploaded.text
    release = OneRelease(server, namespace, "own", helm_cli)

    answer = release.create(str(uploaded.json()["id"]), values={"database": {"existingSecret": "database"}})

    assert answer.status_code == 201, answer.text
    assert release.settled()["status"] == "DEPLOYED"
    assert json.loads(helm_cli("list", "-n", namespace, "-o", "json"))[0]["status"] == "deployed"


@pytest.fixture
def packed() -> Callable[[], bytes]:
    """The chart as an archive."""

    def pack() -> bytes:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            tar.add(_CHART, arcname="pilothouse")
        return archive.getvalue()

    return pack

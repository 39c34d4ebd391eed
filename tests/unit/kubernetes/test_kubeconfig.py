"""What is left of an uploaded kubeconfig, and what is refused."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.errors import InvalidKubeconfig
from pilothouse.kubernetes.addresses import Addresses
from pilothouse.kubernetes.kubeconfig import Kubeconfig, acting_as, api_server, sanitise
from pilothouse.kubernetes.transport import Transport
from pilothouse.settings import ClusterSettings


@cache
def certificate(name: str = "admin") -> tuple[str, str]:
    """Return a self-signed certificate and its key, both as base64 of PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return base64.b64encode(made.public_bytes(Encoding.PEM)).decode(), base64.b64encode(pem).decode()


def config(*, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **top: Any) -> dict[str, Any]:
    """Return a kubeconfig with the given parts."""
    base = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "main",
        "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u", "namespace": "dropped"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://k8s.example.test:6443"} | (cluster or {})}],
        "users": [{"name": "u", "user": {"token": "secret"} if user is None else user}],
    }
    return {key: value for key, value in (base | top).items() if value is not ...}


def clean(document: dict[str, Any] | str, *, allow_loopback: bool = False, context: str | None = None) -> Kubeconfig:
    text = document if isinstance(document, str) else yaml.safe_dump(document)
    return sanitise(text, addresses=Addresses(allow_loopback=allow_loopback), context=context)


def parts(kubeconfig: Kubeconfig) -> tuple[dict[str, Any], dict[str, Any]]:
    document = json.loads(kubeconfig.text)
    return document["clusters"][0]["cluster"], document["users"][0]["user"]


def test_what_is_on_the_list_is_kept_and_the_rest_is_left_out():
    authority, key = certificate()
    kept_user = {
        "token": "t0ken",
        "client-certificate-data": authority,
        "client-key-data": key,
        "as": "alice",
        "as-uid": "7",
        "as-groups": ["dev", "ops"],
        "as-user-extra": {"scopes": ["view", "edit"]},
    }
    kept_cluster = {
        "server": "https://k8s.example.test:6443/clusters/c-1",
        "certificate-authority-data": authority,
        "tls-server-name": "kubernetes.default",
    }
    harmless = {"extensions": [{"name": "x"}], "disable-compression": True, "insecure-skip-tls-verify": False}
    kubeconfig = clean(
        config(
            cluster=kept_cluster | harmless, user=kept_user | {"extensions": []}, preferences={"colors": True}, more=[1]
        )
    )
    assert parts(kubeconfig) == (kept_cluster, kept_user)
    assert (kubeconfig.server, kubeconfig.context) == (kept_cluster["server"], "main")
    assert json.loads(kubeconfig.text).keys() == {
        *("apiVersion", "kind", "current-context", "contexts", "clusters", "users")
    }
    assert yaml.safe_load(kubeconfig.text) == json.loads(kubeconfig.text)
    assert clean(kubeconfig.text) == kubeconfig
    assert "t0ken" not in repr(kubeconfig)


@pytest.mark.parametrize("key", ["certificate-authority", "proxy-url", "insecure-skip-tls-verify"])
def test_a_cluster_key_that_would_do_something_is_refused_by_name(key: str):
    with pytest.raises(InvalidKubeconfig, match=rf"^clusters\[0\]\.cluster\.{key}: refused, because"):
        clean(config(cluster={key: True}))


@pytest.mark.parametrize(
    "key", ["exec", "auth-provider", "tokenFile", "client-certificate", "client-key", "username", "password"]
)
@pytest.mark.parametrize("value", ["x", {"command": "sh"}, {}, [], 0])
def test_a_user_key_that_would_do_something_is_refused_by_name(key: str, value: object):
    with pytest.raises(InvalidKubeconfig, match=rf"^users\[0\]\.user\.{key}: refused, because"):
        clean(config(user={"token": "t", key: value}))


def test_empty_keys_are_as_good_as_absent_and_other_contexts_do_not_matter():
    document = config(user={"token": "t", "exec": None, "username": ""})
    document["users"].append({"name": "other", "user": {"exec": {"command": "sh"}}})
    document["contexts"].append({"name": "second", "context": {"cluster": "c", "user": "other"}})
    assert parts(clean(document))[1] == {"token": "t"}
    with pytest.raises(InvalidKubeconfig, match=r"^users\[1\]\.user\.exec: "):
        clean(document, context="second")


def test_a_token_of_digits_and_one_with_a_line_end_are_tokens():
    assert parts(clean("token: 1\n" + yaml.safe_dump(config(user={"token": 12345}))))[1] == {"token": "12345"}
    assert parts(clean(config(user={"token": "abc\n"})))[1] == {"token": "abc"}


def test_the_context_is_chosen_by_argument_then_by_the_file_then_by_being_the_only_one():
    document = config()
    document["contexts"].append({"name": "bad", "context": {"cluster": "nowhere", "user": "u"}})
    assert clean(document).context == "main"
    with pytest.raises(InvalidKubeconfig, match=r"contexts\[1\]\.context\.cluster: there is no cluster 'nowhere'"):
        clean(document, context="bad")
    with pytest.raises(InvalidKubeconfig, match=r"contexts: there is no context 'none'; there are 'bad', 'main'"):
        clean(document, context="none")
    with pytest.raises(InvalidKubeconfig, match=r"current-context: missing; choose one of 'bad', 'main'"):
        clean(document | {"current-context": ""})
    alone = config()
    del alone["current-context"]
    assert clean(alone).context == "main"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("", "must be a map"),
        ("- a", "must be a map"),
        ("a: [", r"not valid YAML \(line 2\)"),
        ("a: \x01", "not valid YAML"),
        ("a: \ud800", "not valid YAML"),
        ("a: &x 1\nb: *x\n", "aliases"),
        ("a: !!python/object/apply:os.system [id]\n", "tags"),
        ("%TAG ! x\n---\na: 1\n", "%TAG"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("[" * 100_000, "levels"),
        ("a: [" + "1," * 300_000 + "]", "values"),
        ("a" * (1024 * 1024 + 1), "the limit is"),
        (config(kind="Pod"), "kind: must be Config"),
        (config(contexts=...), "contexts: missing or empty"),
        (config(contexts=[]), "contexts: missing or empty"),
        (config(contexts={"a": 1}), "contexts: missing or empty"),
        (config(contexts=["a"]), r"contexts\[0\]: must be a map"),
        (config(contexts=[{"context": {}}]), r"contexts\[0\]\.name: missing"),
        (config(contexts=[{"name": ["x"]}]), r"contexts\[0\]\.name: must be a string"),
        (config(contexts=[{"name": "main", "context": "x"}]), r"contexts\[0\]\.context: must be a map"),
        (config(contexts=[{"name": "main", "context": {}}]), r"contexts\[0\]\.context\.cluster: missing"),
        (config(contexts=[{"name": "a"}, {"name": "a"}]), r"contexts\[1\]\.name: 'a' is there twice"),
        (config(clusters=None), "clusters: missing"),
        (config(users=None), "users: missing"),
        (config(user={}), r"users\[0\]\.user: has no credentials"),
        (config(user={"as": "alice"}), r"users\[0\]\.user: has no credentials"),
        (config(user={"token": "a b"}), r"users\[0\]\.user\.token: holds blanks"),
        (config(user={"token": "a\r\nX-Evil: 1"}), r"users\[0\]\.user\.token: holds blanks"),
        (config(user={"token": "пароль"}), r"users\[0\]\.user\.token: holds blanks"),
        (config(user={"token": ["x"]}), r"users\[0\]\.user\.token: must be a string"),
        (config(user={"token": "t", "as": "a\nb"}), r"users\[0\]\.user\.as: empty, or holds"),
        (config(user={"token": "t", "as-groups": "dev"}), "as-groups: must be a list"),
        (config(user={"token": "t", "as-groups": ["dev"]}), r"as: missing; as-groups requires"),
        (config(user={"token": "t", "as": "a", "as-groups": [["x"]]}), "as-groups: must be a list"),
        (config(user={"token": "t", "as": "a", "as-user-extra": ["x"]}), "as-user-extra: must be a map"),
        (config(user={"token": "t", "as": "a", "as-user-extra": {"k": "v"}}), "as-user-extra.k: must be a list"),
        (config(user={"token": "t", "as": "a", "as-user-extra": {"k\n": ["v"]}}), "as-user-extra: empty, or holds"),
        (config(cluster={"tls-server-name": "a b"}), "tls-server-name: not a host name"),
    ],
)
def test_a_refusal_names_the_place(document: dict[str, Any] | str, said: str):
    started = time.process_time()
    with pytest.raises(InvalidKubeconfig, match=said):
        clean(document)
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    "server",
    [
        *(
            "https://k8s.example.test",
            "https://k8s.example.test:443/",
            "https://10.0.0.1:6443",
            "https://[fd00::1]:6443",
        ),
        *(
            "https://rancher.example.test/k8s/clusters/c-m-1",
            "https://192.168.0.10",
            "https://8.8.8.8",
            "https://a_b:1",
        ),
    ],
)
def test_addresses_that_clusters_have_are_kept(server: str):
    assert clean(config(cluster={"server": server})).server == server.rstrip("/")


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (None, "missing"),
        ("", "missing"),
        ("http://k8s.example.test", "must be https"),
        ("HTTPS://k8s.example.test\n", "must be https"),
        ("ftp://k8s.example.test", "must be https"),
        ("k8s.example.test:6443", "must be https"),
        ("https://", "must be https"),
        ("https://user:pass@k8s.example.test", "must be https"),
        ("https://user@k8s.example.test", "must be https"),
        ("https://k8s.example.test?a=b", "must be https"),
        ("https://k8s.example.test#a", "must be https"),
        ("https://k8s.example.test/../x", "must be https"),
        ("https://k8s.example.test\\@evil", "must be https"),
        ("https://k8s.example.test\t.evil", "must be https"),
        ("https://пример.test", "must be https"),
        ("https://[fe80::1%25eth0]", "must be https"),
        ("https://k8s.example.test:99999", "the port"),
        ("https://k8s.example.test:0", "the port is 0"),
        ("https://[::::]", "not valid|no IP|https"),
        ("https://127.0.0.1:6443", "is this machine"),
        ("https://localhost:6443", "is this machine"),
        ("https://a.localhost", "is this machine"),
        ("https://[::1]", "is this machine"),
        ("https://[::ffff:127.0.0.1]", "is this machine"),
        ("https://169.254.169.254", "metadata"),
        ("https://[::ffff:169.254.169.254]", "metadata"),
        ("https://[fe80::1]", "link-local"),
        ("https://0.0.0.0", "not the address"),
        ("https://[::]", "not the address"),
        ("https://224.0.0.1", "not the address"),
        ("https://255.255.255.255", "not the address"),
    ],
)
def test_addresses_that_no_cluster_has_are_refused(server: str | None, said: str):
    with pytest.raises(InvalidKubeconfig, match=rf"^clusters\[0\]\.cluster\.server: .*({said})") as caught:
        clean(config(cluster={"server": server}))
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize("server", ["https://127.0.0.1:6443", "https://localhost", "https://[::1]:1"])
def test_loopback_is_a_setting(server: str):
    assert clean(config(cluster={"server": server}), allow_loopback=True).server == server
    with pytest.raises(InvalidKubeconfig, match="metadata"):
        clean(config(cluster={"server": "https://169.254.169.254"}), allow_loopback=True)


def test_certificates_and_keys_are_checked_and_written_anew():
    authority, key = certificate()
    pem = base64.b64decode(authority)
    folded = base64.encodebytes(b"subject=admin\n\xff\n" + pem + b"more text").decode()
    pair = {"client-certificate-data": folded, "client-key-data": base64.encodebytes(base64.b64decode(key)).decode()}
    kept_cluster, kept_user = parts(clean(config(cluster={"certificate-authority-data": folded}, user=pair)))
    assert kept_cluster["certificate-authority-data"] == authority
    assert kept_user == {"client-certificate-data": authority, "client-key-data": key}


def _encrypted_key() -> str:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
    )
    return base64.b64encode(pem).decode()


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ({"client-certificate-data": certificate()[0]}, "client-key-data: missing"),
        ({"client-key-data": certificate()[1]}, "client-certificate-data: missing"),
        ({"client-certificate-data": "!", "client-key-data": "!"}, "client-certificate-data: not valid base64"),
        ({"client-certificate-data": "AAAA", "client-key-data": "AAAA"}, "client-certificate-data: contains no PEM"),
        ({"client-certificate-data": certificate()[0], "client-key-data": "AAAA"}, "client-key-data: contains no unen"),
        ({"client-certificate-data": certificate()[0], "client-key-data": _encrypted_key()}, "contains no unencrypted"),
        ({"client-certificate-data": certificate()[0], "client-key-data": certificate("b")[1]}, "is not the key of"),
    ],
)
def test_credentials_that_cannot_work_are_refused(user: dict[str, str], said: str):
    with pytest.raises(InvalidKubeconfig, match=rf"^users\[0\]\.user\.{said}|{said}"):
        clean(config(user=user))


def test_the_certificate_of_the_authority_is_checked():
    for data, said in (("!", "not valid base64"), ("AAAA", "contains no PEM certificate")):
        with pytest.raises(InvalidKubeconfig, match=rf"clusters\[0\]\.cluster\.certificate-authority-data: {said}"):
            clean(config(cluster={"certificate-authority-data": data}))


def test_impersonation_travels_as_one_header_for_each_value():
    user = {
        "token": "t",
        "as": "système",
        "as-groups": ["dev,ops", "b"],
        "as-user-extra": {"example.test/Scopes": ["view", "edit"]},
    }
    transport = Transport(clean(config(user=user)).text, ClusterSettings())
    sent = [pair for pair in transport._headers if pair[0].startswith(("impersonate", "authorization"))]
    assert sent == [
        ("authorization", "Bearer t"),
        ("impersonate-user", "système"),
        ("impersonate-group", "dev,ops"),
        ("impersonate-group", "b"),
        ("impersonate-extra-example.test%2FScopes", "view"),
        ("impersonate-extra-example.test%2FScopes", "edit"),
    ]


def _only_known_outcomes(text: str) -> None:
    try:
        kubeconfig = clean(text)
    except InvalidKubeconfig:
        return
    assert clean(kubeconfig.text) == kubeconfig
    user = parts(kubeconfig)[1]
    assert not user.keys() & {"exec", "auth-provider", "tokenFile", "client-key", "username"}


@given(st.text(max_size=300))
def test_any_text_is_refused_or_rebuilt(text: str):
    _only_known_outcomes(text)


_scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["main", "c", "u", "t"])
_trees = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "user", "cluster", "context", "server", "token", "exec", "as", "as-groups", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from(["contexts", "clusters", "users", "current-context", "kind"]),
        _trees | st.lists(_trees),
        max_size=3,
    ),
    st.dictionaries(
        st.sampled_from(["exec", "token", "as", "as-uid", "as-groups", "as-user-extra"]), _trees, max_size=3
    ),
)
def test_any_change_to_a_kubeconfig_is_refused_or_rebuilt(top: dict[str, Any], user: dict[str, Any]):
    _only_known_outcomes(yaml.safe_dump(config(user={"token": "t"} | user) | top, allow_unicode=True))


@pytest.mark.parametrize(
    "url",
    [
        "https://API.example.com",
        "https://api.example.com:443/",
        "https://api.example.com./",
        "https://api.example.com/./",
    ],
)
def test_one_api_server_has_one_name_however_its_url_is_written(url: str):
    assert api_server(url) == "api.example.com:443"


@pytest.mark.parametrize("url", ["https://api.example.com:6443", "https://api.example.com/k8s/c-1", "https://[::1]"])
def test_another_port_path_or_host_is_another_api_server(url: str):
    assert api_server(url) != "api.example.com:443"


def test_an_account_acts_as_a_user_and_keeps_everything_else():
    before = clean(config(user={"token": "secret"})).text
    acting = json.loads(acting_as(before, "täglich:shop", ["a", "b"]))
    assert acting["users"][0]["user"] == {"token": "secret", "as": "täglich:shop", "as-groups": ["a", "b"]}
    assert {**acting, "users": []} == {**json.loads(before), "users": []}
    assert "as-groups" not in json.loads(acting_as(before, "shop", []))["users"][0]["user"]
    assert clean(acting, context="main").text == json.dumps(acting, ensure_ascii=False), "it is one that sanitise takes"
    assert Transport(json.dumps(acting), ClusterSettings()).acts_as == "täglich:shop"


def test_an_account_that_acts_as_a_user_already_cannot_act_as_another():
    with pytest.raises(InvalidKubeconfig, match="Kubernetes allows no second"):
        acting_as(clean(config(user={"token": "secret", "as": "one"})).text, "another", [])

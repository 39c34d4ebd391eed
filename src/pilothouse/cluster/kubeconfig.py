"""Kubeconfigs of strangers, rebuilt from an allow-list.

A kubeconfig can name programs to run, files to read and proxies to use; kept as it came, an upload would be remote
code execution. What is not on the list is refused by name if it would do something, and dropped if it is harmless.
The address is a request that we make for a stranger: https only, and never link-local (metadata services).
"""

import base64
import binascii
import ipaddress
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from pilothouse.errors import InvalidKubeconfig

_LONGEST = 1024 * 1024

_CLUSTER_REFUSED = {
    "certificate-authority": "reads a file of the server; embed it as certificate-authority-data",
    "proxy-url": "sends credentials through a proxy of the caller's choice",
    "insecure-skip-tls-verify": "gives the credentials to whoever answers; embed certificate-authority-data",
}
_USER_REFUSED = {
    "exec": "runs a program on the server; use a token or a client certificate",
    "auth-provider": "runs a plugin on the server; use a token or a client certificate",
    "tokenFile": "reads a file of the server; embed the token as token",
    "client-certificate": "reads a file of the server; embed it as client-certificate-data",
    "client-key": "reads a file of the server; embed it as client-key-data",
    "username": "is basic authentication, which Kubernetes no longer has; use a token or a client certificate",
    "password": "is basic authentication, which Kubernetes no longer has; use a token or a client certificate",
}


@dataclass(frozen=True)
class Kubeconfig:
    """What is left: ``text`` is a complete kubeconfig (as JSON, which is YAML) of one context; it holds secrets."""

    text: str
    server: str


def sanitise(text: str, *, allow_loopback: bool, context: str | None = None) -> Kubeconfig:
    """One context of the kubeconfig, rebuilt; raises InvalidKubeconfig naming the key and what to do."""
    document = _load(text)
    name = context or _text(document, "current-context", "current-context")
    contexts = _named(document, "contexts", "context")
    if not name:
        raise InvalidKubeconfig(f"current-context: missing; choose one of {_names(contexts)}")
    if name not in contexts:
        raise InvalidKubeconfig(f"contexts: there is no context {name!r}; there are {_names(contexts)}")
    chosen, where = contexts[name]
    cluster, cluster_at = _referred(document, "clusters", "cluster", chosen, where)
    user, user_at = _referred(document, "users", "user", chosen, where)
    _refuse(cluster, _CLUSTER_REFUSED, cluster_at)
    _refuse(user, _USER_REFUSED, user_at)
    rebuilt = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "cluster",
        "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": "user"}}],
        "clusters": [{"name": "cluster", "cluster": _rebuild_cluster(cluster, cluster_at, allow_loopback)}],
        "users": [{"name": "user", "user": _rebuild_user(user, user_at)}],
    }
    return Kubeconfig(text=json.dumps(rebuilt), server=str(cluster["server"]))


def check_address(address: str, *, allow_loopback: bool) -> None:
    """Raises InvalidKubeconfig unless the IP address is one that an API server may have."""
    ip = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback and not allow_loopback:
        raise InvalidKubeconfig(
            f"server: {address} is this machine; set PILOTHOUSE_CLUSTER__ALLOW_LOOPBACK=true to allow that"
        )
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        raise InvalidKubeconfig(f"server: {address} is no address of a Kubernetes API server")


def _load(text: str) -> dict[str, Any]:
    if len(text) > _LONGEST:
        raise InvalidKubeconfig(f"kubeconfig: {len(text)} characters; the limit is {_LONGEST}")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.CSafeLoader)):
            raise InvalidKubeconfig("kubeconfig: YAML aliases are not accepted; write the values out")
        document = yaml.load(text, Loader=yaml.CSafeLoader)  # CSafeLoader makes plain data only
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidKubeconfig("kubeconfig: not valid YAML") from error
    if not isinstance(document, dict):
        raise InvalidKubeconfig("kubeconfig: not a kubeconfig, which is a map with clusters, users and contexts")
    return document


def _named(document: dict[str, Any], key: str, inner: str) -> dict[str, tuple[dict[str, Any], str]]:
    entries = document.get(key)
    if not isinstance(entries, list) or not entries:
        raise InvalidKubeconfig(f"{key}: missing or empty")
    named = {}
    for index, entry in enumerate(entries):
        at = f"{key}[{index}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise InvalidKubeconfig(f"{at}: must be a map with a name")
        content = entry.get(inner) or {}
        if not isinstance(content, dict):
            raise InvalidKubeconfig(f"{at}.{inner}: must be a map")
        named[entry["name"]] = (content, f"{at}.{inner}")
    return named


def _referred(
    document: dict[str, Any], key: str, inner: str, context: dict[str, Any], at: str
) -> tuple[dict[str, Any], str]:
    name = _text(context, inner, f"{at}.{inner}")
    named = _named(document, key, inner)
    if name not in named:
        raise InvalidKubeconfig(f"{at}.{inner}: there is no {inner} {name!r}; there are {_names(named)}")
    return named[name]


def _refuse(content: dict[str, Any], refused: dict[str, str], at: str) -> None:
    for key, reason in refused.items():
        if content.get(key):
            raise InvalidKubeconfig(f"{at}.{key}: refused, because it {reason}")


def _rebuild_cluster(content: dict[str, Any], at: str, allow_loopback: bool) -> dict[str, Any]:  # noqa: FBT001
    server = _text(content, "server", f"{at}.server")
    _check_server(server, f"{at}.server", allow_loopback=allow_loopback)
    rebuilt: dict[str, Any] = {"server": server}
    authority = _text(content, "certificate-authority-data", f"{at}.certificate-authority-data")
    if authority:
        _certificates(authority, f"{at}.certificate-authority-data")
        rebuilt["certificate-authority-data"] = authority
    if name := _text(content, "tls-server-name", f"{at}.tls-server-name"):
        rebuilt["tls-server-name"] = name
    return rebuilt


def _rebuild_user(content: dict[str, Any], at: str) -> dict[str, Any]:
    rebuilt: dict[str, Any] = {}
    if token := _text(content, "token", f"{at}.token"):
        if not token.isascii() or not token.isprintable():
            raise InvalidKubeconfig(f"{at}.token: not a token: it has spaces, line ends or other such characters")
        rebuilt["token"] = token
    certificate = _text(content, "client-certificate-data", f"{at}.client-certificate-data")
    key = _text(content, "client-key-data", f"{at}.client-key-data")
    if bool(certificate) != bool(key):
        raise InvalidKubeconfig(f"{at}: client-certificate-data and client-key-data belong together; one is missing")
    if certificate and key:
        _certificates(certificate, f"{at}.client-certificate-data")
        _private_key(key, f"{at}.client-key-data")
        rebuilt |= {"client-certificate-data": certificate, "client-key-data": key}
    if not rebuilt:
        raise InvalidKubeconfig(f"{at}: has no credentials; a token or a client certificate is needed")
    for name in ("as", "as-uid"):
        if value := _text(content, name, f"{at}.{name}"):
            rebuilt[name] = value
    groups = content.get("as-groups") or []
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise InvalidKubeconfig(f"{at}.as-groups: must be a list of strings")
    if groups:
        rebuilt["as-groups"] = groups
    return rebuilt


def _check_server(server: str, at: str, *, allow_loopback: bool) -> None:
    if not server:
        raise InvalidKubeconfig(f"{at}: missing")
    try:
        url = urlsplit(server)
        host, _ = url.hostname, url.port
    except ValueError as error:
        raise InvalidKubeconfig(f"{at}: {server!r} is not a URL") from error
    if url.scheme != "https" or not host:
        raise InvalidKubeconfig(f"{at}: must be an https:// URL, and is {server!r}")
    if url.username or url.password or url.query or url.fragment:
        raise InvalidKubeconfig(f"{at}: a user, query or fragment has no place in an API server's URL")
    if host == "localhost" or host.endswith(".localhost"):
        check_address("127.0.0.1", allow_loopback=allow_loopback)
        return
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return  # a name; what it resolves to is checked when connecting
    check_address(host, allow_loopback=allow_loopback)


def _text(content: dict[str, Any], key: str, at: str) -> str:
    value = content.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidKubeconfig(f"{at}: must be a string")
    return value


def _decoded(data: str, at: str) -> bytes:
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidKubeconfig(f"{at}: not valid base64") from error


def _certificates(data: str, at: str) -> None:
    try:
        x509.load_pem_x509_certificates(_decoded(data, at))
    except ValueError as error:
        raise InvalidKubeconfig(f"{at}: holds no PEM certificate") from error


def _private_key(data: str, at: str) -> None:
    try:
        load_pem_private_key(_decoded(data, at), password=None)
    except (ValueError, TypeError) as error:
        raise InvalidKubeconfig(f"{at}: holds no unencrypted PEM private key") from error


def _names(named: dict[str, Any]) -> str:
    return ", ".join(sorted(named)) or "none"

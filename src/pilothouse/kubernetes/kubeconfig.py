"""Untrusted kubeconfigs, rebuilt from an allow-list.

A kubeconfig can name programs to run, files to read and proxies to use; stored unchanged, an upload would be remote
code execution. So nothing is copied: allowed fields are checked and rebuilt. Fields that would do something else are
refused by name, and those without effect on requests (``extensions``, ``preferences``, a context's ``namespace``) are
dropped. Verification of the server's certificate cannot be turned off, for any address: the credentials would go to
whoever answers.
"""

import base64
import binascii
import json
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import yaml
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from pilothouse.errors import InvalidKubeconfig
from pilothouse.kubernetes.addresses import Addresses

_LONGEST = 1024 * 1024
_HTTPS_PORT = 443
_NODES = 20_000
_DEPTH = 20
_Loader: Any = yaml.CBaseLoader if yaml.__with_libyaml__ else yaml.BaseLoader

#: BaseLoader leaves every scalar as text, so that a token of digits stays a token; these are YAML's words for nothing.
_ABSENT = (None, "", "~", "null", "Null", "NULL")
_FALSE = ("false", "False", "FALSE")
_CLUSTER_REFUSED = {
    "certificate-authority": "it reads a file of the server; embed it as certificate-authority-data",
    "proxy-url": "it sends the request through a proxy of the caller's choice",
    "insecure-skip-tls-verify": "it sends the credentials to whoever answers; embed certificate-authority-data",
}
_USER_REFUSED = {
    "exec": "it runs a program on the server; use a token or a client certificate",
    "auth-provider": "it runs a plugin on the server; use a token or a client certificate",
    "tokenFile": "it reads a file of the server; embed the token as token",
    "client-certificate": "it reads a file of the server; embed it as client-certificate-data",
    "client-key": "it reads a file of the server; embed it as client-key-data",
    "username": "Kubernetes no longer supports basic authentication; use a token or a client certificate",
    "password": "Kubernetes no longer supports basic authentication; use a token or a client certificate",
}
_URL = re.compile(r"https://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")
_HOST = re.compile(r"[A-Za-z0-9.:_-]{1,253}")
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Kubeconfig:
    """The rebuilt kubeconfig: one context, its server, and ``text``, a complete kubeconfig with secrets.

    ``text`` is JSON, which is YAML; rebuilding it again changes nothing.
    """

    text: str = field(repr=False)
    server: str
    context: str


def sanitise(text: str, *, addresses: Addresses, context: str | None = None) -> Kubeconfig:
    """Return the kubeconfig reduced to an https address and credentials without files and programs.

    ``context`` selects a context instead of ``current-context``. Raises InvalidKubeconfig, which names the key.
    """
    document = _load(text)
    contexts = _named(document, "contexts", "context")
    name = context or _text(document, "current-context", "current-context")
    if not name and len(contexts) == 1:
        name = next(iter(contexts))
    if not name:
        raise InvalidKubeconfig(f"current-context: missing; choose one of {_names(contexts)}")
    if name not in contexts:
        raise InvalidKubeconfig(f"contexts: there is no context {name!r}; there are {_names(contexts)}")
    chosen, at = contexts[name]
    cluster = _rebuild_cluster(*_referred(document, "clusters", "cluster", chosen, at), addresses=addresses)
    user = _rebuild_user(*_referred(document, "users", "user", chosen, at))
    rebuilt = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": "cluster", "user": "user"}}],
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": "user", "user": user}],
    }
    return Kubeconfig(text=json.dumps(rebuilt, ensure_ascii=False), server=cluster["server"], context=name)


def api_server(url: str) -> str:
    """Return host, port and path of the server, the same for all spellings of a URL that ``sanitise`` accepts."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    path = posixpath.normpath(f"/{parts.path}").lstrip("/")
    return f"{host}:{parts.port or _HTTPS_PORT}/{path}".rstrip("/.")


def _load(text: str) -> dict[str, Any]:
    if len(text) > _LONGEST:
        raise InvalidKubeconfig(f"kubeconfig: {len(text)} characters; the limit is {_LONGEST}")
    try:
        _check_cost(text)
        document = yaml.load(text, Loader=_Loader)  # noqa: S506  # BaseLoader makes text, lists and maps only
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise InvalidKubeconfig(f"kubeconfig: not valid YAML{where}") from None
    if not isinstance(document, dict):
        raise InvalidKubeconfig("kubeconfig: must be a map with clusters, users and contexts")
    if document.get("kind", "Config") not in ("Config", *_ABSENT):
        raise InvalidKubeconfig(f"kind: must be Config, not {str(document['kind'])[:40]!r}")
    return document


def _check_cost(text: str) -> None:
    """Refuse what is expensive to load while it is still a stream of events."""
    if "%TAG" in text:  # libyaml compares each with all before it
        raise InvalidKubeconfig("kubeconfig: %TAG lines are not accepted")
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.AliasEvent):
            raise InvalidKubeconfig("kubeconfig: YAML aliases are not accepted; write the values out")
        if getattr(event, "tag", None) is not None:
            raise InvalidKubeconfig("kubeconfig: YAML tags are not accepted; write plain values")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if count > _NODES or depth > _DEPTH:
            raise InvalidKubeconfig(f"kubeconfig: more than {_NODES} values or {_DEPTH} levels, the limit")


def _named(document: dict[str, Any], key: str, inner: str) -> dict[str, tuple[dict[str, Any], str]]:
    """Return the entries of a list by name, each with its location for error messages."""
    entries = document.get(key)
    if not isinstance(entries, list) or not entries:
        raise InvalidKubeconfig(f"{key}: missing or empty")
    named: dict[str, tuple[dict[str, Any], str]] = {}
    for index, entry in enumerate(entries):
        at = f"{key}[{index}]"
        if not isinstance(entry, dict):
            raise InvalidKubeconfig(f"{at}: must be a map")
        name = _text(entry, "name", f"{at}.name")
        if not name or not name.isprintable():
            raise InvalidKubeconfig(f"{at}.name: missing, or not printable")
        if name in named:
            raise InvalidKubeconfig(f"{at}.name: {name!r} is there twice")
        content = entry.get(inner)
        if content not in _ABSENT and not isinstance(content, dict):
            raise InvalidKubeconfig(f"{at}.{inner}: must be a map")
        named[name] = (content if isinstance(content, dict) else {}, f"{at}.{inner}")
    return named


def _referred(
    document: dict[str, Any], key: str, inner: str, context: dict[str, Any], at: str
) -> tuple[dict[str, Any], str]:
    name = _text(context, inner, f"{at}.{inner}")
    if not name:
        raise InvalidKubeconfig(f"{at}.{inner}: missing")
    named = _named(document, key, inner)
    if name not in named:
        raise InvalidKubeconfig(f"{at}.{inner}: there is no {inner} {name!r}; there are {_names(named)}")
    return named[name]


def _refuse(content: dict[str, Any], refused: dict[str, str], at: str) -> None:
    for key, reason in refused.items():
        if content.get(key) not in (*_ABSENT, *_FALSE):
            raise InvalidKubeconfig(f"{at}.{key}: refused, because {reason}")


def _rebuild_cluster(content: dict[str, Any], at: str, *, addresses: Addresses) -> dict[str, Any]:
    _refuse(content, _CLUSTER_REFUSED, at)
    server = _text(content, "server", f"{at}.server").rstrip("/")
    _check_server(server, f"{at}.server", addresses=addresses)
    rebuilt: dict[str, Any] = {"server": server}
    if authority := _text(content, "certificate-authority-data", f"{at}.certificate-authority-data"):
        certificates = _certificates(authority, f"{at}.certificate-authority-data")
        rebuilt["certificate-authority-data"] = _encoded(certificates)
    if name := _text(content, "tls-server-name", f"{at}.tls-server-name"):
        if not _HOST.fullmatch(name):
            raise InvalidKubeconfig(f"{at}.tls-server-name: not a host name")
        rebuilt["tls-server-name"] = name
    return rebuilt


def _check_server(server: str, at: str, *, addresses: Addresses) -> None:
    if not server:
        raise InvalidKubeconfig(f"{at}: missing")
    if not _URL.fullmatch(server) or ".." in server:
        # The URL may hold a password, so it is not repeated.
        raise InvalidKubeconfig(f"{at}: must be https://HOST[:PORT][/PATH], without user, query or fragment")
    try:
        url = urlsplit(server)
        host, port = url.hostname or "", url.port
    except ValueError:
        raise InvalidKubeconfig(f"{at}: the port or the address is not valid") from None
    if port == 0:
        raise InvalidKubeconfig(f"{at}: the port is 0")
    if host == "localhost" or host.endswith(".localhost"):
        host = "127.0.0.1"
    try:
        why = addresses.refusal(host, port=port or 443)
    except ValueError:
        return  # a name: what it resolves to is judged when it is asked
    if why:
        raise InvalidKubeconfig(f"{at}: {why}")


def _rebuild_user(content: dict[str, Any], at: str) -> dict[str, Any]:
    _refuse(content, _USER_REFUSED, at)
    rebuilt: dict[str, Any] = {}
    if token := _text(content, "token", f"{at}.token").strip():
        if not _TOKEN.fullmatch(token):
            raise InvalidKubeconfig(f"{at}.token: holds blanks, line ends or other characters that no token has")
        rebuilt["token"] = token
    rebuilt |= _client_certificate(content, at)
    if not rebuilt:
        # Helm would fall back to the account of the pod it runs in.
        raise InvalidKubeconfig(f"{at}: has no credentials; embed a token, or client-certificate-data and -key-data")
    return rebuilt | _impersonation(content, at)


def _client_certificate(content: dict[str, Any], at: str) -> dict[str, str]:
    certificate = _text(content, "client-certificate-data", f"{at}.client-certificate-data")
    key = _text(content, "client-key-data", f"{at}.client-key-data")
    if bool(certificate) != bool(key):
        missing = "client-key-data" if certificate else "client-certificate-data"
        raise InvalidKubeconfig(f"{at}.{missing}: missing; certificate and key belong together")
    if not certificate:
        return {}
    certificates = _certificates(certificate, f"{at}.client-certificate-data")
    pem = _decoded(key, f"{at}.client-key-data")
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidKubeconfig(f"{at}.client-key-data: contains no unencrypted PEM private key") from None
    if private.public_key() != certificates[0].public_key():
        raise InvalidKubeconfig(f"{at}.client-key-data: is not the key of client-certificate-data")
    return {
        "client-certificate-data": _encoded(certificates),
        "client-key-data": base64.b64encode(pem).decode(),
    }


def acting_as(kubeconfig: str, user: str, groups: Sequence[str]) -> str:
    """Return a kubeconfig from ``sanitise`` with its account impersonating that user in these groups.

    Raises InvalidKubeconfig if it does so already.
    """
    document = json.loads(kubeconfig)
    account = document["users"][0]["user"]
    if "as" in account:
        raise InvalidKubeconfig(
            "wall.user: the kubeconfig impersonates a user itself (as), and Kubernetes allows no second; register the "
            "account that may impersonate"
        )
    document["users"][0]["user"] = account | {"as": user} | ({"as-groups": list(groups)} if groups else {})
    return json.dumps(document, ensure_ascii=False)


def _impersonation(content: dict[str, Any], at: str) -> dict[str, Any]:
    """Return ``as`` and its companions; dropping them would give the account other rights than the caller chose."""
    rebuilt: dict[str, Any] = {}
    for name in ("as", "as-uid"):
        if value := _text(content, name, f"{at}.{name}"):
            rebuilt[name] = _header(value, f"{at}.{name}")
    if groups := _texts(content.get("as-groups"), f"{at}.as-groups"):
        rebuilt["as-groups"] = groups
    extra = content.get("as-user-extra")
    if isinstance(extra, dict):
        rebuilt["as-user-extra"] = {
            _header(str(key), f"{at}.as-user-extra"): _texts(values, f"{at}.as-user-extra.{key}")
            for key, values in extra.items()
        }
    elif extra not in _ABSENT:
        raise InvalidKubeconfig(f"{at}.as-user-extra: must be a map of lists")
    if rebuilt and "as" not in rebuilt:
        raise InvalidKubeconfig(f"{at}.as: missing; {', '.join(rebuilt)} requires it")
    return rebuilt


def _texts(value: Any, at: str) -> list[str]:
    if value in _ABSENT:
        return []
    if not isinstance(value, list) or not all(isinstance(line, str) for line in value):
        raise InvalidKubeconfig(f"{at}: must be a list of strings")
    return [_header(line, at) for line in value]


def _header(value: str, at: str) -> str:
    if not value or not value.isprintable():
        raise InvalidKubeconfig(f"{at}: empty, or holds line ends or other characters that cannot be sent")
    return value


def _text(content: dict[str, Any], key: str, at: str) -> str:
    value = content.get(key)
    if value in _ABSENT:
        return ""
    if not isinstance(value, str):
        raise InvalidKubeconfig(f"{at}: must be a string")
    return value


def _decoded(data: str, at: str) -> bytes:
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidKubeconfig(f"{at}: not valid base64") from None


def _certificates(data: str, at: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_decoded(data, at))
    except ValueError:
        raise InvalidKubeconfig(f"{at}: contains no PEM certificate") from None


def _encoded(certificates: list[x509.Certificate]) -> str:
    """Return the certificates alone, without surrounding text."""
    return base64.b64encode(b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)).decode()


def _names(named: dict[str, Any]) -> str:
    return ", ".join(repr(name) for name in sorted(named)[:20]) or "none"

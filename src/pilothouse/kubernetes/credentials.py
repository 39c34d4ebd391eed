"""Conversion of a kubeconfig to TLS context and account headers of a connection."""

import base64
import ssl
import tempfile
from typing import Any
from urllib.parse import quote

from pilothouse.errors import InvalidKubeconfig

_TOKEN_CHARACTERS = "!#$&'*+-.^_`|~"  # noqa: S105  # RFC 9110's, without '%', which escapes the others


def tls_context(cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
    """Return the TLS context with trusted authority and client certificate; InvalidKubeconfig if TLS rejects them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # As Go does: the server's own certificate, or one between, may be what is trusted.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        if authority := cluster.get("certificate-authority-data"):
            context.load_verify_locations(cadata=base64.b64decode(authority).decode("ascii"))
        else:
            context.load_default_certs()
        if "client-certificate-data" in user:
            # The ssl module takes a client's certificate from a file only; this one lives for the call, mode 0600.
            with tempfile.NamedTemporaryFile(prefix="pilothouse-", suffix=".pem") as file:
                for key in ("client-certificate-data", "client-key-data"):
                    file.write(base64.b64decode(user[key]) + b"\n")
                file.flush()
                context.load_cert_chain(file.name)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or "they are damaged"
        raise InvalidKubeconfig(f"kubeconfig: TLS cannot use its certificates or key: {reason}") from error
    return context


def account_headers(user: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the authentication headers and Kubernetes' user impersonation headers."""
    headers = [("accept-encoding", "identity"), ("user-agent", "pilothouse")]
    if "token" in user:
        headers.append(("authorization", f"Bearer {user['token']}"))
    if "as" in user:
        headers.append(("impersonate-user", user["as"]))
    if "as-uid" in user:
        headers.append(("impersonate-uid", user["as-uid"]))
    headers += [("impersonate-group", group) for group in user.get("as-groups", ())]
    for key, values in user.get("as-user-extra", {}).items():
        headers += [(f"impersonate-extra-{quote(key, safe=_TOKEN_CHARACTERS)}", value) for value in values]
    return headers

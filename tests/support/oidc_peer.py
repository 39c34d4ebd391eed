"""A server that answers as an identity provider does, or must not: for what a real one cannot be brought to."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

from pilothouse.oidc.configuration import ProviderConfiguration
from pilothouse.oidc.provider import Provider
from pilothouse.settings import OidcSettings
from tests.support.fake_api_servers import peer

AUDIENCE = "pilothouse-api"
CLIENT = "pilothouse-console"
TERMINAL = "pilothouse-cli"
#: One for the whole run: making an RSA key takes a tenth of a second.
KEY = RSAKey.generate_key(2048, {"kid": "first", "use": "sig", "alg": "RS256"})
OTHER_KEY = RSAKey.generate_key(2048, {"kid": "second", "use": "sig"})
CURVE_KEY = ECKey.generate_key("P-256", {"kid": "curve"})

Answer = tuple[int, dict[str, str], bytes]


async def look_up(host: str) -> list[str]:
    """Resolve every name to this machine."""
    assert host
    return ["127.0.0.1"]


@dataclass
class OidcPeer:
    """What is answered where; ``asked`` are the paths in their order."""

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    hangs: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def says(self, path: str, document: Any, *, status: int = 200, **headers: str) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.answers[path] = (status, {"content-type": "application/json", **headers}, body)

    def describes_itself(self, **fields: Any) -> None:
        """Answer with a description and the first key, both changed by ``fields``."""
        self.says(
            "/.well-known/openid-configuration",
            {
                "issuer": self.issuer,
                "jwks_uri": f"{self.issuer}/keys",
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                **fields,
            },
        )
        self.publishes(KEY, CURVE_KEY)

    def publishes(self, *keys: RSAKey | ECKey | OKPKey) -> None:
        self.says("/keys", {"keys": [key.as_dict(private=False) for key in keys]})

    def provider(self, clock: Callable[[], float] = time.monotonic, **settings: Any) -> Provider:
        """Return the provider as Pilothouse asks it."""
        wanted = {"allow_loopback": True, "answer_seconds": 2.0, **settings}
        fields = {name: wanted.pop(name) for name in ("required_claims", "algorithms") if name in wanted}
        configuration = ProviderConfiguration.model_validate(
            {
                "name": "corp",
                "issuer": self.issuer,
                "audience": AUDIENCE,
                "client_id": CLIENT,
                "device_client_id": TERMINAL,
                **fields,
            }
        )
        return Provider(configuration, OidcSettings(**wanted), look_up, clock=clock)

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Return good claims of a token for the API, changed; None removes one."""
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": AUDIENCE, "sub": "alice-1", "iat": now, "exp": now + 300, **changed}
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, *, key: RSAKey | ECKey | OKPKey = KEY, header: dict[str, Any] | None = None, **changed: Any) -> str:
        algorithm = "ES256" if isinstance(key, ECKey) else "RS256"
        return jwt.encode({"alg": algorithm, "kid": key.kid, **(header or {})}, self.claims(**changed), key)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1]
        self.asked.append(path)
        if path in self.hangs:
            await asyncio.sleep(3600)
        status, headers, body = self.answers.get(path, (404, {}, b""))
        lines = [f"HTTP/1.1 {status} x", f"content-length: {len(body)}", "connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()


@asynccontextmanager
async def run_peer(folder: Path) -> AsyncIterator[OidcPeer]:
    """Yield one that describes itself well, to begin with."""
    made = OidcPeer()
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] = made.handle
    async with peer(handler, folder, tls=False) as port:
        made.port = port
        made.describes_itself()
        yield made

"""What it costs to verify a signed request: CPU time of the check alone, over a JSON body of a usual size."""

import json
import time
from datetime import UTC, datetime

from benchmarks.figures import Figure, percentile
from benchmarks.place import Place
from pilothouse.auth.signing import SignedRequest, body_digest, parse_authorization, sign, verify

ROUNDS, REQUESTS = 5, 2000
BODY = json.dumps(
    {"chart_id": "0" * 36, "namespace": "default", "name": "web", "values": {"text": "x" * 2000}}
).encode()


async def verification(place: Place) -> list[Figure]:
    server = place.server
    plain = [(b"host", b"127.0.0.1:8440"), (b"content-type", b"application/json"), (b"user-agent", b"benchmark")]
    now = datetime.now(UTC)
    made = sign(_request(place, plain), access_key=server.access_key, secret_key=server.secret_key, now=now)
    headers = [*plain, *((name.lower().encode(), value.encode()) for name, value in made.items())]
    rounds = []
    for _ in range(ROUNDS):
        spent = []
        for _ in range(REQUESTS):
            started = time.process_time_ns()
            claim = parse_authorization(made["Authorization"])
            verify(_request(place, headers), claim, secret_key=server.secret_key, now=now, skew_seconds=900)
            spent.append((time.process_time_ns() - started) / 1e9)
        rounds.append(percentile(spent, 0.5))
    return [Figure("CPU of verifying a signed JSON request, p50", tuple(rounds), target=1.0)]


def _request(place: Place, headers: list[tuple[bytes, bytes]]) -> SignedRequest:
    return SignedRequest(
        method="POST",
        raw_path=place.releases.encode(),
        query_string=b"",
        headers=headers,
        body_digest=body_digest(BODY),
        body_empty=False,
    )

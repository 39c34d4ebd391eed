"""An HTTP repository of charts: an index, and archives beside it or anywhere."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import BinaryIO, Final
from urllib.parse import urlsplit

from pilothouse.chart_sources.fetch import Answer, Fetch, joined, refuse_error, shown
from pilothouse.errors import InvalidSource

_NOT_MODIFIED: Final = 304
_SHA256: Final = "sha256:"


@dataclass(frozen=True)
class IndexState:
    """By what the index that was read last is recognised."""

    etag: str = ""
    last_modified: str = ""


async def fetch_index(fetch: Fetch, known: IndexState, *, into: BinaryIO) -> IndexState | None:
    """Write the index into the file; return None, and write nothing, if it is the known one: that is one request."""
    headers = {"accept": "*/*"}
    if known.etag:
        headers["if-none-match"] = known.etag
    if known.last_modified:
        headers["if-modified-since"] = known.last_modified
    url = f"{fetch.origin.url.rstrip('/')}/index.yaml"
    answer = await fetch.get(url, headers=headers, most_bytes=fetch.settings.index_bytes, into=into)
    if answer.status == _NOT_MODIFIED:
        return None
    refuse_error(answer, "the index of a chart repository")
    return IndexState(_header(answer, "etag"), _header(answer, "last-modified"))


def archive_url(base: str, url: str) -> str:
    """Return the address of an archive, which an index gives absolute or relative to itself."""
    target = joined(f"{base.rstrip('/')}/", url)
    if urlsplit(target).scheme not in {"https", "http", "oci"}:
        raise InvalidSource(f"the index has the archive at {shown(target)!r}, which is not an https:// URL")
    return target


async def fetch_archive(fetch: Fetch, url: str, *, digest: str, into: BinaryIO) -> Answer:
    """Write the archive into the file; raise InvalidSource if it has another digest than the index says."""
    answer = await fetch.get(url, most_bytes=fetch.settings.archive_bytes, into=into)
    refuse_error(answer, "the archive that the index names")
    wanted = digest.removeprefix(_SHA256).lower()
    if wanted and wanted != answer.digest:
        raise InvalidSource(
            f"{shown(url)} is not the archive that the index names: its digest is {answer.digest}, not {wanted[:64]}"
        )
    return answer


async def fetch_provenance(fetch: Fetch, url: str, *, most_bytes: int) -> tuple[str, int]:
    """Return the provenance beside the archive; empty if there is none, and then the status of the answer.

    403 is such an answer: an object store gives it, instead of 404, to whoever may read its objects and not list them
    (Amazon S3, "GetObject").
    """
    base, separator, query = url.partition("?")
    answer = await fetch.get(f"{base}.prov{separator}{query}", most_bytes=most_bytes)
    if answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
        return "", answer.status
    refuse_error(answer, "the provenance of the archive")
    return answer.body.decode("utf-8", "replace"), answer.status


def _header(answer: Answer, name: str) -> str:
    text = answer.headers.get(name, "")
    return text if len(text) <= 1000 and text.isprintable() else ""  # noqa: PLR2004  # no such header is longer

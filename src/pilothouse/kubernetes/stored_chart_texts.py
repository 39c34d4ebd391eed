"""What a chart says of itself, from the revision that stores it: README, schema and the facts of its Chart.yaml."""

import base64
import binascii
from dataclasses import dataclass, field

import msgspec

from pilothouse.chart_archive.charts import README_NAMES
from pilothouse.errors import CorruptRelease
from pilothouse.kubernetes.client import Secret
from pilothouse.kubernetes.helm_secrets import LARGEST_PAYLOAD, inflate_payload


class Maintainer(msgspec.Struct):
    """Who maintains a chart, by their own word."""

    name: str = ""
    email: str = ""
    url: str = ""


class Dependency(msgspec.Struct):
    """A chart that a chart declares to need."""

    name: str = ""
    version: str = ""
    repository: str = ""
    alias: str = ""


class _Metadata(msgspec.Struct, rename="camel"):
    name: str = ""
    version: str = ""
    app_version: str = ""
    description: str = ""
    type: str = ""
    home: str = ""
    kube_version: str = ""
    deprecated: bool = False
    sources: list[str] | None = None
    keywords: list[str] | None = None
    maintainers: list[Maintainer] | None = None
    dependencies: list[Dependency] | None = None


class _File(msgspec.Struct):
    name: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")


class _Chart(msgspec.Struct):
    metadata: _Metadata
    files: list[_File] | None = None
    schema: str | None = None


class _Payload(msgspec.Struct):
    chart: _Chart


@dataclass(frozen=True)
class StoredChartTexts:
    """What a stored chart says of itself; empty where it says nothing. Links are as their authors wrote them."""

    name: str
    version: str
    app_version: str
    description: str
    home: str
    kube_version: str
    deprecated: bool
    sources: list[str]
    maintainers: list[Maintainer]
    dependencies: list[Dependency]
    readme: str = field(repr=False)
    schema: str = field(repr=False)


_decoder = msgspec.json.Decoder(_Payload)


def read_chart_texts(secret: Secret) -> StoredChartTexts:
    """Return what the chart in the release's Secret says of itself; raise CorruptRelease if it cannot be read. Blocks.

    Helm stores the files of a chart that are no templates, its README among them, and no subcharts (Helm,
    pkg/chart/v2/chart.go).
    """
    try:
        chart = _decoder.decode(inflate_payload(secret, max_bytes=LARGEST_PAYLOAD)).chart
        readme = next((file for file in chart.files or () if file.name.casefold() in README_NAMES), None)
        data = msgspec.json.decode(readme.data, type=str | None) if readme is not None else None
        texts = [base64.b64decode(text or "", validate=True).decode(errors="replace") for text in (data, chart.schema)]
    except (msgspec.DecodeError, UnicodeError, RecursionError, binascii.Error) as error:
        raise CorruptRelease(f"its chart cannot be read: {error}") from None
    told = chart.metadata
    return StoredChartTexts(
        name=told.name,
        version=told.version,
        app_version=told.app_version,
        description=told.description,
        home=told.home,
        kube_version=told.kube_version,
        deprecated=told.deprecated,
        sources=told.sources or [],
        maintainers=told.maintainers or [],
        dependencies=told.dependencies or [],
        readme=texts[0],
        schema=texts[1],
    )

"""Names and formats of the vendor's API: request bodies and answers.

Source: CCE API reference, chart and release management; member types as the vendor's SDKs read them.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from pilothouse.auth.policy import READ_VALUES
from pilothouse.http.json_bodies import parse_object
from pilothouse.services.charts.archives import compact_json
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.releases.index import LARGEST_VALUES
from pilothouse.services.releases.masking import hide_in_text, hide_values, mask_values
from pilothouse.services.releases.pages import Release
from pilothouse.settings import ReleaseSettings
from pilothouse.states import ReleaseStatus
from pilothouse.store.charts import ChartRow


def _null_is_absent(default: Any) -> BeforeValidator:
    return BeforeValidator(lambda value: default if value is None else value)


Text = Annotated[StrictStr, _null_is_absent("")]
OptionalText = StrictStr | None
Flag = Annotated[StrictBool, _null_is_absent(False)]
Number = Annotated[StrictInt, _null_is_absent(0)]


def _read_values(value: Any) -> Any:
    """Parse a JSON text to its object, the form in which the API shows values; return anything else unchanged."""
    if value is None:
        return {}
    if not isinstance(value, str):
        return value
    return parse_object(value, where="values")


Values = Annotated[dict[str, Any], BeforeValidator(_read_values)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore")


class ReleaseReqBodyParams(_Body):
    """The eight flags; those that an operation does not use are accepted and ignored."""

    dry_run: Flag = False
    name_template: Text = ""
    no_hooks: Flag = False
    replace: Flag = False
    recreate: Flag = False
    reset_values: Flag = False
    release_version: Number = 0
    include_hooks: Flag = False


class CreateReleaseReqBody(_Body):
    """The body of Create Release. ``name`` may be empty if ``parameters.name_template`` generates one."""

    chart_id: Annotated[StrictStr, Field(min_length=1)]
    namespace: Annotated[StrictStr, Field(min_length=1)]
    name: Text = ""
    version: Text = ""
    description: Text = ""
    values: Values = {}
    parameters: Annotated[ReleaseReqBodyParams, _null_is_absent({})] = ReleaseReqBodyParams()


class UpdateReleaseReqBody(_Body):
    """The body of Update Release. Terraform sends an empty ``action``, and all flags with zero values or none.

    The vendor's page calls every field mandatory; fields that the action does not use may be absent anyway.
    """

    chart_id: Text = ""
    action: Text = ""
    values: Values = {}
    parameters: Annotated[ReleaseReqBodyParams, _null_is_absent({})] = ReleaseReqBodyParams()


class ChartParameters(_Body):
    """The JSON text in the upload form's part ``parameters``."""

    override: Flag = False
    skip_lint: Flag = False
    visible: StrictBool | None = None
    source: Text = ""


#: Helm's status words on the wire: Helm 2's names, which the vendor kept.
_STATUS: dict[str, str] = {
    ReleaseStatus.UNKNOWN: "UNKNOWN",
    ReleaseStatus.DEPLOYED: "DEPLOYED",
    ReleaseStatus.UNINSTALLED: "DELETED",
    ReleaseStatus.SUPERSEDED: "SUPERSEDED",
    ReleaseStatus.FAILED: "FAILED",
    ReleaseStatus.UNINSTALLING: "DELETING",
    ReleaseStatus.PENDING_INSTALL: "PENDING_INSTALL",
    ReleaseStatus.PENDING_UPGRADE: "PENDING_UPGRADE",
    ReleaseStatus.PENDING_ROLLBACK: "PENDING_ROLLBACK",
}


#: The members of ReleaseResp.
RELEASE_FIELDS = frozenset(
    {
        "chart_name",
        "chart_public",
        "chart_version",
        "cluster_id",
        "cluster_name",
        "create_at",
        "description",
        "name",
        "namespace",
        "parameters",
        "resources",
        "status",
        "status_description",
        "update_at",
        "values",
        "version",
    }
)


#: In place of values that are not shown, as ``resources`` says what it leaves out.
_LEFT_OUT = compact_json(
    {
        "error": f"left out: they have more than {LARGEST_VALUES} bytes as JSON text, or what is stored of them does "
        "not open; ask the cluster: helm get values"
    }
)


@dataclass(frozen=True)
class ReleaseSerializer:
    """Serialises releases with this installation's settings; ``zone`` is the time zone of all times."""

    zone: ZoneInfo
    settings: ReleaseSettings
    hides_values: bool = False

    def seen_by(self, caller: Caller) -> "ReleaseSerializer":
        """Return the serialiser for this caller: without the right to read values, it shows only their keys."""
        return replace(self, hides_values=not caller.may(READ_VALUES))

    def to_wire(self, release: Release) -> dict[str, object]:
        """Return the 16 fields of a release; ``values``, ``parameters`` and ``resources`` are strings in this API."""
        description, status_description = (
            self._masked(text, release) for text in (release.description, release.status_description)
        )
        shows_resources = release.resources_hide_values or not self.hides_values
        status = _STATUS.get(release.status, "UNKNOWN")
        if status == "SUPERSEDED" and self.settings.superseded_as_unknown:
            status = "UNKNOWN"
        return {
            "chart_name": release.chart_name,
            "chart_public": False,
            "chart_version": release.chart_version,
            "cluster_id": release.cluster_id,
            "cluster_name": release.cluster_name,
            "create_at": _local(release.created_at, self.zone),
            "description": description,
            "name": release.name,
            "namespace": release.namespace,
            "parameters": "",
            "resources": release.resources_json if shows_resources else "",
            "status": status,
            "status_description": status_description,
            "update_at": _local(release.updated_at, self.zone),
            "values": self._values(release.values_json),
            "version": release.revision,
        }

    def _masked(self, text: str, release: Release) -> str:
        if not self.hides_values:
            return text
        return hide_in_text(text, release.values_json, public=(release.name, release.namespace))

    def _values(self, values_json: str | None) -> str:
        if values_json is None:
            return _LEFT_OUT
        if self.hides_values:
            return hide_values(values_json)
        return mask_values(values_json) if self.settings.mask_values else values_json


def chart_to_wire(chart: ChartRow) -> dict[str, object]:
    """Return the 13 fields of a chart; ``chart_url`` is a file name, and times are UTC."""
    return {
        "id": chart.id,
        "name": chart.name,
        "values": chart.values_json,
        "translate": "",
        "instruction": chart.instruction,
        "version": chart.version,
        "description": chart.description,
        "source": chart.source,
        "icon_url": chart.icon_url,
        "public": False,
        "chart_url": chart_file_name(chart),
        "create_at": _utc(chart.created_at),
        "update_at": _utc(chart.updated_at),
    }


def chart_file_name(chart: ChartRow) -> str:
    """Return the file name of a chart's archive: plain ASCII without quotes, like name and version."""
    return f"{chart.name}-{chart.version}.tgz"


def _local(moment: datetime, zone: ZoneInfo) -> str:
    return moment.astimezone(zone).isoformat(timespec="seconds")


def _utc(moment: datetime) -> str:
    return moment.astimezone(ZoneInfo("UTC")).strftime("%Y-%m-%dT%H:%M:%SZ")

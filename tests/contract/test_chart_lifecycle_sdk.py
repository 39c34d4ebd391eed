"""The vendor's Python client does everything that there is to do with a chart."""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huaweicloudsdkcce.v3 import (
    CreateReleaseReqBody,
    CreateReleaseRequest,
    DeleteAutopilotChartRequest,
    DeleteChartRequest,
    DownloadAutopilotChartRequest,
    DownloadChartRequest,
    ListAutopilotChartsRequest,
    ListChartsRequest,
    ShowAutopilotChartRequest,
    ShowAutopilotChartValuesRequest,
    ShowAutopilotUserChartsQuotasRequest,
    ShowChartRequest,
    ShowChartValuesRequest,
    ShowUserChartsQuotasRequest,
    UpdateAutopilotChartRequest,
    UpdateAutopilotChartRequestBody,
    UpdateChartRequest,
    UpdateChartRequestBody,
    UploadAutopilotChartRequest,
    UploadAutopilotChartRequestBody,
    UploadChartRequest,
    UploadChartRequestBody,
)
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkcore.http.formdata import FormFile

from tests.support.charts import build_chart, config_map_chart
from tests.support.servers import RunningServer
from tests.support.tenants import add_tenant
from tests.support.tokens import token_of
from tests.support.users import add_person
from tests.support.wire import assert_error, exchange

NOT_FOUND = (404, "CCE.01404001")


def fresh_name() -> str:
    return f"chart-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[FormFile]:
    """Yield a file to upload, as the SDK wants it."""
    file = tmp_path / "some-name.tgz"
    file.write_bytes(build_chart(fresh_name(), "1.0.0", values={"basic": {"a": [1, None, "\u4e2d"]}}))
    with file.open("rb") as opened:
        yield FormFile(opened)


def form(name: str, version: str, folder: Path) -> FormFile:
    file = folder / f"{name}-{version}.tgz"
    file.write_bytes(build_chart(name, version, values={"now": version}))
    return FormFile(str(file))


def bytes_of(response: Any) -> tuple[bytes, dict[str, str]]:
    """Return what the SDK's stream of a download gives, and its headers."""
    taken: dict[str, Any] = {}

    def take(stream: Any) -> None:
        taken["content"], taken["headers"] = stream.content, dict(stream.headers)

    response.consume_download_stream(take)
    return taken["content"], taken["headers"]


def caller(server: RunningServer, *, token: str | None) -> Callable[[str, Any], Any]:
    """Call the SDK's operation of that name with a signature, or with a token as the SDK can be made to send one."""
    client = server.sdk()

    def call(operation: str, request: Any) -> Any:
        invoker = getattr(client, f"{operation}_invoker")(request)
        if token is not None:
            # a preset Authorization keeps the SDK from signing
            invoker = invoker.add_header("X-Auth-Token", token).add_header("Authorization", "token")
        return invoker.invoke()

    return call


@pytest.mark.parametrize("proof", ["signature", "token"])
def test_a_chart_lives_from_upload_to_deletion(server: RunningServer, archive: FormFile, tmp_path: Path, proof: str):
    call = caller(server, token=token_of(server) if proof == "token" else None)
    content = Path(archive.abs_path).read_bytes()
    body = UploadChartRequestBody(content=archive, parameters='{"skip_lint": false, "source": "package"}')
    made = call("upload_chart", UploadChartRequest(body=body))
    assert made.status_code == 201
    chart_id, name = made.id, made.name

    shown = call("show_chart", ShowChartRequest(chart_id=chart_id))
    assert (shown.version, shown.chart_url, shown.public) == ("1.0.0", f"{name}-1.0.0.tgz", False)
    listed = call("list_charts", ListChartsRequest()).body
    assert [one.name for one in listed if one.id == chart_id] == [name]

    downloaded, headers = bytes_of(call("download_chart", DownloadChartRequest(chart_id=chart_id)))
    assert hashlib.sha256(downloaded).digest() == hashlib.sha256(content).digest()
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"] == f'attachment; filename="{name}-1.0.0.tgz"'
    assert headers["content-length"] == str(len(content))
    assert len(headers["x-request-id"]) == 32

    values = call("show_chart_values", ShowChartValuesRequest(chart_id=chart_id))
    assert values.values.basic == {"a": [1, None, "\u4e2d"]}
    assert json.loads(values.raw_content) == {"values": {"basic": {"a": [1, None, "\u4e2d"]}}}

    replacing = UpdateChartRequestBody(content=form(name, "2.0.0", tmp_path), parameters='{"visible": false}')
    updated = call("update_chart", UpdateChartRequest(chart_id=chart_id, body=replacing))
    assert (updated.status_code, updated.id, updated.version) == (200, chart_id, "2.0.0")
    assert json.loads(updated.values) == {"now": "2.0.0"}
    assert updated.create_at == made.create_at

    deleted = call("delete_chart", DeleteChartRequest(chart_id=chart_id))
    assert (deleted.status_code, deleted.id, deleted.version) == (200, chart_id, "2.0.0")
    with pytest.raises(ClientRequestException) as gone:
        call("show_chart", ShowChartRequest(chart_id=chart_id))
    assert (gone.value.status_code, gone.value.error_code) == NOT_FOUND


def test_who_may_only_read_reads_everything_of_a_chart_and_changes_nothing(server: RunningServer):
    name = fresh_name()
    chart = server.upload(config_map_chart(name)).json()
    path = f"/v2/charts/{chart['id']}"
    reader = add_person(server, "CCE ReadOnlyAccess").server
    for target in ("/v2/charts", path, f"{path}/archive", f"{path}/values", f"/v2/charts/{server.project_id}/quotas"):
        assert reader.send("GET", target).status_code == 200, target
    forbidden = (403, "CCE.01403001")
    assert_error(reader.upload(config_map_chart(fresh_name())), *forbidden, "cce:chart:upload")
    assert_error(put(reader, chart["id"], config_map_chart(name, "2.0.0")), *forbidden, "cce:chart:update")
    assert_error(reader.send("DELETE", path), *forbidden, "cce:chart:delete")
    assert server.send("GET", path).json() == chart


def test_who_has_no_role_sees_no_chart(server: RunningServer):
    chart = server.upload(config_map_chart(fresh_name())).json()
    path = f"/v2/charts/{chart['id']}"
    nobody = add_person(server).server
    for target, action in (
        ("/v2/charts", "list"),
        (path, "get"),
        (f"{path}/values", "get"),
        (f"{path}/archive", "download"),
        (f"/v2/charts/{server.project_id}/quotas", "getQuota"),
        ("/v2/charts/another-project/quotas", "getQuota"),
    ):
        assert_error(nobody.send("GET", target), 403, "CCE.01403001", f"cce:chart:{action}")


def test_the_autopilot_twins_are_the_same_charts(server: RunningServer, archive: FormFile, tmp_path: Path):
    client = server.sdk()
    made = client.upload_autopilot_chart(
        UploadAutopilotChartRequest(body=UploadAutopilotChartRequestBody(content=archive))
    )
    assert made.status_code == 201
    assert client.show_chart(ShowChartRequest(chart_id=made.id)).name == made.name
    assert client.show_autopilot_chart(ShowAutopilotChartRequest(chart_id=made.id)).name == made.name
    listed = client.list_autopilot_charts(ListAutopilotChartsRequest()).body
    assert made.id in [one.id for one in listed]
    downloaded, _ = bytes_of(client.download_autopilot_chart(DownloadAutopilotChartRequest(chart_id=made.id)))
    assert downloaded == Path(archive.abs_path).read_bytes()
    values = client.show_autopilot_chart_values(ShowAutopilotChartValuesRequest(chart_id=made.id))
    assert values.values.basic == {"a": [1, None, "\u4e2d"]}
    quotas = client.show_autopilot_user_charts_quotas(ShowAutopilotUserChartsQuotasRequest())
    assert quotas.quotas.resources[0].type == "Charts"
    body = UpdateAutopilotChartRequestBody(content=form(made.name, "1.0.1", tmp_path))
    assert client.update_autopilot_chart(UpdateAutopilotChartRequest(chart_id=made.id, body=body)).version == "1.0.1"
    deleted = client.delete_autopilot_chart(DeleteAutopilotChartRequest(chart_id=made.id))
    assert json.loads(deleted.raw_content)["id"] == made.id


def test_the_quota_counts_what_the_project_has(server: RunningServer):
    tenant = add_tenant(server)
    client = tenant.sdk()

    def used() -> list[dict[str, Any]]:
        answer = client.show_user_charts_quotas(ShowUserChartsQuotasRequest())
        resources: list[dict[str, Any]] = json.loads(answer.raw_content)["quotas"]["resources"]
        return resources

    assert used() == [{"type": "Charts", "quota": 5000, "used": 0}]
    made = tenant.upload(config_map_chart(fresh_name())).json()
    assert used() == [{"type": "Charts", "quota": 5000, "used": 1}]
    client.delete_chart(DeleteChartRequest(chart_id=made["id"]))
    assert used() == [{"type": "Charts", "quota": 5000, "used": 0}]


@pytest.mark.parametrize("prefix", ["/v2/charts", "/autopilot/v2/charts"])
def test_the_quota_of_another_project_is_forbidden(server: RunningServer, prefix: str):
    for project_id in ("%7Bproject_id%7D", "0" * 32, add_tenant(server).project_id, "%20"):
        answer = exchange(server, "GET", f"{prefix}/{project_id}/quotas")
        assert_error(answer, 403, "CCE.01403001", "Forbidden", server.project_id)
        assert project_id not in answer.text


def test_nothing_of_another_projects_chart_can_be_reached(server: RunningServer):
    stranger = add_tenant(server)
    name = fresh_name()
    mine = server.upload(config_map_chart(name)).json()
    path = f"/v2/charts/{mine['id']}"
    for method, target in (("GET", ""), ("DELETE", ""), ("GET", "/archive"), ("GET", "/values")):
        assert_error(stranger.send(method, path + target), *NOT_FOUND, "does not exist in this project")
    assert_error(put(stranger, mine["id"], config_map_chart(name, "2.0.0")), *NOT_FOUND)
    assert stranger.send("GET", "/v2/charts").json() == []
    theirs = stranger.upload(config_map_chart(name))
    assert (theirs.status_code, theirs.json()["id"] != mine["id"]) == (201, True)
    assert server.send("GET", path).json() == mine


def put(server: RunningServer, chart_id: str, archive: bytes | None, parameters: str | None = None) -> httpx2.Response:
    request = httpx2.Request(
        "PUT",
        server.url,
        files={"content": ("x.tgz", archive)} if archive is not None else {"other": ("x.tgz", b"")},
        data={"parameters": parameters} if parameters is not None else {},
    )
    headers = {"Content-Type": request.headers["content-type"]}
    return server.send("PUT", f"/v2/charts/{chart_id}", body=request.read(), headers=headers)


def test_an_update_is_refused_like_an_upload_and_changes_nothing_then(server: RunningServer):
    name = fresh_name()
    chart = server.upload(config_map_chart(name, "1.0.0")).json()
    other = server.upload(config_map_chart(name, "2.0.0")).json()
    path = f"/v2/charts/{chart['id']}"
    bad = (400, "CCE.01400001")
    assert_error(put(server, chart["id"], None), *bad, "content: missing")
    assert_error(put(server, chart["id"], b"no chart"), *bad, "gzip")
    assert_error(put(server, chart["id"], config_map_chart(fresh_name())), *bad, "keeps the name", name)
    assert_error(put(server, chart["id"], config_map_chart(name, "1.1.0"), "{"), *bad, "parameters")
    broken = build_chart(name, "1.1.0", templates={"x.yaml": "{{ nothing }}"})
    assert_error(put(server, chart["id"], broken), *bad, "helm lint", "templates/")
    taken = put(server, chart["id"], config_map_chart(name, "2.0.0"), '{"override": true}')
    assert_error(taken, 409, "CCE.01409001", other["id"])
    assert_error(put(server, str(uuid.uuid4()), config_map_chart(name)), *NOT_FOUND)
    assert_error(server.send("PUT", path, json_body={}), 400, "CCE.01400006", "multipart/form-data")
    assert server.send("GET", path).json() == chart
    assert put(server, chart["id"], broken, '{"skip_lint": true}').json()["version"] == "1.1.0"


def test_an_override_refreshes_the_time_of_the_update(server: RunningServer):
    name = fresh_name()
    first = server.upload(config_map_chart(name)).json()
    until_then = first["update_at"]
    while until_then == first["update_at"]:
        until_then = server.upload(config_map_chart(name), parameters='{"override": true}').json()["update_at"]
    assert server.send("GET", f"/v2/charts/{first['id']}").json()["create_at"] == first["create_at"]


def test_a_large_archive_comes_back_byte_for_byte(server: RunningServer):
    noise = hashlib.shake_256(b"noise").digest(4_900_000)
    archive = build_chart(fresh_name(), files={"a": noise, "b": noise[::-1]})
    made = server.upload(archive, parameters='{"skip_lint": true}')
    assert made.status_code == 201, made.text
    answer = server.send("GET", f"/v2/charts/{made.json()['id']}/archive")
    assert (answer.status_code, answer.content == archive) == (200, True)


def test_a_release_outlives_the_deletion_of_its_chart(server: RunningServer, namespace: str):
    client = server.sdk()
    chart = server.upload(config_map_chart(fresh_name())).json()
    request = CreateReleaseReqBody(chart_id=chart["id"], name="kept", namespace=namespace, version="", values={})
    client.create_release(CreateReleaseRequest(cluster_id=server.cluster_id, body=request))
    assert client.delete_chart(DeleteChartRequest(chart_id=chart["id"])).status_code == 200
    release = server.wait_until_final(namespace, "kept")
    assert (release["status"], release["chart_name"]) == ("DEPLOYED", chart["name"])
    again = server.create(chart_id=chart["id"], name="late", namespace=namespace, version="", values={})
    assert_error(again, *NOT_FOUND, chart["id"])


@pytest.mark.parametrize("path", ["", "/archive", "/values"])
@pytest.mark.parametrize("chart_id", ["nope", "6f9619ff-8b86-d011-b42d-00c04fc964ff", "%F0%9F%9A%80", "%7Bchart_id%7D"])
def test_an_unknown_chart_has_nothing(server: RunningServer, chart_id: str, path: str):
    assert_error(exchange(server, "GET", f"/v2/charts/{chart_id}{path}"), *NOT_FOUND, "does not exist")


def test_methods_that_charts_do_not_have_are_no_api(server: RunningServer):
    for method, path in (("PATCH", "/v2/charts/x"), ("POST", "/v2/charts/x"), ("DELETE", "/v2/charts"), ("GET", "/v2")):
        assert_error(server.send(method, path), 404, "APIGW.0101")

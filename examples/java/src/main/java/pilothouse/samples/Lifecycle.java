package pilothouse.samples;

import com.huaweicloud.sdk.cce.v3.CceClient;
import com.huaweicloud.sdk.cce.v3.model.CreateReleaseReqBody;
import com.huaweicloud.sdk.cce.v3.model.CreateReleaseReqBodyValues;
import com.huaweicloud.sdk.cce.v3.model.CreateReleaseRequest;
import com.huaweicloud.sdk.cce.v3.model.CreateReleaseResponse;
import com.huaweicloud.sdk.cce.v3.model.DeleteChartRequest;
import com.huaweicloud.sdk.cce.v3.model.DeleteReleaseRequest;
import com.huaweicloud.sdk.cce.v3.model.DownloadChartRequest;
import com.huaweicloud.sdk.cce.v3.model.ListChartsRequest;
import com.huaweicloud.sdk.cce.v3.model.ListReleasesRequest;
import com.huaweicloud.sdk.cce.v3.model.ReleaseReqBodyParams;
import com.huaweicloud.sdk.cce.v3.model.ReleaseResp;
import com.huaweicloud.sdk.cce.v3.model.ShowChartRequest;
import com.huaweicloud.sdk.cce.v3.model.ShowChartValuesRequest;
import com.huaweicloud.sdk.cce.v3.model.ShowReleaseHistoryRequest;
import com.huaweicloud.sdk.cce.v3.model.ShowReleaseRequest;
import com.huaweicloud.sdk.cce.v3.model.ShowReleaseResponse;
import com.huaweicloud.sdk.cce.v3.model.ShowUserChartsQuotasRequest;
import com.huaweicloud.sdk.cce.v3.model.UpdateChartRequest;
import com.huaweicloud.sdk.cce.v3.model.UpdateChartRequestBody;
import com.huaweicloud.sdk.cce.v3.model.UpdateReleaseReqBody;
import com.huaweicloud.sdk.cce.v3.model.UpdateReleaseReqBody.ActionEnum;
import com.huaweicloud.sdk.cce.v3.model.UpdateReleaseRequest;
import com.huaweicloud.sdk.cce.v3.model.UpdateReleaseResponse;
import com.huaweicloud.sdk.cce.v3.model.UploadChartRequest;
import com.huaweicloud.sdk.cce.v3.model.UploadChartRequestBody;
import com.huaweicloud.sdk.cce.v3.model.UploadChartResponse;
import com.huaweicloud.sdk.cce.v3.region.CceRegion;
import com.huaweicloud.sdk.core.auth.BasicCredentials;
import com.huaweicloud.sdk.core.exception.ServiceResponseException;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import java.util.stream.Collectors;

/**
 * The whole life of a chart and a release with the vendor's SDK: all fourteen operations, one line of output each.
 *
 * <p>Environment: CLOUD_SDK_AK, CLOUD_SDK_SK, REGION, CLUSTER_ID, CHART (path of a .tgz), NAMESPACE, NAME, and the SDK's
 * endpoint variables (see CreateRelease). The chart and the release are gone at the end.
 */
public final class Lifecycle {
    private static final int ATTEMPTS = 600;
    private static final int PAUSE_MILLIS = 500;
    private static final int NOT_FOUND = 404;

    private final CceClient client;
    private final String clusterId;
    private final String namespace;
    private final String name;

    private Lifecycle(CceClient client, String clusterId, String namespace, String name) {
        this.client = client;
        this.clusterId = clusterId;
        this.namespace = namespace;
        this.name = name;
    }

    public static void main(String[] args) throws Exception {
        Map<String, String> environment = System.getenv();
        CceClient client = CceClient.newBuilder()
                .withCredential(new BasicCredentials()
                        .withAk(environment.get("CLOUD_SDK_AK"))
                        .withSk(environment.get("CLOUD_SDK_SK")))
                .withRegion(CceRegion.valueOf(environment.getOrDefault("REGION", "cn-north-4")))
                .build();
        Lifecycle lifecycle = new Lifecycle(
                client,
                environment.get("CLUSTER_ID"),
                environment.getOrDefault("NAMESPACE", "project01"),
                environment.getOrDefault("NAME", "nino21"));
        try {
            lifecycle.run(Path.of(environment.get("CHART")));
        } catch (ServiceResponseException | IllegalStateException error) {
            System.err.println(error);
            System.exit(1);
        }
        System.exit(0); // idle threads of the SDK would keep the process for five seconds more
    }

    private void run(Path chart) throws IOException, InterruptedException {
        UploadChartResponse uploaded = upload(chart);
        String chartId = uploaded.getId();
        readChart(chart, chartId);
        create(chartId, uploaded.getVersion());
        waitUntilDeployed();
        list();
        update(chartId, ActionEnum.UPGRADE, new CreateReleaseReqBodyValues().withImageTag("v3"),
                new ReleaseReqBodyParams());
        waitUntilDeployed();
        showHistory();
        update(chartId, ActionEnum.ROLLBACK, new CreateReleaseReqBodyValues(),
                new ReleaseReqBodyParams().withReleaseVersion(1));
        waitUntilDeployed();
        showHistory();
        delete();
        waitUntilGone();
        say("delete_chart", client.deleteChart(new DeleteChartRequest().withChartId(chartId)).getHttpStatusCode());
    }

    private UploadChartResponse upload(Path chart) throws IOException {
        try (InputStream archive = Files.newInputStream(chart)) {
            UploadChartResponse uploaded = client.uploadChart(new UploadChartRequest()
                    .withBody(new UploadChartRequestBody()
                            .withContent(archive, chart.getFileName().toString())
                            .withParameters("{\"override\": true}")));
            say("upload_chart", uploaded.getName(), uploaded.getVersion());
            return uploaded;
        }
    }

    private void readChart(Path chart, String chartId) throws IOException {
        boolean listed = client.listCharts(new ListChartsRequest()).getBody().stream()
                .anyMatch(one -> one.getId().equals(chartId));
        say("list_charts", listed ? "listed" : "not listed");
        say("show_chart", client.showChart(new ShowChartRequest().withChartId(chartId)).getChartUrl());
        boolean hasValues =
                client.showChartValues(new ShowChartValuesRequest().withChartId(chartId)).getValues() != null;
        say("show_chart_values", hasValues ? "values" : "none");
        say("show_user_charts_quotas",
                client.showUserChartsQuotas(new ShowUserChartsQuotasRequest()).getQuotas().getResources().get(0)
                        .getType());
        ByteArrayOutputStream downloaded = new ByteArrayOutputStream();
        client.downloadChart(new DownloadChartRequest().withChartId(chartId)).consumeDownloadStream(stream -> {
            try {
                stream.transferTo(downloaded);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        });
        boolean same = Arrays.equals(downloaded.toByteArray(), Files.readAllBytes(chart));
        say("download_chart", same ? "same bytes" : "other bytes");
        try (InputStream archive = Files.newInputStream(chart)) {
            String updatedId = client.updateChart(new UpdateChartRequest()
                            .withChartId(chartId)
                            .withBody(new UpdateChartRequestBody()
                                    .withContent(archive, chart.getFileName().toString())))
                    .getId();
            say("update_chart", chartId.equals(updatedId) ? "same id" : "other id");
        }
    }

    private void create(String chartId, String version) {
        CreateReleaseResponse made = client.createRelease(new CreateReleaseRequest()
                .withClusterId(clusterId)
                .withBody(new CreateReleaseReqBody()
                        .withChartId(chartId)
                        .withName(name)
                        .withNamespace(namespace)
                        .withVersion(version)
                        .withValues(new CreateReleaseReqBodyValues()
                                .withImagePullPolicy("IfNotPresent")
                                .withImageTag("v2"))
                        .withParameters(new ReleaseReqBodyParams()
                                .withDryRun(false)
                                .withNameTemplate("")
                                .withNoHooks(false)
                                .withReplace(false))));
        say("create_release", made.getStatus(), made.getVersion());
    }

    private void list() {
        ListReleasesRequest request = new ListReleasesRequest().withClusterId(clusterId).withNamespace(namespace);
        ReleaseResp found = client.listReleases(request).getBody().stream()
                .filter(one -> one.getName().equals(name))
                .findFirst()
                .orElseThrow(() -> new IllegalStateException(name + " is not listed"));
        say("list_releases", found.getStatus(), found.getVersion());
    }

    private void update(
            String chartId, ActionEnum action, CreateReleaseReqBodyValues values, ReleaseReqBodyParams parameters) {
        UpdateReleaseResponse updated = client.updateRelease(new UpdateReleaseRequest()
                .withClusterId(clusterId)
                .withNamespace(namespace)
                .withName(name)
                .withBody(new UpdateReleaseReqBody()
                        .withChartId(chartId)
                        .withAction(action)
                        .withValues(values)
                        .withParameters(parameters)));
        say("update_release", updated.getStatus(), updated.getVersion());
    }

    private void showHistory() {
        ShowReleaseHistoryRequest request = new ShowReleaseHistoryRequest()
                .withClusterId(clusterId)
                .withNamespace(namespace)
                .withName(name);
        say("show_release_history", client.showReleaseHistory(request).getBody().stream()
                .map(one -> one.getVersion() + " " + one.getStatus())
                .collect(Collectors.joining(", ")));
    }

    private void delete() {
        DeleteReleaseRequest request = new DeleteReleaseRequest()
                .withClusterId(clusterId)
                .withNamespace(namespace)
                .withName(name);
        say("delete_release", client.deleteRelease(request).getHttpStatusCode());
    }

    private ShowReleaseResponse show() {
        return client.showRelease(new ShowReleaseRequest()
                .withClusterId(clusterId)
                .withNamespace(namespace)
                .withName(name));
    }

    private void waitUntilDeployed() throws InterruptedException {
        for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
            ShowReleaseResponse release = show();
            if (!release.getStatus().startsWith("PENDING")) {
                say("show_release", release.getStatus(), release.getVersion());
                if (!release.getStatus().equals("DEPLOYED")) {
                    throw new IllegalStateException(release.getStatusDescription());
                }
                return;
            }
            Thread.sleep(PAUSE_MILLIS);
        }
        throw new IllegalStateException(name + " is still pending");
    }

    private void waitUntilGone() throws InterruptedException {
        for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
            try {
                show();
            } catch (ServiceResponseException error) {
                if (error.getHttpStatusCode() != NOT_FOUND) {
                    throw error;
                }
                say("show_release", error.getHttpStatusCode());
                return;
            }
            Thread.sleep(PAUSE_MILLIS);
        }
        throw new IllegalStateException(name + " is still there");
    }

    private static void say(String operation, Object... facts) {
        System.out.println(operation + ": " + Arrays.stream(facts).map(String::valueOf).collect(Collectors.joining(" ")));
    }
}

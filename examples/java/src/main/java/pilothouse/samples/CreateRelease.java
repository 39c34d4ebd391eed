package pilothouse.samples;

import com.huaweicloud.sdk.cce.v3.CceClient;
import com.huaweicloud.sdk.cce.v3.model.CreateReleaseReqBody;
import com.huaweicloud.sdk.cce.v3.model.CreateReleaseReqBodyValues;
import com.huaweicloud.sdk.cce.v3.model.CreateReleaseRequest;
import com.huaweicloud.sdk.cce.v3.model.ReleaseReqBodyParams;
import com.huaweicloud.sdk.cce.v3.region.CceRegion;
import com.huaweicloud.sdk.core.auth.BasicCredentials;
import com.huaweicloud.sdk.core.exception.ServiceResponseException;
import java.util.Map;

/**
 * Create a release with the vendor's SDK: the calls of the API reference's Create Release sample.
 *
 * <p>Everything comes from the environment, the endpoints too (the SDK reads HUAWEICLOUD_SDK_REGION_CCE_&lt;REGION&gt; and
 * HUAWEICLOUD_SDK_IAM_ENDPOINT by itself): CLOUD_SDK_AK, CLOUD_SDK_SK, REGION, CLUSTER_ID, CHART_ID, NAMESPACE, NAME.
 */
public final class CreateRelease {
    private CreateRelease() {}

    public static void main(String[] args) {
        Map<String, String> environment = System.getenv();
        CceClient client = CceClient.newBuilder()
                .withCredential(new BasicCredentials()
                        .withAk(environment.get("CLOUD_SDK_AK"))
                        .withSk(environment.get("CLOUD_SDK_SK")))
                .withRegion(CceRegion.valueOf(environment.getOrDefault("REGION", "cn-north-4")))
                .build();
        CreateReleaseRequest request = new CreateReleaseRequest()
                .withClusterId(environment.get("CLUSTER_ID"))
                .withBody(new CreateReleaseReqBody()
                        .withChartId(environment.get("CHART_ID"))
                        .withName(environment.getOrDefault("NAME", "nino21"))
                        .withNamespace(environment.getOrDefault("NAMESPACE", "project01"))
                        .withVersion("1.0.0")
                        .withValues(new CreateReleaseReqBodyValues()
                                .withImagePullPolicy("IfNotPresent")
                                .withImageTag("v2"))
                        .withParameters(new ReleaseReqBodyParams()
                                .withDryRun(false)
                                .withNameTemplate("")
                                .withNoHooks(false)
                                .withReplace(false)));
        try {
            System.out.println(client.createRelease(request));
        } catch (ServiceResponseException error) {
            System.err.println(error);
            System.exit(1);
        }
        System.exit(0); // idle threads of the SDK would keep the process for five seconds more
    }
}

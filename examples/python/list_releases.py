"""List a cluster's releases with the vendor's SDK.

Environment: CLOUD_SDK_AK, CLOUD_SDK_SK, REGION, PILOTHOUSE_CLUSTER_ID, and the SDK's endpoint variables.
"""

import os

from huaweicloudsdkcce.v3 import CceClient, ListReleasesRequest
from huaweicloudsdkcce.v3.region.cce_region import CceRegion
from huaweicloudsdkcore.auth.credentials import BasicCredentials


def main() -> None:
    credentials = BasicCredentials(os.environ["CLOUD_SDK_AK"], os.environ["CLOUD_SDK_SK"])
    region = CceRegion.value_of(os.environ.get("REGION", "cn-north-4"))
    client = CceClient.new_builder().with_credentials(credentials).with_region(region).build()
    answer = client.list_releases(ListReleasesRequest(cluster_id=os.environ["PILOTHOUSE_CLUSTER_ID"]))
    for release in answer.body or []:
        print(f"{release.namespace:20} {release.name:30} {release.version:3} {release.status:16} {release.chart_name}")


if __name__ == "__main__":
    main()

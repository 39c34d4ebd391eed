"""Upload a chart archive with the vendor's SDK; replaces one of the same name and version.

Environment: CLOUD_SDK_AK, CLOUD_SDK_SK, REGION, CHART (path of a .tgz), and the SDK's endpoint variables.
"""

import os
import sys
from pathlib import Path

from huaweicloudsdkcce.v3 import CceClient, UploadChartRequest, UploadChartRequestBody
from huaweicloudsdkcce.v3.region.cce_region import CceRegion
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions import exceptions
from huaweicloudsdkcore.http.formdata import FormFile


def main() -> int:
    credentials = BasicCredentials(os.environ["CLOUD_SDK_AK"], os.environ["CLOUD_SDK_SK"])
    region = CceRegion.value_of(os.environ.get("REGION", "cn-north-4"))
    client = CceClient.new_builder().with_credentials(credentials).with_region(region).build()
    with Path(os.environ["CHART"]).open("rb") as archive:
        body = UploadChartRequestBody(content=FormFile(archive), parameters='{"override": true}')
        try:
            print(client.upload_chart(UploadChartRequest(body=body)))
        except exceptions.ClientRequestException as error:
            print(error.status_code, error.request_id, error.error_code, error.error_msg, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

// Create a release with the vendor's SDK: the calls of the API reference's Create Release sample.
//
// Everything comes from the environment, the endpoints too (the SDK reads HUAWEICLOUD_SDK_REGION_CCE_<REGION> and
// HUAWEICLOUD_SDK_IAM_ENDPOINT by itself): CLOUD_SDK_AK, CLOUD_SDK_SK, REGION, CLUSTER_ID, CHART_ID, NAMESPACE, NAME.
// The SDK looks the project up over HTTPS only: the IAM endpoint must be the TLS listener, and SSL_CERT_FILE its
// authority unless the system trusts it.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"github.com/huaweicloud/huaweicloud-sdk-go-v3/core/auth/basic"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/core/sdkerr"
	cce "github.com/huaweicloud/huaweicloud-sdk-go-v3/services/cce/v3"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/cce/v3/model"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/cce/v3/region"
)

func main() {
	if err := createRelease(); err != nil {
		var answer *sdkerr.ServiceResponseError
		if errors.As(err, &answer) {
			fmt.Fprintln(os.Stderr, answer.StatusCode, answer.RequestId, answer.ErrorCode, answer.ErrorMessage)
		} else {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
}

func createRelease() error {
	credentials, err := basic.NewCredentialsBuilder().
		WithAk(os.Getenv("CLOUD_SDK_AK")).
		WithSk(os.Getenv("CLOUD_SDK_SK")).
		SafeBuild()
	if err != nil {
		return err
	}
	wanted, err := region.SafeValueOf(cmp.Or(os.Getenv("REGION"), "cn-north-4"))
	if err != nil {
		return err
	}
	http, err := cce.CceClientBuilder().WithRegion(wanted).WithCredential(credentials).SafeBuild()
	if err != nil {
		return err
	}
	response, err := cce.NewCceClient(http).CreateRelease(&model.CreateReleaseRequest{
		ClusterId: os.Getenv("CLUSTER_ID"),
		Body: &model.CreateReleaseReqBody{
			ChartId:   os.Getenv("CHART_ID"),
			Name:      cmp.Or(os.Getenv("NAME"), "nino21"),
			Namespace: cmp.Or(os.Getenv("NAMESPACE"), "project01"),
			Version:   "1.0.0",
			Values: &model.CreateReleaseReqBodyValues{
				ImagePullPolicy: pointer("IfNotPresent"),
				ImageTag:        pointer("v2"),
			},
			Parameters: &model.ReleaseReqBodyParams{
				DryRun:       pointer(false),
				NameTemplate: pointer(""),
				NoHooks:      pointer(false),
				Replace:      pointer(false),
			},
		},
	})
	if err != nil {
		return err
	}
	fmt.Println(response)
	return nil
}

func pointer[T any](value T) *T { return &value }

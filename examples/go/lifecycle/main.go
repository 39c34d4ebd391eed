// The whole life of a chart and a release with the vendor's SDK: all fourteen operations, one line of output each.
//
// Environment: CLOUD_SDK_AK, CLOUD_SDK_SK, REGION, CLUSTER_ID, CHART (path of a .tgz), NAMESPACE, NAME, and the SDK's
// endpoint variables (see ../create_release). The chart and the release are gone at the end.
package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/huaweicloud/huaweicloud-sdk-go-v3/core/auth/basic"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/core/def"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/core/sdkerr"
	cce "github.com/huaweicloud/huaweicloud-sdk-go-v3/services/cce/v3"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/cce/v3/model"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/cce/v3/region"
)

const (
	attempts = 600
	pause    = 500 * time.Millisecond
)

type lifecycle struct {
	client    *cce.CceClient
	clusterID string
	namespace string
	name      string
	chart     string
	chartID   string
	version   string
}

func main() {
	if err := run(); err != nil {
		var answer *sdkerr.ServiceResponseError
		if errors.As(err, &answer) {
			fmt.Fprintln(os.Stderr, answer.StatusCode, answer.RequestId, answer.ErrorCode, answer.ErrorMessage)
		} else {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
}

func run() error {
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
	client, err := cce.CceClientBuilder().WithRegion(wanted).WithCredential(credentials).SafeBuild()
	if err != nil {
		return err
	}
	life := &lifecycle{
		client:    cce.NewCceClient(client),
		clusterID: os.Getenv("CLUSTER_ID"),
		namespace: cmp.Or(os.Getenv("NAMESPACE"), "project01"),
		name:      cmp.Or(os.Getenv("NAME"), "nino21"),
		chart:     os.Getenv("CHART"),
	}
	actions := model.GetUpdateReleaseReqBodyActionEnum()
	newTag := &model.CreateReleaseReqBodyValues{ImageTag: pointer("v3")}
	toFirst := &model.ReleaseReqBodyParams{ReleaseVersion: pointer(int32(1))}
	steps := []func() error{
		life.upload, life.readChart, life.download, life.updateChart,
		life.create, life.waitUntilDeployed, life.list,
		func() error { return life.update(actions.UPGRADE, newTag, &model.ReleaseReqBodyParams{}) },
		life.waitUntilDeployed, life.showHistory,
		func() error { return life.update(actions.ROLLBACK, &model.CreateReleaseReqBodyValues{}, toFirst) },
		life.waitUntilDeployed, life.showHistory,
		life.delete, life.waitUntilGone, life.deleteChart,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (l *lifecycle) upload() error {
	file, err := os.Open(l.chart)
	if err != nil {
		return err
	}
	defer file.Close()
	uploaded, err := l.client.UploadChart(&model.UploadChartRequest{Body: &model.UploadChartRequestBody{
		Content:    def.NewFilePart(file),
		Parameters: def.NewMultiPart(`{"override": true}`),
	}})
	if err != nil {
		return err
	}
	l.chartID, l.version = *uploaded.Id, *uploaded.Version
	fmt.Println("upload_chart:", *uploaded.Name, *uploaded.Version)
	return nil
}

func (l *lifecycle) readChart() error {
	charts, err := l.client.ListCharts(&model.ListChartsRequest{})
	if err != nil {
		return err
	}
	isOurs := func(one model.ChartResp) bool { return *one.Id == l.chartID }
	fmt.Println("list_charts:", choose(slices.ContainsFunc(*charts.Body, isOurs), "listed", "not listed"))
	chart, err := l.client.ShowChart(&model.ShowChartRequest{ChartId: l.chartID})
	if err != nil {
		return err
	}
	fmt.Println("show_chart:", *chart.ChartUrl)
	values, err := l.client.ShowChartValues(&model.ShowChartValuesRequest{ChartId: l.chartID})
	if err != nil {
		return err
	}
	fmt.Println("show_chart_values:", choose(values.Values != nil, "values", "none"))
	quotas, err := l.client.ShowUserChartsQuotas(&model.ShowUserChartsQuotasRequest{})
	if err != nil {
		return err
	}
	fmt.Println("show_user_charts_quotas:", *(*quotas.Quotas.Resources)[0].Type)
	return nil
}

func (l *lifecycle) download() error {
	uploaded, err := os.ReadFile(l.chart)
	if err != nil {
		return err
	}
	answer, err := l.client.DownloadChart(&model.DownloadChartRequest{ChartId: l.chartID})
	if err != nil {
		return err
	}
	var downloaded bytes.Buffer
	if _, err := answer.Consume(&downloaded); err != nil {
		return err
	}
	fmt.Println("download_chart:", choose(bytes.Equal(downloaded.Bytes(), uploaded), "same bytes", "other bytes"))
	return nil
}

func (l *lifecycle) updateChart() error {
	file, err := os.Open(l.chart)
	if err != nil {
		return err
	}
	defer file.Close()
	updated, err := l.client.UpdateChart(&model.UpdateChartRequest{
		ChartId: l.chartID,
		Body:    &model.UpdateChartRequestBody{Content: def.NewFilePart(file)},
	})
	if err != nil {
		return err
	}
	fmt.Println("update_chart:", choose(*updated.Id == l.chartID, "same id", "other id"))
	return nil
}

func (l *lifecycle) create() error {
	made, err := l.client.CreateRelease(&model.CreateReleaseRequest{
		ClusterId: l.clusterID,
		Body: &model.CreateReleaseReqBody{
			ChartId:   l.chartID,
			Name:      l.name,
			Namespace: l.namespace,
			Version:   l.version,
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
	fmt.Println("create_release:", *made.Status, *made.Version)
	return nil
}

func (l *lifecycle) list() error {
	listed, err := l.client.ListReleases(&model.ListReleasesRequest{ClusterId: l.clusterID, Namespace: &l.namespace})
	if err != nil {
		return err
	}
	for _, release := range *listed.Body {
		if *release.Name == l.name {
			fmt.Println("list_releases:", *release.Status, *release.Version)
			return nil
		}
	}
	return fmt.Errorf("%s is not listed", l.name)
}

func (l *lifecycle) update(
	action model.UpdateReleaseReqBodyAction,
	values *model.CreateReleaseReqBodyValues,
	parameters *model.ReleaseReqBodyParams,
) error {
	updated, err := l.client.UpdateRelease(&model.UpdateReleaseRequest{
		ClusterId: l.clusterID,
		Namespace: l.namespace,
		Name:      l.name,
		Body: &model.UpdateReleaseReqBody{
			ChartId:    l.chartID,
			Action:     action,
			Values:     values,
			Parameters: parameters,
		},
	})
	if err != nil {
		return err
	}
	fmt.Println("update_release:", *updated.Status, *updated.Version)
	return nil
}

func (l *lifecycle) showHistory() error {
	history, err := l.client.ShowReleaseHistory(&model.ShowReleaseHistoryRequest{
		ClusterId: l.clusterID, Namespace: l.namespace, Name: l.name,
	})
	if err != nil {
		return err
	}
	var revisions []string
	for _, one := range *history.Body {
		revisions = append(revisions, fmt.Sprintf("%d %s", *one.Version, *one.Status))
	}
	fmt.Println("show_release_history:", strings.Join(revisions, ", "))
	return nil
}

func (l *lifecycle) delete() error {
	answer, err := l.client.DeleteRelease(&model.DeleteReleaseRequest{
		ClusterId: l.clusterID, Namespace: l.namespace, Name: l.name,
	})
	if err != nil {
		return err
	}
	fmt.Println("delete_release:", answer.HttpStatusCode)
	return nil
}

func (l *lifecycle) deleteChart() error {
	answer, err := l.client.DeleteChart(&model.DeleteChartRequest{ChartId: l.chartID})
	if err != nil {
		return err
	}
	fmt.Println("delete_chart:", answer.HttpStatusCode)
	return nil
}

func (l *lifecycle) show() (*model.ShowReleaseResponse, error) {
	return l.client.ShowRelease(&model.ShowReleaseRequest{ClusterId: l.clusterID, Namespace: l.namespace, Name: l.name})
}

func (l *lifecycle) waitUntilDeployed() error {
	for range attempts {
		release, err := l.show()
		if err != nil {
			return err
		}
		if !strings.HasPrefix(*release.Status, "PENDING") {
			fmt.Println("show_release:", *release.Status, *release.Version)
			if *release.Status != "DEPLOYED" {
				return errors.New(*release.StatusDescription)
			}
			return nil
		}
		time.Sleep(pause)
	}
	return fmt.Errorf("%s is still pending", l.name)
}

func (l *lifecycle) waitUntilGone() error {
	for range attempts {
		_, err := l.show()
		var answer *sdkerr.ServiceResponseError
		if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
			fmt.Println("show_release:", answer.StatusCode)
			return nil
		}
		if err != nil {
			return err
		}
		time.Sleep(pause)
	}
	return fmt.Errorf("%s is still there", l.name)
}

func choose(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}

func pointer[T any](value T) *T { return &value }

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode"
)

// release is what the API says of one; what may be missing is a pointer.
type release struct {
	Name         *string `json:"name"`
	Namespace    *string `json:"namespace"`
	ClusterName  *string `json:"cluster_name"`
	Revision     *int    `json:"revision"`
	UpdatedAt    *string `json:"updated_at"`
	Status       *string `json:"status"`
	ChartName    *string `json:"chart_name"`
	ChartVersion *string `json:"chart_version"`
	Deprecated   bool    `json:"chart_deprecated"`
	// empty without an update
	Update           string  `json:"update_available"`
	UpdateDeprecated bool    `json:"update_deprecated"`
	UpdateRefused    string  `json:"update_refused"`
	UpdateUnchecked  string  `json:"update_unchecked"`
	SourceProblem    string  `json:"source_problem"`
	Source           *string `json:"source"`
	SourceURL        *string `json:"source_url"`
	// empty if the source is there
	SourceRemovedAt string  `json:"source_removed_at"`
	Digest          *string `json:"chart_digest"`
	Description     *string `json:"description"`
	ChangedBy       *struct {
		UserName    *string `json:"user_name"`
		UserID      *string `json:"user_id"`
		Cause       *string `json:"cause"`
		OperationID *string `json:"operation_id"`
	} `json:"changed_by"`
	Verification *struct {
		Kind        *string `json:"kind"`
		SignedBy    *string `json:"signed_by"`
		Fingerprint *string `json:"fingerprint"`
		OfRevision  bool    `json:"of_revision"`
		Trusted     bool    `json:"trusted"`
	} `json:"verification"`
	// nobody is known to have signed the chart, and the project takes verified ones only
	Unverified bool      `json:"verification_missing"`
	Manager    *string   `json:"manager"`
	Operation  *struct{} `json:"operation"`
	Problem    *string   `json:"problem"`
	Notes      *string   `json:"notes"`
}

const (
	releasesPath = "/api/v1/releases"
	pageSize     = 1000
	usualMost    = 256
	incomplete   = "X-Pilothouse-Incomplete"
	markerHeader = "X-Pilothouse-Marker"
	listedFields = "revision,updated_at,status,chart_name,chart_version,app_version,source,source_removed_at," +
		"update_available,update_deprecated"
)

var statuses = []struct{ flag, words string }{
	{"deployed", "deployed"}, {"failed", "failed"},
	{"pending", "pending-install,pending-upgrade,pending-rollback"},
	{"superseded", "superseded"}, {"uninstalled", "uninstalled"}, {"uninstalling", "uninstalling"},
}

func list(server connection, typed arguments, out, notes *bytes.Buffer) error {
	cluster, err := typed.clusterToList(server)
	if err != nil {
		return err
	}
	server.cluster = cluster
	client, err := server.client()
	if err != nil {
		return err
	}
	most, offset := typed.number("max", usualMost), typed.number("offset", 0)
	rows, more, err := pages(server, client, typed.query(server), most, offset)
	if err != nil {
		return err
	}
	if typed.set["short"] {
		for _, found := range rows {
			if !plain(found.name, "") || found.revision == "0" {
				return errUnusual // what never was installed is left out
			}
			out.WriteString(found.name + "\n")
		}
	} else if err := table(rows, !typed.set["no-headers"], typed.set["all-clusters"], out); err != nil {
		return err
	}
	if limit := typed.limit(cluster); limit != "" {
		known, err := server.clusters(client)
		if err != nil {
			return errUnusual
		}
		if len(known) > 1 {
			notes.WriteString(limit)
		}
	}
	if more {
		fmt.Fprintf(notes, "there are more than %d; --max 0 lists all\n", offset+most)
	}
	return nil
}

// clusterToList returns the cluster that a list is limited to; empty: none.
func (typed arguments) clusterToList(server connection) (string, error) {
	all := typed.set["all-clusters"]
	if all && typed.values["cluster"] != "" || !plain(server.cluster, "") {
		return "", errUnusual
	}
	if all {
		return "", nil
	}
	return server.cluster, nil
}

// limit returns what src/pilothouse/cli/connection.py tells of the cluster that a list is limited to.
func (typed arguments) limit(cluster string) string {
	if cluster == "" || typed.values["cluster"] != "" || !typed.set["everywhere"] || typed.set["short"] {
		return ""
	}
	return "limited to cluster " + cluster + ", by the context or PILOTHOUSE_CLUSTER; --all-clusters lists all\n"
}

func (typed arguments) query(server connection) []pair {
	sort, namespace := "name", server.namespace
	if typed.set["date"] {
		sort = "updated"
	}
	if typed.set["reverse"] {
		sort = "-" + sort
	}
	if typed.set["everywhere"] {
		namespace = ""
	}
	var wanted []string
	for _, one := range statuses {
		if typed.set[one.flag] {
			wanted = append(wanted, one.words)
		}
	}
	fields := listedFields
	if typed.set["short"] {
		fields = "name,revision,status"
	}
	return []pair{
		{"cluster", server.cluster}, {"namespace", namespace}, {"status", strings.Join(wanted, ",")},
		{"name", typed.values["filter"]}, {"sort", sort}, {"fields", fields},
	}
}

// pages returns the wanted rows, and whether there are more of them.
func pages(server connection, client *http.Client, query []pair, most, offset int) ([]row, bool, error) {
	var rows []row
	for marker, end := "", false; !end; {
		limit := pageSize
		if most > 0 {
			limit = min(pageSize, offset+most+1-len(rows))
		}
		asked := append(query, pair{"limit", strconv.Itoa(limit)}, pair{"marker", marker})
		headers, text, err := server.get(client, releasesPath, asked, pair{"Accept", tableType})
		if err != nil {
			return nil, false, err
		}
		if headers.Get(incomplete) != "" {
			return nil, false, errUnusual
		}
		if rows, err = appendRows(rows, text); err != nil {
			return nil, false, err
		}
		marker = headers.Get(markerHeader)
		end = marker == "" || (most > 0 && len(rows) > offset+most)
	}
	rows = rows[min(offset, len(rows)):]
	more := most > 0 && len(rows) > most
	if more {
		rows = rows[:most]
	}
	return rows, more, nil
}

func status(server connection, typed arguments, out *bytes.Buffer) error {
	client, err := server.client()
	if err != nil {
		return err
	}
	path, err := server.releasePath(client, typed.names[0])
	if err != nil {
		return err
	}
	var found release
	if err := server.decode(client, path, []pair{{"revision", typed.values["revision"]}}, &found); err != nil {
		return err
	}
	if typed.values["context"] != "" || typed.values["project"] != "" {
		if valueOf(found.Status) == "failed" {
			return errUnusual // the command that is told then has these flags, too
		}
	}
	return found.describe(out)
}

// releasePath returns the address of a release, in the project's only cluster if none is named.
func (server connection) releasePath(client *http.Client, name string) (string, error) {
	cluster := server.cluster
	if cluster == "" {
		clusters, err := server.clusters(client)
		if err != nil || len(clusters) != 1 {
			return "", errUnusual
		}
		cluster = clusters[0].Name
	}
	return fmt.Sprintf("/api/v1/clusters/%s/namespaces/%s/releases/%s",
		escape(cluster), escape(server.namespace), escape(name)), nil
}

type namedCluster struct {
	Name string `json:"name"`
}

// clusters returns those of the project.
func (server connection) clusters(client *http.Client) ([]namedCluster, error) {
	var found []namedCluster
	err := server.decode(client, "/api/v1/clusters", nil, &found)
	return found, err
}

// isUnusual is true for what the Python program has more lines for.
func (found release) isUnusual() bool {
	switch valueOf(found.Status) {
	case "uninstalled", "pending-install", "pending-upgrade", "pending-rollback", "uninstalling":
		return true
	}
	return found.Operation != nil || found.UpdateUnchecked != "" || found.SourceProblem != ""
}

// describe writes what src/pilothouse/cli/commands/status.py prints.
func (found release) describe(out *bytes.Buffer) error {
	if found.Revision == nil || *found.Revision == 0 || (found.Verification != nil && found.Verification.OfRevision) {
		return errUnusual // what never was installed, or not verified itself, has its own words
	}
	if found.isUnusual() {
		return errUnusual
	}
	text := texts{}
	text.line("NAME: %s", found.Name)
	text.line("LAST DEPLOYED: "+timeOf(valueOf(found.UpdatedAt)), nil)
	text.line("CLUSTER: %s", found.ClusterName)
	text.line("NAMESPACE: %s", found.Namespace)
	text.line("STATUS: %s", found.Status)
	text.line("REVISION: "+strconv.Itoa(*found.Revision), nil)
	text.line("CHART: "+chartOf(valueOf(found.ChartName), valueOf(found.ChartVersion)), nil)
	if found.Deprecated {
		text.line("WARNING: this chart is deprecated: its authors do not maintain it any more", nil)
	}
	if found.SourceRemovedAt != "" {
		text.line("SOURCE: %s (%s), removed "+timeOf(found.SourceRemovedAt), found.Source, found.SourceURL)
	} else if valueOf(found.Source) != "" {
		text.line("SOURCE: %s", found.Source)
	}
	if valueOf(found.Digest) != "" {
		text.line("CHART DIGEST: sha256:%s", found.Digest)
	}
	if found.SourceRemovedAt != "" {
		text.line("UPDATES: unknown: its source was removed", nil)
	}
	if found.Update != "" {
		update := updateOf(found.Update, found.UpdateDeprecated)
		text.line("UPDATE AVAILABLE: %s, of source %s", &update, found.Source)
	}
	if found.UpdateRefused != "" {
		text.line("UPDATE REFUSED: %s, of source %s, is not signed by a trusted key", &found.UpdateRefused, found.Source)
	}
	if verified := found.Verification; verified != nil {
		who, end := verified.SignedBy, ""
		if who == nil || *who == "" {
			key := "the key"
			who = &key
		}
		if !verified.Trusted {
			end = ", which is not trusted any more"
		}
		text.line("VERIFIED: %s, signed by %s (%s)"+end, verified.Kind, who, verified.Fingerprint)
	} else if found.Unverified {
		text.line("VERIFIED: no, nobody is known to have signed the chart; this project takes verified charts only", nil)
	}
	text.line("DESCRIPTION: %s", found.Description)
	if changed := found.ChangedBy; changed != nil {
		who := changed.UserName
		if who == nil || *who == "" {
			who = changed.UserID
		}
		if changed.Cause == nil {
			return errUnusual
		}
		cause := strings.ReplaceAll(*changed.Cause, "_", " ")
		text.line("CHANGED BY: %s, %s, operation %s", who, &cause, changed.OperationID)
		if found.Status != nil && *found.Status == "failed" {
			text.line("  why: pilothouse operation show %s", changed.OperationID)
		}
	}
	if found.Manager != nil && *found.Manager != "" {
		text.line("MANAGED BY: %s", found.Manager)
	}
	if found.Problem != nil && *found.Problem != "" {
		text.line("NOT KNOWN: notes and labels: %s", found.Problem)
	}
	if found.Notes != nil && *found.Notes != "" {
		notes := strings.TrimRightFunc(*found.Notes, unicode.IsSpace)
		text.line("NOTES:\n%s", &notes)
	}
	if text.missing || !plain(text.String(), "\n\t") {
		return errUnusual
	}
	out.WriteString(text.String())
	return nil
}

// chartOf returns chart and version in one word, as Helm does.
func chartOf(name, version string) string {
	if name == "" || version == "" {
		return name + version
	}
	return name + "-" + version
}

// updateOf returns the newer version that the chart's source has; empty without one.
func updateOf(version string, deprecated bool) string {
	if deprecated {
		return version + " (deprecated)"
	}
	return version
}

func valueOf(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

func (typed arguments) number(name string, usual int) int {
	number, err := strconv.Atoi(typed.values[name])
	if err != nil {
		return usual
	}
	return number
}

// texts are lines that name what the server says; missing, if it does not say it.
type texts struct {
	strings.Builder
	missing bool
}

func (text *texts) line(format string, words ...*string) {
	var found []any
	for _, word := range words {
		switch {
		case word != nil:
			found = append(found, *word)
		case strings.Contains(format, "%s"):
			text.missing = true
			return
		}
	}
	if found == nil {
		text.WriteString(format + "\n")
		return
	}
	fmt.Fprintf(text, format+"\n", found...)
}

package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// connection is the server that a command asks, and where there: the rules of src/pilothouse/cli/connection.py.
type connection struct {
	base                 *url.URL
	token                string
	accessKey, secretKey string
	projectID            string
	ca                   string
	cluster, namespace   string
}

// storedContext is a context of the file that src/pilothouse/cli/contexts.py writes.
type storedContext struct {
	Name      string `json:"name"`
	URL       string `json:"url"`
	CA        string `json:"ca"`
	Token     string `json:"token"`
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
	Project   string `json:"project"`
	ProjectID string `json:"project_id"`
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace"`
}

const (
	defaultURL  = "http://127.0.0.1:8440"
	certificate = "-----BEGIN CERTIFICATE-----"
)

// resolve decides in this order: flag, variable, context. A context that a flag names counts before variables.
func resolve(typed arguments) (connection, error) {
	own, err := findContext(typed.values["context"])
	if err != nil {
		return connection{}, err
	}
	variable := func(name string) string {
		if typed.values["context"] != "" {
			return ""
		}
		return os.Getenv(name)
	}
	address := cmp.Or(typed.values["url"], variable("PILOTHOUSE_URL"), own.URL, defaultURL)
	if own.URL != strings.TrimRight(address, "/") {
		own = storedContext{}
	}
	base, err := url.Parse(strings.TrimRight(address, "/"))
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" || base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return connection{}, errUnusual
	}
	server := connection{
		base:      base,
		ca:        own.CA,
		cluster:   cmp.Or(typed.values["cluster"], variable("PILOTHOUSE_CLUSTER"), own.Cluster),
		namespace: cmp.Or(typed.values["namespace"], variable("PILOTHOUSE_NAMESPACE"), own.Namespace, "default"),
	}
	ofContext := server.prove(typed, own)
	if project := typed.projectOf(variable, own, server.token == "" || ofContext); project != "" {
		if !ofContext || own.Project != project {
			return server, errUnusual // a token has to be exchanged, or the project's id to be found
		}
		server.projectID = own.ProjectID
	}
	if file := cmp.Or(typed.values["ca"], variable("PILOTHOUSE_CA")); file != "" {
		text, err := readAgain(file)
		if err != nil || !strings.Contains(string(text), certificate) {
			return server, errUnusual
		}
		server.ca = string(text)
	}
	if server.token == "" && (server.accessKey == "" || server.secretKey == "") {
		return server, errUnusual
	}
	return server, nil
}

// prove chooses the credentials, and tells whether they are the context's.
func (server *connection) prove(typed arguments, own storedContext) bool {
	flags := typed.values
	server.token = flags["token"]
	server.accessKey = cmp.Or(flags["access-key"], os.Getenv("CLOUD_SDK_AK"))
	server.secretKey = cmp.Or(flags["secret-key"], os.Getenv("CLOUD_SDK_SK"))
	if flags["token"] != "" || flags["access-key"] != "" || flags["secret-key"] != "" {
		return false
	}
	token := os.Getenv("PILOTHOUSE_TOKEN")
	if own.URL == "" || (flags["context"] == "" && token != "") {
		server.token = token
		if token != "" {
			server.accessKey, server.secretKey = "", ""
		}
		return false
	}
	server.token, server.accessKey, server.secretKey = own.Token, own.AccessKey, own.SecretKey
	return true
}

func (typed arguments) projectOf(variable func(string) string, own storedContext, follows bool) string {
	if project := typed.values["project"]; project != "" || !follows {
		return project
	}
	return cmp.Or(variable("PILOTHOUSE_PROJECT_ID"), own.Project)
}

// findContext returns the named context, else the current one, else an empty one.
func findContext(named string) (storedContext, error) {
	named = cmp.Or(named, os.Getenv("PILOTHOUSE_CONTEXT"))
	text, err := readContexts()
	if errors.Is(err, fs.ErrNotExist) && named == "" {
		return storedContext{}, nil
	}
	if err != nil {
		return storedContext{}, err
	}
	var stored struct {
		Current  *string          `json:"current"`
		Contexts *[]storedContext `json:"contexts"`
	}
	if err := json.Unmarshal(text, &stored); err != nil || stored.Current == nil || stored.Contexts == nil {
		return storedContext{}, errUnusual
	}
	at := slices.IndexFunc(*stored.Contexts, func(one storedContext) bool { return one.Name == cmp.Or(named, *stored.Current) })
	if at < 0 {
		if named != "" {
			return storedContext{}, errUnusual
		}
		return storedContext{}, nil
	}
	return (*stored.Contexts)[at], nil
}

// readAgain returns the text of a file that the other program could read again: what comes through a pipe comes once.
func readAgain(path string) ([]byte, error) {
	if found, err := os.Stat(path); err != nil || !found.Mode().IsRegular() {
		return nil, errUnusual
	}
	return os.ReadFile(path)
}

// readContexts returns the file's text, unless somebody else may read it.
func readContexts() ([]byte, error) {
	path := os.Getenv("PILOTHOUSE_CONTEXTS")
	if path == "" {
		base := os.Getenv("XDG_CONFIG_HOME")
		if base == "" {
			home := os.Getenv("HOME")
			if home == "" {
				return nil, errUnusual // the account's folder is in a database that only libc reads
			}
			base = filepath.Join(home, ".config")
		}
		path = filepath.Join(base, "pilothouse", "contexts.json")
	}
	found, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if found.Mode().Perm()&0o077 != 0 {
		return nil, errUnusual
	}
	return readAgain(path)
}

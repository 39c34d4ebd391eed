package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"
)

const (
	chartsPath = "/api/v1/charts"
	// uploadSource is that of src/pilothouse/cli/charts.py
	uploadSource = "command line"
	succeeded    = "succeeded"
	installing   = "Release \"%s\" does not exist. Installing it now.\n"
	headline     = "Release \"%s\" has been upgraded. Happy Helming!\n"
)

// upgrade makes a release so of a folder that holds a chart, and describes it. Until the write is sent, the Python
// program can do all of it again; from then on it does so with the same key.
func upgrade(server connection, typed arguments, out, notes *bytes.Buffer) error {
	name, folder := typed.names[0], typed.names[1]
	body, err := typed.body()
	if err != nil || !plain(name, "") {
		return errUnusual
	}
	client, err := server.client()
	if err != nil {
		return err
	}
	packing, err := startPacking(folder)
	if err != nil {
		return err
	}
	path, err := server.releasePath(client, name) // while the engine packs
	chart, packed := packing.finish()
	if err != nil || packed != nil {
		return errUnusual
	}
	reference, err := server.upload(client, chart)
	if err != nil {
		return err
	}
	done, err := server.put(client, path, "{"+reference+","+body+"}")
	if err != nil {
		return err
	}
	var found release
	query := []pair{{"revision", strconv.Itoa(done.Revision)}}
	if server.decode(client, path, query, &found) != nil {
		return sentError{key: done.key}
	}
	if done.Action == "upgrade" {
		fmt.Fprintf(out, headline, name)
	} else {
		fmt.Fprintf(notes, installing, name)
	}
	if found.describe(out) != nil {
		return sentError{key: done.key}
	}
	return nil
}

// operation is what a write is answered with.
type operation struct {
	State    string `json:"state"`
	Action   string `json:"action"`
	Revision int    `json:"revision"`
	key      string
}

// put sends the write, and returns it if it has succeeded at once.
func (server connection) put(client *http.Client, path, body string) (operation, error) {
	key := rand.Text()
	stop := make(chan os.Signal, 1)
	notify(stop, syscall.SIGINT)
	defer signal.Stop(stop)
	answered := make(chan operation, 1)
	go func() {
		var done operation
		headers := []pair{{"Idempotency-Key", key}, {"Prefer", "wait=1"}}
		response, text, err := server.send(client, http.MethodPut, path, nil, sent{body: body, headers: headers})
		if err == nil && response.StatusCode < http.StatusBadRequest && json.Unmarshal([]byte(text), &done) != nil {
			done = operation{}
		}
		answered <- done
	}()
	select {
	case done := <-answered:
		if done.key = key; done.State == succeeded {
			return done, nil
		}
		return operation{}, sentError{key: key}
	case <-stop:
		return operation{}, sentError{key: key, interrupted: true}
	}
}

// body returns the members of the request's body after the chart, as src/pilothouse/cli/deploying.py writes them: were it
// sent again by that program, it has to be the same to the byte.
func (typed arguments) body() (string, error) {
	layers, err := typed.wireLayers()
	if err != nil {
		return "", err
	}
	mode := "replace"
	switch {
	case typed.set["reset"]:
	case typed.set["reuse"]:
		mode = "reuse"
	case typed.set["reset-then-reuse"] || len(layers) == 0:
		mode = "reset_then_reuse"
	}
	options := `{"wait":"hooks"}`
	if typed.set["wait-for-none"] {
		options = `{"wait":"none"}`
	}
	if typed.set["create-namespace"] {
		options = `{"create_namespace":true,` + options[1:]
	}
	return `"values":[` + strings.Join(layers, ",") + `],"values_mode":"` + mode + `","options":` + options, nil
}

// wireLayers returns the values as a body has them, in Helm's order: files first.
func (typed arguments) wireLayers() ([]string, error) {
	type layer struct{ kind, text, name string }
	var given []layer
	for _, several := range typed.layers["yaml"] {
		for file := range strings.SplitSeq(several, ",") {
			if file == "-" || strings.HasPrefix(file, "~") || strings.Contains(file, "://") {
				return nil, errUnusual
			}
			text, err := readAgain(file)
			if err != nil || bytes.ContainsRune(text, '\r') { // Python reads other ends of lines as its own
				return nil, errUnusual
			}
			given = append(given, layer{"yaml", string(text), file})
		}
	}
	for _, kind := range []string{"set_json", "set", "set_string", "set_literal"} {
		for _, text := range typed.layers[kind] {
			given = append(given, layer{kind, text, "--" + strings.ReplaceAll(kind, "_", "-")})
		}
	}
	var layers []string
	for _, one := range given {
		if !sameInPython(one.text) || !sameInPython(one.name) {
			return nil, errUnusual
		}
		layers = append(layers, `{"`+one.kind+`":`+quoted(one.text)+`,"name":`+quoted(one.name)+"}")
	}
	return layers, nil
}

// sameInPython tells whether both programs' encoders write the text alike.
func sameInPython(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsAny(text, "\u2028\u2029")
}

// quoted returns a string of JSON, without what encoding/json escapes for pages.
func quoted(text string) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text) // a string can always be encoded
	return strings.TrimSuffix(out.String(), "\n")
}

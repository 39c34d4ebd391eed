package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	uploadsPath = "/v2/charts"
	engineFile  = "pilothouse/engine/bin/helm"
)

// packedChart is a chart as an archive.
type packedChart struct {
	name, version, content string
}

// packing is the engine's program at work on a folder.
type packing struct {
	engine *exec.Cmd
	out    bytes.Buffer
	into   string
	stop   chan os.Signal
	// unhurt is closed when no signal has come until the engine's end.
	unhurt chan struct{}
}

// startPacking has the engine pack a folder, as src/pilothouse/cli/local_charts.py does; finish has to be called.
func startPacking(folder string) (*packing, error) {
	if strings.HasPrefix(folder, "~") {
		return nil, errUnusual
	}
	if found, err := os.Stat(filepath.Join(folder, "Chart.yaml")); err != nil || !found.Mode().IsRegular() {
		return nil, errUnusual // an archive, a chart of the server, or a mistake
	}
	program, err := engine(os.Executable)
	if err != nil {
		return nil, err
	}
	into, err := os.MkdirTemp("", "pilothouse-")
	if err != nil {
		return nil, err
	}
	request, err := json.Marshal(map[string]any{"action": "pack", "paths": []string{folder}, "into": into})
	started := &packing{engine: exec.Command(program, "local"), into: into, stop: make(chan os.Signal, 1), unhurt: make(chan struct{})}
	started.engine.Stdin, started.engine.Stdout = bytes.NewReader(request), &started.out
	if err = errors.Join(err, started.engine.Start()); err != nil {
		return nil, errors.Join(err, os.RemoveAll(into))
	}
	notify(started.stop, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go started.cleanUp()
	return started, nil
}

// cleanUp ends this process by the signal that comes, and leaves no folder behind.
func (packing *packing) cleanUp() {
	one, came := <-packing.stop
	if !came {
		close(packing.unhurt)
		return
	}
	_ = packing.engine.Process.Kill()
	_, _ = packing.engine.Process.Wait()
	_ = os.RemoveAll(packing.into)
	signal.Reset()
	if number, is := one.(syscall.Signal); is {
		_ = syscall.Kill(os.Getpid(), number)
	}
}

// notify sends these signals to the channel, unless whoever started this process has it ignore them.
func notify(stop chan os.Signal, signals ...os.Signal) {
	for _, one := range signals {
		if !signal.Ignored(one) {
			signal.Notify(stop, one)
		}
	}
}

// finish waits for the archive, and returns it; it does not return if a signal has come, as that ends the process. What
// ends the engine at a terminal is for this program too, and must not let the other one begin anew.
func (packing *packing) finish() (packedChart, error) {
	defer func() { _ = os.RemoveAll(packing.into) }()
	err := packing.engine.Wait()
	signal.Stop(packing.stop)
	close(packing.stop)
	<-packing.unhurt
	if err != nil {
		return packedChart{}, err
	}
	var made struct{ Name, Version, File string }
	if err := json.Unmarshal(packing.out.Bytes(), &made); err != nil {
		return packedChart{}, err
	}
	content, err := os.ReadFile(made.File)
	return packedChart{made.Name, made.Version, string(content)}, err
}

// engine returns the path of the engine's program, which is in the Python package of the same installation.
func engine(executable func() (string, error)) (string, error) {
	own, err := executable()
	if err != nil {
		return "", err
	}
	packages := filepath.Join(filepath.Dir(own), "..", "lib", "python3*", "*-packages")
	found, err := filepath.Glob(filepath.Join(packages, engineFile))
	if err == nil && len(found) == 0 { // an editable installation names the package's folder in a file
		var files []string
		files, err = filepath.Glob(filepath.Join(packages, "_editable_impl_pilothouse.pth"))
		for _, file := range files {
			folder, err := os.ReadFile(file)
			if err != nil {
				return "", err
			}
			found = append(found, filepath.Join(strings.TrimSpace(string(folder)), engineFile))
		}
	}
	if err != nil || len(found) != 1 {
		return "", errUnusual
	}
	return found[0], nil
}

// upload returns how a body names the chart, as src/pilothouse/cli/charts.py does, which is uploaded if need be.
func (server connection) upload(client *http.Client, chart packedChart) (string, error) {
	var known []struct{ ID, Digest, Source string }
	own := digest(chart.content)
	query := []pair{{"name", chart.name}, {"version", chart.version}}
	if err := server.decode(client, chartsPath, query, &known); err != nil {
		return "", err
	}
	for _, one := range known {
		if one.Digest == own {
			return reference(one.ID, own), nil
		}
	}
	for _, one := range known {
		if one.Source != uploadSource {
			return "", errUnusual
		}
	}
	form, kind, err := formOf(chart, len(known) > 0)
	if err != nil {
		return "", err
	}
	var made struct{ ID string }
	response, text, err := server.send(client, http.MethodPost, uploadsPath, nil, sent{body: form, kind: kind})
	if err != nil || response.StatusCode != http.StatusCreated || json.Unmarshal([]byte(text), &made) != nil {
		return "", errUnusual
	}
	return reference(made.ID, own), nil
}

func reference(id, digest string) string {
	return `"chart":{"id":` + quoted(id) + `,"digest":"` + digest + `"}`
}

func formOf(chart packedChart, override bool) (string, string, error) {
	var form strings.Builder
	writer := multipart.NewWriter(&form)
	parameters, err := json.Marshal(map[string]any{"override": override, "skip_lint": true, "source": uploadSource})
	err = errors.Join(err, writer.WriteField("parameters", string(parameters)))
	content, failed := writer.CreateFormFile("content", chart.name+".tgz")
	if err = errors.Join(err, failed); err != nil {
		return "", "", err
	}
	_, err = io.WriteString(content, chart.content)
	err = errors.Join(err, writer.Close())
	return form.String(), writer.FormDataContentType(), err
}

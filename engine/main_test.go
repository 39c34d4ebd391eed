package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"archive/tar"

	"golang.org/x/sys/unix"
)

func limits() options {
	return options{
		ChartUnpackedBytes: 100 << 20, ChartFileBytes: 5 << 20, ChartFiles: 10_000, ChartDepth: 4,
		QPS: 200, Burst: 400, ParallelObjects: 8,
	}
}

// pack returns a chart archive of the files, below one folder.
func packChart(t *testing.T, files map[string]string) []byte {
	t.Helper()
	if _, given := files["Chart.yaml"]; !given {
		files["Chart.yaml"] = "apiVersion: v2\nname: demo\nversion: 0.1.0\n"
	}
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	writer := tar.NewWriter(zipped)
	for name, text := range files {
		must(t, writer.WriteHeader(&tar.Header{Name: "demo/" + name, Mode: 0o644, Size: int64(len(text))}))
		_, err := writer.Write([]byte(text))
		must(t, err)
	}
	must(t, writer.Close())
	must(t, zipped.Close())
	return packed.Bytes()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func refusedWith(t *testing.T, err error, kind, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) || classify(err) != kind {
		t.Fatalf("%v (%s), not %s with %q", err, classify(err), kind, text)
	}
}

// channels returns both ends of a channel.
func channels(t *testing.T) (ours *channel, theirs net.Conn) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	ours, err = openChannel(pair[0])
	must(t, err)
	file := os.NewFile(uintptr(pair[1]), "theirs")
	theirs, err = net.FileConn(file)
	must(t, err)
	must(t, file.Close())
	t.Cleanup(func() { _ = theirs.Close(); _ = ours.connection.Close() })
	return ours, theirs
}

func TestAFrameIsReadAsItWasSent(t *testing.T) {
	ours, theirs := channels(t)
	encoded := `{"action":"lint","progress":true,"call":7,"addresses":["192.0.2.1"],"request":{}}`
	frame := append([]byte{0, 0, 0, byte(len(encoded)), 0, 0, 0, 4}, encoded+"body"...)
	_, err := theirs.Write(frame)
	must(t, err)
	given, body, err := ours.receive()
	must(t, err)
	if given.Action != "lint" || !given.Progress || given.Call != 7 || given.Addresses[0] != "192.0.2.1" || string(body) != "body" {
		t.Fatalf("%+v %q", given, body)
	}
}

func TestAFrameBeyondTheLimitsEndsTheChannel(t *testing.T) {
	ours, theirs := channels(t)
	_, err := theirs.Write([]byte{255, 0, 0, 0, 0, 0, 0, 0})
	must(t, err)
	if _, _, err := ours.receive(); err == nil {
		t.Fatal("read")
	}
}

func TestAnAnswerThatIsTooLargeIsFatal(t *testing.T) {
	ours, theirs := channels(t)
	go func() { _ = ours.send(map[string]any{"type": "outcome", "outcome": strings.Repeat("x", headLimit/2)}) }()
	buffer := make([]byte, 300)
	count, err := theirs.Read(buffer)
	must(t, err)
	if !bytes.Contains(buffer[:count], []byte(`"fatal"`)) {
		t.Fatalf("%s", buffer[:count])
	}
}

func TestARequestHasNoFieldThatIsNotKnown(t *testing.T) {
	given := head{Action: "render_name", Request: json.RawMessage(`{"template":"a","other":1}`)}
	if _, err := decode(given, nil); err == nil {
		t.Fatal("taken")
	}
}

func TestThePanicOfOneRequestIsItsAnswer(t *testing.T) {
	ours, _ := channels(t)
	answer := (&engine{}).serve(head{Action: "lint", Request: json.RawMessage(`{}`)}, nil, ours)
	if answer["type"] != "fatal" {
		t.Fatal(answer)
	}
}

func TestTheWatchdogSeesTheSharedDeadline(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "word"))
	must(t, err)
	must(t, file.Truncate(int64(os.Getpagesize())))
	guard, err := startWatchdog(int(file.Fd()))
	must(t, err)
	set := func(moment int64) {
		word := []byte{0, 0, 0, 0, 0, 0, 0, 0}
		for index := range word {
			word[index] = byte(moment >> (8 * index))
		}
		_, err := file.WriteAt(word, 0)
		must(t, err)
	}
	var now unix.Timespec
	must(t, unix.ClockGettime(unix.CLOCK_BOOTTIME, &now))
	for _, one := range []struct {
		moment int64
		passed bool
	}{{0, false}, {now.Nano() + int64(time.Hour), false}, {now.Nano() - 1, true}} {
		if set(one.moment); guard.passed() != one.passed {
			t.Fatal(one)
		}
	}
}

func TestNumbersAreKeptOrRefused(t *testing.T) {
	for _, one := range []struct {
		text string
		want any
	}{
		{"1", 1.0}, {"1.5", 1.5}, {"9007199254740992", 9007199254740992.0},
		{"9007199254740993", int64(9007199254740993)}, {"-9007199254740993", int64(-9007199254740993)}, {"1e3", 1000.0},
	} {
		var read values
		must(t, json.Unmarshal([]byte(`{"a":[`+one.text+`]}`), &read))
		if got := read["a"].([]any)[0]; got != one.want {
			t.Errorf("%s: %v (%T)", one.text, got, got)
		}
	}
	var read values
	err := json.Unmarshal([]byte(`{"a":{"b":18446744073709551616}}`), &read)
	refusedWith(t, err, "HelmValuesError", "values.a.b: the integer 18446744073709551616")
}

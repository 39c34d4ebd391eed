// Command helm carries out what Pilothouse asks of Helm: one request after the other, over one socket.
//
// It is started by src/pilothouse/engine/launcher.py, which has bound it to its parent's life and to its limits. File
// descriptors 1 and 2 are a file, because libraries and the Go runtime write there when they like.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/kube"
	"k8s.io/client-go/rest"
)

const (
	maxStack     = 64 << 20
	headLimit    = 64 << 20
	bodyLimit    = 256 << 20
	watchdogExit = 86
	pollInterval = 50 * time.Millisecond
	fieldManager = "helm"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "this program is started by Pilothouse")
		os.Exit(2)
	}
	switch os.Args[1] {
	case "protocol":
		check(json.NewEncoder(os.Stdout).Encode(describe()))
	case "version":
		check(json.NewEncoder(os.Stdout).Encode(versions()))
	case "local":
		slog.SetDefault(slog.New(slog.DiscardHandler))
		err := local(os.Stdin, os.Stdout)
		if _, is := errors.AsType[usageError](err); is {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(usageExit)
		}
		check(err)
	default:
		check(run(os.Args[1]))
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(given string) error {
	var opts options
	decoder := json.NewDecoder(strings.NewReader(given))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&opts); err != nil {
		return err
	}
	debug.SetMaxStack(maxStack)
	go endAtLimit()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	kube.ManagedFieldsManager = fieldManager
	channel, err := openChannel(opts.ChannelFD)
	if err != nil {
		return err
	}
	guard, err := startWatchdog(opts.DeadlineFD)
	if err != nil {
		return err
	}
	connector, err := openConnector(opts.ConnectionsFD)
	if err != nil {
		return err
	}
	serving := newEngine(opts, connector)
	if err := channel.send(spent(map[string]any{"type": "ready", "versions": versions()})); err != nil {
		return err
	}
	for {
		given, body, err := channel.receive()
		if err != nil {
			return nil // the parent has gone
		}
		guard.begin()
		allowCPU(given.CPULimit)
		err = channel.send(spent(serving.serve(given, body, channel)))
		guard.end()
		if err != nil {
			return err
		}
	}
}

// allowCPU lets this process use that much CPU time in its whole life, unless its hard limit is lower.
func allowCPU(seconds uint64) {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_CPU, &limit) == nil {
		limit.Cur = min(seconds, limit.Max)
		_ = unix.Setrlimit(unix.RLIMIT_CPU, &limit) // below the hard limit it cannot fail
	}
}

// endAtLimit ends this process when the kernel says that its CPU time is used up, which the Go runtime lets pass.
func endAtLimit() {
	passed := make(chan os.Signal, 1)
	signal.Notify(passed, unix.SIGXCPU)
	<-passed
	fmt.Fprintln(os.Stderr, "SIGXCPU: cpu limit exceeded")
	unix.Exit(2)
}

func versions() map[string]string {
	return map[string]string{"helm": common.DefaultCapabilities.HelmVersion.Version, "go": runtime.Version()}
}

// spent adds what this process has used up in its whole life: CPU seconds, address space and memory in bytes.
func spent(answer map[string]any) map[string]any {
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &usage) == nil {
		cpu := time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
		answer["cpu_seconds"] = cpu.Seconds()
	}
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		var size, resident int64
		if _, err := fmt.Sscan(string(statm), &size, &resident); err == nil {
			answer["address_bytes"] = size * int64(os.Getpagesize())
			answer["resident_bytes"] = resident * int64(os.Getpagesize())
		}
	}
	return answer
}

// serve returns the answer to one request; "fatal" means that this process is no longer to be trusted.
func (e *engine) serve(given head, body []byte, channel *channel) (answer map[string]any) {
	defer func() {
		if broken := recover(); broken != nil {
			// the frames, not the value: that may quote the caller's values
			debug.PrintStack()
			answer = map[string]any{"type": "fatal", "message": "a panic in the engine"}
		}
	}()
	request, err := decode(given, body)
	if err != nil {
		return refused(err)
	}
	progress := newProgress(channel, given.Progress)
	defer progress.close()
	outcome, err := e.run(request, call{number: given.Call, addresses: given.Addresses}, progress)
	if err != nil {
		return refused(err)
	}
	return map[string]any{"type": "outcome", "outcome": outcome}
}

func refused(err error) map[string]any {
	return map[string]any{"type": "refused", "kind": classify(err), "message": err.Error()}
}

// channel is our end of the socket; frames of several goroutines never mix.
type channel struct {
	connection net.Conn
	reader     *bufio.Reader
	lock       sync.Mutex
}

func openChannel(fd int) (*channel, error) {
	file := os.NewFile(uintptr(fd), "channel")
	connection, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("the channel: %w", err)
	}
	return &channel{connection: connection, reader: bufio.NewReader(connection)}, file.Close()
}

func (c *channel) receive() (head, []byte, error) {
	var given head
	var lengths [8]byte
	if _, err := io.ReadFull(c.reader, lengths[:]); err != nil {
		return given, nil, err
	}
	headLength, bodyLength := binary.BigEndian.Uint32(lengths[:4]), binary.BigEndian.Uint32(lengths[4:])
	if headLength > headLimit || bodyLength > bodyLimit {
		return given, nil, errors.New("a frame beyond the limits")
	}
	encoded, body := make([]byte, headLength), make([]byte, bodyLength)
	if _, err := io.ReadFull(c.reader, encoded); err != nil {
		return given, nil, err
	}
	if _, err := io.ReadFull(c.reader, body); err != nil {
		return given, nil, err
	}
	return given, body, json.Unmarshal(encoded, &given)
}

func (c *channel) send(answer map[string]any) error {
	frame, err := pack(answer)
	if err != nil || len(frame) > headLimit/2 {
		answer = map[string]any{"type": "fatal", "message": "an answer too large to be read"}
		if err != nil {
			answer["message"] = "an answer that is no JSON"
		}
		if frame, err = pack(spent(answer)); err != nil {
			return err
		}
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	_, err = c.connection.Write(frame)
	return err
}

func pack(answer map[string]any) ([]byte, error) {
	frame := bytes.NewBuffer(make([]byte, 8))
	encoder := json.NewEncoder(frame)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(answer); err != nil {
		return nil, err
	}
	packed := frame.Bytes()
	binary.BigEndian.PutUint32(packed, uint32(len(packed)-8))
	return packed, nil
}

// watchdog ends this process when the deadline in the shared word passes during an operation.
type watchdog struct {
	word *int64
	busy chan struct{}
	done chan struct{}
}

func startWatchdog(fd int) (*watchdog, error) {
	shared, err := unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("the deadline's memory: %w", err)
	}
	guard := &watchdog{
		word: (*int64)(unsafe.Pointer(&shared[0])),
		busy: make(chan struct{}),
		done: make(chan struct{}),
	}
	go guard.watch()
	return guard, nil
}

func (w *watchdog) begin() { w.busy <- struct{}{} }

func (w *watchdog) end() { w.done <- struct{}{} }

// watch runs on a thread of its own: the scheduler may be kept busy by templates.
func (w *watchdog) watch() {
	runtime.LockOSThread()
	for range w.busy {
		for working := true; working; {
			if w.passed() {
				unix.Exit(watchdogExit)
			}
			select {
			case <-w.done:
				working = false
			case <-time.After(pollInterval):
			}
		}
	}
}

func (w *watchdog) passed() bool {
	moment := atomic.LoadInt64(w.word) // another process writes it
	if moment == 0 {
		return false
	}
	var now unix.Timespec
	return unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) == nil && now.Nano() >= moment
}

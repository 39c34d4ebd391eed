package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	lastCall atomic.Uint32
	leadsTo  sync.Map // by the number of a call
)

// callTo returns a call whose connections lead to an address with port.
func callTo(target string) call {
	during := call{number: lastCall.Add(1), addresses: []string{"127.0.0.1"}}
	leadsTo.Store(during.number, target)
	return during
}

func newClusters(t *testing.T, limits options) *clusters {
	t.Helper()
	asked, theirs := connectors(t)
	go serveConnections(theirs)
	return &clusters{limits: limits, connector: asked}
}

// connectors returns a connector and its parent's end.
func connectors(t *testing.T) (*connector, *net.UnixConn) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	ours, err := openConnector(pair[0])
	must(t, err)
	file := os.NewFile(uintptr(pair[1]), "theirs")
	theirs, err := net.FileConn(file)
	must(t, err)
	must(t, file.Close())
	t.Cleanup(func() { _ = theirs.Close(); _ = ours.socket.Close() })
	return ours, theirs.(*net.UnixConn)
}

// serveConnections answers as our parent does.
func serveConnections(theirs *net.UnixConn) {
	for {
		during, number, err := readRequest(theirs)
		if err != nil {
			return
		}
		go func() {
			target, _ := leadsTo.Load(during)
			made, err := net.Dial("tcp", target.(string)) //nolint:noctx // a test
			var failed unix.Errno
			if errors.As(err, &failed) {
				answerFailure(theirs, number, failed)
			} else {
				answerConnection(theirs, number, made.(*net.TCPConn))
			}
		}()
	}
}

func readRequest(theirs *net.UnixConn) (during, number uint32, err error) {
	var request [requestSize]byte
	_, err = io.ReadFull(theirs, request[:])
	return binary.BigEndian.Uint32(request[:4]), binary.BigEndian.Uint32(request[4:]), err
}

func answerFailure(theirs *net.UnixConn, number uint32, failed unix.Errno) {
	answer := binary.BigEndian.AppendUint32(nil, number)
	_, _ = theirs.Write(binary.BigEndian.AppendUint32(answer, uint32(-int32(failed))))
}

func answerConnection(theirs *net.UnixConn, number uint32, made *net.TCPConn) {
	file, _ := made.File()
	answer := binary.BigEndian.AppendUint32(nil, number)
	answer = binary.BigEndian.AppendUint32(answer, 0)
	_, _, _ = theirs.WriteMsgUnix(answer, unix.UnixRights(int(file.Fd())), nil)
	_ = file.Close()
	_ = made.Close()
}

const apiName = "api.example.test:6443"

func newTestRoute(t *testing.T) (*route, *net.UnixConn) {
	t.Helper()
	ours, theirs := connectors(t)
	return newRoute(&url.URL{Scheme: "https", Host: apiName}, ours), theirs
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

func dial(made *route) (net.Conn, error) { return made.dial(context.Background(), "tcp", apiName) }

func TestAConnectionIsThatOfTheParent(t *testing.T) {
	listener := listen(t)
	made, theirs := newTestRoute(t)
	go serveConnections(theirs)
	made.open(callTo(listener.Addr().String()))
	connection, err := dial(made)
	must(t, err)
	if got := connection.RemoteAddr().String(); got != listener.Addr().String() {
		t.Fatal(got)
	}
	_, err = connection.Write([]byte("a"))
	must(t, err)
}

func TestForAnyOtherServerNothingIsAsked(t *testing.T) {
	made, theirs := newTestRoute(t)
	made.open(callTo(listen(t).Addr().String()))
	for _, other := range []string{"127.0.0.1:6443", "api.example.test:1", "elsewhere.example.test:6443"} {
		if _, err := made.dial(context.Background(), "tcp", other); !errors.Is(err, errElsewhere) {
			t.Error(other, err)
		}
	}
	nothingIsAsked(t, theirs)
}

func nothingIsAsked(t *testing.T, theirs *net.UnixConn) {
	t.Helper()
	must(t, theirs.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	if _, _, err := readRequest(theirs); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("asked:", err)
	}
}

func TestNobodyThereIsSaidOfTheNameAndNotOfTheAddress(t *testing.T) {
	for failed, said := range map[unix.Errno]string{
		unix.ECONNREFUSED: "connect: connection refused", unix.ETIMEDOUT: "i/o timeout",
	} {
		made, theirs := newTestRoute(t)
		made.open(callTo(""))
		go func() {
			_, number, _ := readRequest(theirs)
			answerFailure(theirs, number, failed)
		}()
		_, err := dial(made)
		if err == nil || err.Error() != "dial tcp "+apiName+": "+said {
			t.Fatal(err)
		}
	}
}

func TestNothingConnectsBetweenOperations(t *testing.T) {
	made, theirs := newTestRoute(t)
	made.open(callTo(""))
	made.close()
	if _, err := dial(made); !errors.Is(err, errNoOperation) {
		t.Fatal(err)
	}
	other := newRoute(&url.URL{Scheme: "https", Host: "other"}, made.connector)
	other.open(callTo(""))
	if _, err := dial(made); !errors.Is(err, errNoOperation) {
		t.Fatal("it would lead to the other cluster:", err)
	}
	nothingIsAsked(t, theirs)
}

func TestWithoutAnAddressNothingIsAsked(t *testing.T) {
	made, theirs := newTestRoute(t)
	made.open(call{number: 1})
	if _, err := dial(made); !errors.Is(err, errNoAddress) {
		t.Fatal(err)
	}
	nothingIsAsked(t, theirs)
}

func TestWhatWaitsForAConnectionEndsWithItsOperation(t *testing.T) {
	made, theirs := newTestRoute(t)
	made.open(callTo(""))
	go func() {
		_, _, _ = readRequest(theirs)
		made.close()
	}()
	if _, err := dial(made); !errors.Is(err, errNoOperation) {
		t.Fatal(err)
	}
}

func TestWithoutAParentThereAreNoConnections(t *testing.T) {
	made, theirs := newTestRoute(t)
	made.open(callTo(""))
	go func() {
		_, _, _ = readRequest(theirs)
		_ = theirs.Close()
	}()
	for range 2 {
		if _, err := dial(made); err == nil {
			t.Fatal("connected")
		}
	}
}

func TestAConnectionThatComesTooLateIsClosed(t *testing.T) {
	listener := listen(t)
	made, theirs := newTestRoute(t)
	made.open(callTo(""))
	ctx, cancel := context.WithCancel(context.Background())
	var number uint32
	go func() {
		_, number, _ = readRequest(theirs)
		cancel()
	}()
	if _, err := made.dial(ctx, "tcp", apiName); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	late, err := net.Dial("tcp", listener.Addr().String()) //nolint:noctx // a test
	must(t, err)
	server, err := listener.Accept()
	must(t, err)
	answerConnection(theirs, number, late.(*net.TCPConn))
	must(t, server.SetReadDeadline(time.Now().Add(5*time.Second)))
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatal("still open:", err)
	}
}

func TestConnectionsToAddressesThatAreNoLongerVettedEnd(t *testing.T) {
	target := listen(t).Addr().String()
	made, theirs := newTestRoute(t)
	go serveConnections(theirs)
	made.open(callTo(target))
	connection, err := dial(made)
	must(t, err)
	made.open(callTo(target))
	if _, err := connection.Write([]byte("a")); err != nil {
		t.Fatal("it still leads to a vetted address:", err)
	}
	elsewhere := callTo(target)
	elsewhere.addresses = []string{"192.0.2.1"}
	made.open(elsewhere)
	if _, err := connection.Write([]byte("a")); err == nil {
		t.Fatal("still open")
	}
}

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

var (
	errNoOperation = errors.New("no operation runs")
	errNoAddress   = errors.New("no address")
)

const (
	requestSize = 8
	answerSize  = 8
)

// connector asks our parent for connections: this process has no right to make any.
//
// A request names the call and no address: it is for the cluster of that call, at the addresses that the parent vetted.
// src/pilothouse/engine/connections.py is the other side.
type connector struct {
	socket *net.UnixConn

	lock    sync.Mutex
	call    uint32 // 0 between operations
	last    uint32
	waiting map[uint32]chan<- arrival
}

// arrival is the parent's answer to one request.
type arrival struct {
	connection net.Conn
	address    int // which of the call's addresses it leads to
	failure    error
}

func openConnector(fd int) (*connector, error) {
	file := os.NewFile(uintptr(fd), "connections")
	opened, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("the socket for connections: %w", err)
	}
	socket, is := opened.(*net.UnixConn)
	if !is {
		return nil, errors.New("the socket for connections is not a UNIX socket")
	}
	made := &connector{socket: socket, waiting: map[uint32]chan<- arrival{}}
	go made.receive()
	return made, file.Close()
}

// begin lets an operation connect, under the number that the parent gave to the call.
func (c *connector) begin(call uint32) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.call = call
}

// end refuses what is still waiting: the parent connects no more for this call.
func (c *connector) end() {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.call = 0
	c.failAll(errNoOperation)
}

func (c *connector) failAll(failure error) {
	for number, waiter := range c.waiting {
		delete(c.waiting, number)
		waiter <- arrival{failure: failure}
	}
}

// connect returns a connection to the cluster of the call, and which of the call's addresses it leads to.
func (c *connector) connect(ctx context.Context, during call) (net.Conn, int, error) {
	answered := make(chan arrival, 1)
	number, err := c.await(during, answered)
	if err != nil {
		return nil, 0, err
	}
	var request [requestSize]byte
	binary.BigEndian.PutUint32(request[:4], during.number)
	binary.BigEndian.PutUint32(request[4:], number)
	if _, err := c.socket.Write(request[:]); err != nil {
		c.settle(number, arrival{failure: err})
	}
	select {
	case one := <-answered:
		return one.connection, one.address, one.failure
	case <-ctx.Done():
		c.settle(number, arrival{failure: failureOfContext(ctx)})
		one := <-answered // the answer may have been faster
		return one.connection, one.address, one.failure
	}
}

func (c *connector) await(during call, answered chan<- arrival) (uint32, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if during.number == 0 || during.number != c.call {
		return 0, errNoOperation
	}
	if len(during.addresses) == 0 {
		return 0, errNoAddress // the parent would not answer
	}
	c.last++
	c.waiting[c.last] = answered
	return c.last, nil
}

// settle gives an answer to the one that waits for it; a connection for which nobody waits any more is closed.
func (c *connector) settle(number uint32, one arrival) {
	c.lock.Lock()
	defer c.lock.Unlock()
	if waiter, waits := c.waiting[number]; waits {
		delete(c.waiting, number)
		waiter <- one
	} else if one.connection != nil {
		_ = one.connection.Close() // nothing was sent through it
	}
}

// receive takes the parent's answers until the parent has gone.
func (c *connector) receive() {
	for {
		number, one, err := c.read()
		if err != nil {
			c.lock.Lock()
			c.call = 0
			c.failAll(err)
			c.lock.Unlock()
			return
		}
		c.settle(number, one)
	}
}

// read returns the next answer. Its second half is the number of the address or, negative, why none was reached.
func (c *connector) read() (uint32, arrival, error) {
	var answer [answerSize]byte
	rights := make([]byte, unix.CmsgSpace(4))
	count, rightsCount, _, _, err := c.socket.ReadMsgUnix(answer[:], rights)
	if err != nil {
		return 0, arrival{}, err
	}
	if count != answerSize {
		return 0, arrival{}, errors.New("the parent makes no connections any more")
	}
	number, found := binary.BigEndian.Uint32(answer[:4]), int32(binary.BigEndian.Uint32(answer[4:]))
	if found < 0 {
		return number, arrival{failure: failureOf(unix.Errno(-found))}, nil
	}
	connection, err := connectionIn(rights[:rightsCount])
	return number, arrival{connection: connection, address: int(found), failure: err}, nil
}

// failureOf is what a dialler of our own would say.
func failureOf(number unix.Errno) error {
	if number == unix.ETIMEDOUT {
		return os.ErrDeadlineExceeded
	}
	return os.NewSyscallError("connect", number)
}

func connectionIn(rights []byte) (net.Conn, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	for _, message := range messages {
		given, err := unix.ParseUnixRights(&message)
		if err != nil {
			return nil, err
		}
		for _, fd := range given {
			file := os.NewFile(uintptr(fd), "cluster")
			connection, err := net.FileConn(file)
			return connection, errors.Join(err, file.Close())
		}
	}
	return nil, errors.New("the parent sent no connection: this process has too many files open")
}

func failureOfContext(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return os.ErrDeadlineExceeded
	}
	return ctx.Err()
}

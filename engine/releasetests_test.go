package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestOfALongLogTheEndIsSent(t *testing.T) {
	var log strings.Builder
	for number := range 60_000 {
		fmt.Fprintf(&log, "line %d of a log that is longer than what is read of it at once\n", number)
	}
	whole := log.String()
	for name, reader := range map[string]io.Reader{
		"at once": strings.NewReader(whole), "halves": iotest.HalfReader(strings.NewReader(whole)),
		"with the end": iotest.DataErrReader(strings.NewReader(whole)),
	} {
		end, err := lastBytes(reader, mostLogSent)
		if err != nil || string(end) != whole[len(whole)-mostLogSent:] {
			t.Errorf("%s: %d bytes that are not the end of the log, %v", name, len(end), err)
		}
	}
}

func TestOfALogThatBreaksOffWhatWasReadIsSent(t *testing.T) {
	broken := errors.New("broken")
	end, err := lastBytes(io.MultiReader(strings.NewReader("a line\n"), iotest.ErrReader(broken)), mostLogSent)
	if string(end) != "a line\n" || !errors.Is(err, broken) {
		t.Errorf("%q, %v", end, err)
	}
}

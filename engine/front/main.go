// Command pilothouse is what a person types. It answers `list` and `status` itself, and `upgrade --install` of a folder,
// because a Python program takes longer to start than these take to answer, and hands everything else to that program,
// pilothouse-python beside it.
//
// Whatever is out of the ordinary is handed over, too: an option that it does not know, an error, a character that a
// terminal must not see. So the Python program alone says what is wrong, and this one has no texts of its own.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
)

// errUnusual is why the Python program has to answer.
var errUnusual = errors.New("not an ordinary command")

const (
	pythonProgram = "pilothouse-python"
	completing    = "_PILOTHOUSE_COMPLETE"
	collectFrom   = 256 << 20
	// how src/pilothouse/cli/writes.py learns of a write that has been sent
	sentKey     = "_PILOTHOUSE_SENT_KEY"
	interrupted = "_PILOTHOUSE_INTERRUPTED"
)

// sentError is why the Python program has to answer, after a write was sent with that key: with it, it is not done twice.
type sentError struct {
	key         string
	interrupted bool
}

func (sentError) Error() string { return "sent, and not answered as usual" }

func main() {
	// It lives for milliseconds: to leave its few megabytes is sooner done than to collect them.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(collectFrom)
	var out, notes bytes.Buffer
	err := answer(os.Args[1:], &out, &notes)
	if err == nil {
		if _, err := os.Stdout.Write(out.Bytes()); err != nil {
			fmt.Fprint(os.Stderr, unwritten(err))
			os.Exit(1)
		}
		_, _ = os.Stderr.Write(notes.Bytes())
		return
	}
	handOver(err)
}

// unwritten returns what src/pilothouse/cli/__init__.py says of output that cannot be written, in the words of libc.
func unwritten(err error) string {
	var why syscall.Errno
	if !errors.As(err, &why) {
		return ""
	}
	text := why.Error()
	return "pilothouse: cannot write the output: " + strings.ToUpper(text[:1]) + text[1:] + "\n"
}

// answer writes what the command prints, or returns an error before anything of it may be shown.
func answer(args []string, out, notes *bytes.Buffer) error {
	if os.Getenv(completing) != "" {
		return errUnusual
	}
	typed, err := parse(args)
	if err != nil {
		return err
	}
	server, err := resolve(typed)
	if err != nil {
		return err
	}
	switch typed.command {
	case "list":
		return list(server, typed, out, notes)
	case "upgrade":
		return upgrade(server, typed, out, notes)
	}
	return status(server, typed, out)
}

// handOver makes this process the Python program, which is installed beside it.
func handOver(because error) {
	environment := os.Environ()
	if begun, is := errors.AsType[sentError](because); is {
		environment = append(environment, sentKey+"="+begun.key)
		if begun.interrupted {
			environment = append(environment, interrupted+"=1")
		}
	}
	program, err := besides(os.Executable)
	if err == nil {
		err = syscall.Exec(program, append([]string{program}, os.Args[1:]...), environment)
	}
	fmt.Fprintf(os.Stderr, "pilothouse: cannot run %s: %v; install Pilothouse again, both programs belong together\n", program, err)
	os.Exit(1)
}

// besides returns the Python program's path. A bare name would be that of a file in the working directory, whoever put
// it there: without the path, the name is for people only.
func besides(executable func() (string, error)) (string, error) {
	own, err := executable()
	if err != nil {
		return pythonProgram, err
	}
	return filepath.Join(filepath.Dir(own), pythonProgram), nil
}

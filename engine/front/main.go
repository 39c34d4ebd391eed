// Command pilothouse is what a person types. It answers `list` and `status` itself, because a Python program takes longer
// to start than these take to answer, and hands everything else to that program, pilothouse-python beside it.
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
	"syscall"
)

// errUnusual is why the Python program has to answer.
var errUnusual = errors.New("not an ordinary read")

const (
	pythonProgram = "pilothouse-python"
	completing    = "_PILOTHOUSE_COMPLETE"
)

func main() {
	var out, notes bytes.Buffer
	if answer(os.Args[1:], &out, &notes) == nil {
		_, err := os.Stdout.Write(out.Bytes())
		_, _ = os.Stderr.Write(notes.Bytes())
		if err != nil {
			os.Exit(1)
		}
		return
	}
	handOver()
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
	if typed.command == "list" {
		return list(server, typed, out, notes)
	}
	return status(server, typed, out)
}

// handOver makes this process the Python program, which is installed beside it.
func handOver() {
	program, err := besides(os.Executable)
	if err == nil {
		err = syscall.Exec(program, append([]string{program}, os.Args[1:]...), os.Environ())
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

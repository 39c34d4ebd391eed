package main

import (
	"slices"
	"strings"
)

// arguments are the words of the command line; the flag that stands further right wins.
type arguments struct {
	command string
	names   []string
	values  map[string]string
	set     map[string]bool
	layers  map[string][]string
}

var (
	commands = map[string]string{"list": "list", "ls": "list", "status": "status", "upgrade": "upgrade"}
	// connectionOptions take a value, and may stand before the command's name.
	connectionOptions = map[string]string{
		"--context": "context", "--project": "project", "--cluster": "cluster", "--namespace": "namespace",
		"-n": "namespace", "--url": "url", "--access-key": "access-key", "--secret-key": "secret-key",
		"--token": "token", "--ca": "ca",
	}
	valuesOf = map[string]map[string]string{
		"list": {
			"--filter": "filter", "-f": "filter", "--max": "max", "-m": "max", "--offset": "offset",
			"--output": "output", "-o": "output",
		},
		"status":  {"--revision": "revision", "--output": "output", "-o": "output"},
		"upgrade": {"--output": "output", "-o": "output"},
	}
	// layersOf are options that may be given several times; what they are called in a body.
	layersOf = map[string]map[string]string{
		"upgrade": {
			"--values": "yaml", "-f": "yaml", "--set": "set", "--set-string": "set_string", "--set-json": "set_json",
			"--set-literal": "set_literal",
		},
	}
	switchesOf = map[string]map[string]string{
		"list": {
			"--all-namespaces": "everywhere", "-A": "everywhere", "--all-clusters": "all-clusters", "--date": "date", "-d": "date",
			"--reverse": "reverse", "-r": "reverse", "--short": "short", "-q": "short", "--no-headers": "no-headers",
			"--deployed": "deployed", "--failed": "failed", "--pending": "pending", "--superseded": "superseded",
			"--uninstalled": "uninstalled", "--uninstalling": "uninstalling",
		},
		"upgrade": {
			"--install": "install", "-i": "install", "--create-namespace": "create-namespace", "--wait=none": "wait-for-none",
			"--reset-values": "reset", "--reuse-values": "reuse", "--reset-then-reuse-values": "reset-then-reuse",
		},
	}
	numbers = []string{"max", "offset", "revision"}
)

// Regular expressions would do as well, but to compile two of them takes a quarter of what the program needs to start.
const (
	longestNumber = 9
	digitsOnly    = "0123456789"
	// plainFilter are the characters of a regular expression that means the same to the server's search for a part of the
	// name.
	plainFilter = "abcdefghijklmnopqrstuvwxyz-" + digitsOnly
)

// parse reads the words, or returns errUnusual if they are not all understood.
func parse(words []string) (arguments, error) {
	typed := arguments{values: map[string]string{}, set: map[string]bool{}, layers: map[string][]string{}}
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		option, value, joined := strings.Cut(word, "=")
		name, takesValue := connectionOptions[option]
		if !takesValue {
			name, takesValue = valuesOf[typed.command][option]
		}
		kind, isLayer := layersOf[typed.command][option]
		if takesValue || isLayer {
			switch {
			case joined && !strings.HasPrefix(option, "--"), !joined && len(words) == 0:
				return typed, errUnusual
			case !joined:
				value, words = words[0], words[1:]
			}
		}
		switch {
		case takesValue:
			typed.values[name] = value
		case isLayer:
			typed.layers[kind] = append(typed.layers[kind], value)
		case switchesOf[typed.command][word] != "":
			typed.set[switchesOf[typed.command][word]] = true
		case strings.HasPrefix(word, "-"):
			return typed, errUnusual
		case typed.command == "":
			if typed.command = commands[word]; typed.command == "" {
				return typed, errUnusual
			}
		default:
			typed.names = append(typed.names, word)
		}
	}
	return typed, typed.check()
}

func (typed arguments) check() error {
	names := map[string]int{"list": 0, "status": 1, "upgrade": 2}
	count, known := names[typed.command]
	output, chosen := typed.values["output"]
	if !known || len(typed.names) != count || (chosen && output != "table") || !consistsOf(typed.values["filter"], plainFilter) {
		return errUnusual
	}
	if typed.command == "upgrade" && !typed.set["install"] {
		return errUnusual // whether there is such a release has to be asked first
	}
	if slices.Contains(typed.names, "") || typed.values["revision"] == "0" {
		return errUnusual
	}
	for _, name := range numbers {
		if value, given := typed.values[name]; given && (value == "" || len(value) > longestNumber || !consistsOf(value, digitsOnly)) {
			return errUnusual
		}
	}
	return nil
}

func consistsOf(text, characters string) bool { return strings.Trim(text, characters) == "" }

// Command values is a judge of tests: of each chart archive in a line of base64, it prints the default values as JSON.
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"

	"helm.sh/helm/v4/pkg/chart/v2/loader"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		fmt.Println(valuesOf(lines.Text()))
	}
}

func valuesOf(line string) string {
	archive, err := base64.StdEncoding.DecodeString(line)
	if err != nil {
		return "null"
	}
	loaded, err := loader.LoadArchive(bytes.NewReader(archive))
	if err != nil {
		return "null"
	}
	values, err := json.Marshal(loaded.Values)
	if err != nil {
		return "null"
	}
	return string(values)
}

// Command registry serves an OCI registry for tests, over TLS and for one user: that of the distribution project, which
// Debian packages as docker-registry, or that of go-containerregistry with the API of referrers, behind a token service as
// hosted registries have. Or it prints the user as a line of an htpasswd file, for a registry of another program.
package main

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"golang.org/x/crypto/bcrypt"
)

var (
	kind        = flag.String("kind", "distribution", "distribution, token or htpasswd")
	address     = flag.String("address", "127.0.0.1:5000", "host and port")
	certificate = flag.String("certificate", "", "file with the server's certificate")
	key         = flag.String("key", "", "file with its key")
	user        = flag.String("user", "user", "who may log in")
	password    = flag.String("password", "", "with which password")
)

func main() {
	flag.Parse()
	var err error
	switch *kind {
	case "token":
		err = serveWithTokens()
	case "htpasswd":
		err = writeUser(os.Stdout)
	default:
		err = serveDistribution()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func writeUser(to io.Writer) error {
	hashed, err := bcrypt.GenerateFromPassword([]byte(*password), bcrypt.MinCost)
	if err == nil {
		_, err = fmt.Fprintf(to, "%s:%s\n", *user, hashed)
	}
	return err
}

func serveDistribution() error {
	folder, err := os.MkdirTemp("", "registry")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	line := &bytes.Buffer{}
	if err := writeUser(line); err != nil {
		return err
	}
	htpasswd := filepath.Join(folder, "htpasswd")
	if err := os.WriteFile(htpasswd, line.Bytes(), 0o600); err != nil {
		return err
	}
	config := &configuration.Configuration{}
	config.HTTP.Addr = *address
	config.HTTP.DrainTimeout = time.Second
	config.HTTP.TLS.Certificate, config.HTTP.TLS.Key = *certificate, *key
	config.Log.Level = "error"
	config.Log.AccessLog.Disabled = true
	config.Catalog.MaxEntries = 1000
	config.Storage = map[string]configuration.Parameters{"inmemory": {}}
	config.Auth = configuration.Auth{"htpasswd": {"realm": "tests", "path": htpasswd}}
	serving, err := registry.NewRegistry(context.Background(), config)
	if err != nil {
		return err
	}
	return serving.ListenAndServe()
}

// serveWithTokens asks for a bearer token, which the service beside it gives for the password.
func serveWithTokens() error {
	const token = "a-token-of-the-tests"
	serving := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)), ggcr.WithReferrersSupport(true))
	handler := http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		switch {
		case request.URL.Path == "/token":
			name, given, _ := request.BasicAuth()
			if name != *user || subtle.ConstantTimeCompare([]byte(given), []byte(*password)) != 1 {
				answer.WriteHeader(http.StatusUnauthorized)
				return
			}
			_ = json.NewEncoder(answer).Encode(map[string]string{"token": token})
		case strings.TrimPrefix(request.Header.Get("Authorization"), "Bearer ") == token:
			serving.ServeHTTP(answer, request)
		default:
			answer.Header().Set("WWW-Authenticate",
				fmt.Sprintf(`Bearer realm="https://%s/token",service="tests"`, request.Host))
			answer.WriteHeader(http.StatusUnauthorized)
		}
	})
	server := &http.Server{Addr: *address, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServeTLS(*certificate, *key)
}

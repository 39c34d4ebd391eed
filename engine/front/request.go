package main

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	// patience is that of the Python program, which asks again after it, and says what is wrong.
	patience    = 30 * time.Second
	largest     = 64 << 20
	algorithm   = "SDK-HMAC-SHA256"
	dateFormat  = "20060102T150405Z"
	signedNames = "content-type;host;x-sdk-date"
	jsonType    = "application/json"
	tableType   = "application/json;as=Table"
)

// pair is a parameter of a query; an empty one is left out.
type pair struct{ name, value string }

// decode puts the answer to a GET into what into points at.
func (server connection) decode(client *http.Client, path string, query []pair, into any) error {
	_, text, err := server.get(client, path, query)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), into)
}

// get returns the answer to a GET, and its headers.
func (server connection) get(client *http.Client, path string, query []pair, headers ...pair) (http.Header, string, error) {
	response, text, err := server.send(client, http.MethodGet, path, query, sent{headers: headers})
	if err != nil {
		return nil, "", err
	}
	if response.StatusCode != http.StatusOK {
		return nil, "", errUnusual
	}
	return response.Header, text, nil
}

// sent is what goes with a request besides its proof.
type sent struct {
	body    string
	kind    string
	headers []pair
}

// send returns the answer to a request, whatever its status, and its text.
func (server connection) send(client *http.Client, method, path string, query []pair, with sent) (*http.Response, string, error) {
	path, encoded := server.base.EscapedPath()+path, encode(query)
	address := server.base.Scheme + "://" + server.base.Host + path
	if encoded != "" {
		address += "?" + encoded
	}
	request, err := http.NewRequest(method, address, strings.NewReader(with.body))
	if err != nil {
		return nil, "", err
	}
	request.Header.Set("Content-Type", cmp.Or(with.kind, jsonType))
	for _, header := range with.headers {
		request.Header.Set(header.name, header.value)
	}
	if server.token != "" {
		request.Header.Set("X-Auth-Token", server.token)
	} else {
		server.sign(request, path, encoded, with.body, time.Now())
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = response.Body.Close() }()
	var text strings.Builder
	text.Grow(int(min(max(response.ContentLength, 0), largest)))
	if _, err := io.Copy(&text, io.LimitReader(response.Body, largest)); err != nil {
		return nil, "", err
	}
	return response, text.String(), nil
}

// client returns the client for this server; it follows no redirect and no proxy, as the Python program.
func (server connection) client() (*http.Client, error) {
	transport := &http.Transport{ForceAttemptHTTP2: false}
	if server.ca != "" {
		trusted := x509.NewCertPool()
		if !trusted.AppendCertsFromPEM([]byte(server.ca)) {
			return nil, errUnusual
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: transport, CheckRedirect: stay, Timeout: patience}, nil
}

// sign proves with the access key who asks: src/pilothouse/auth/signing.py.
func (server connection) sign(request *http.Request, path, query, body string, now time.Time) {
	date := now.UTC().Format(dateFormat)
	lines := []string{
		request.Method, canonicalPath(path), query,
		"content-type:" + request.Header.Get("Content-Type"), "host:" + request.URL.Host, "x-sdk-date:" + date, "",
		signedNames, digest(body),
	}
	proof := hmac.New(sha256.New, []byte(server.secretKey))
	_, _ = fmt.Fprintf(proof, "%s\n%s\n%s", algorithm, date, digest(strings.Join(lines, "\n")))
	signature := hex.EncodeToString(proof.Sum(nil))
	request.Header.Set("X-Sdk-Date", date)
	request.Header.Set("Authorization", fmt.Sprintf("%s Access=%s, SignedHeaders=%s, Signature=%s",
		algorithm, server.accessKey, signedNames, signature))
	if server.projectID != "" {
		request.Header.Set("X-Project-Id", server.projectID)
	}
}

func canonicalPath(path string) string {
	if strings.HasSuffix(path, "/") {
		return path
	}
	return path + "/"
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// encode returns the query in the order in which it is signed.
func encode(query []pair) string {
	var words []string
	for _, one := range query {
		if one.value != "" {
			words = append(words, escape(one.name)+"="+escape(one.value))
		}
	}
	slices.Sort(words)
	return strings.Join(words, "&")
}

// escape encodes everything but the unreserved characters of RFC 3986.
func escape(text string) string {
	var escaped strings.Builder
	for _, octet := range []byte(text) {
		if 'a' <= octet && octet <= 'z' || 'A' <= octet && octet <= 'Z' || '0' <= octet && octet <= '9' || strings.IndexByte("-._~", octet) >= 0 {
			escaped.WriteByte(octet)
		} else {
			fmt.Fprintf(&escaped, "%%%02X", octet)
		}
	}
	return escaped.String()
}

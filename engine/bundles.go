package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// What cosign signs since version 3, in the words of Sigstore's bundle, of DSSE and of in-toto.
const (
	bundleType      = "application/vnd.dev.sigstore.bundle.v0.3+json"
	statementInside = "application/vnd.in-toto+json"
	statementType   = "https://in-toto.io/Statement/v1"
	signPredicate   = "https://sigstore.dev/cosign/sign/v1"
	mostSubjects    = 1000
)

// sigstoreBundle is the part of a bundle that counts for signatures by a key; times and logs are not looked at.
type sigstoreBundle struct {
	MediaType string `json:"mediaType"`
	Material  struct {
		Certificate json.RawMessage `json:"certificate"`
	} `json:"verificationMaterial"`
	Envelope *struct {
		Payload     []byte `json:"payload"`
		PayloadType string `json:"payloadType"`
		Signatures  []struct {
			Signature []byte `json:"sig"`
		} `json:"signatures"`
	} `json:"dsseEnvelope"`
}

// statement is the part of an in-toto statement that counts.
type statement struct {
	Type      string `json:"_type"`
	Predicate string `json:"predicateType"`
	Subjects  []struct {
		Digest map[string]string `json:"digest"`
	} `json:"subject"`
}

// judgeBundle returns which of the keys signed the manifest with that digest in this bundle, or why none did.
func judgeBundle(text []byte, digest string, keys []cosignKey) (*cosignKey, string) {
	var found sigstoreBundle
	if err := json.Unmarshal(text, &found); err != nil {
		return nil, "its bundle cannot be read: " + cut(err.Error())
	}
	if found.MediaType != bundleType {
		return nil, fmt.Sprintf("its bundle is of the type %q, and not %s", cut(found.MediaType), bundleType)
	}
	envelope := found.Envelope
	if envelope == nil || len(envelope.Payload) == 0 {
		return nil, "its bundle has no envelope with a statement"
	}
	if len(envelope.Signatures) != 1 {
		return nil, fmt.Sprintf("its bundle has %d signatures; Sigstore allows one in each", len(envelope.Signatures))
	}
	signed := preAuthenticated(envelope.PayloadType, envelope.Payload)
	for index := range keys {
		if !keys[index].signs(signed, envelope.Signatures[0].Signature) {
			continue
		}
		if envelope.PayloadType != statementInside {
			return nil, fmt.Sprintf(
				"what is signed is of the type %q, and not %s", cut(envelope.PayloadType), statementInside,
			)
		}
		if why := judgeStatement(envelope.Payload, digest); why != "" {
			return nil, why
		}
		return &keys[index], ""
	}
	if len(found.Material.Certificate) > 0 {
		return nil, "it is signed with a certificate, of which only the name of the signer would be known (keyless)"
	}
	return nil, otherKeys
}

// preAuthenticated returns the text over which DSSE signs: the type counts, too.
func preAuthenticated(payloadType string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
}

// judgeStatement returns why a statement that is signed says nothing of the manifest; empty if it signs it.
func judgeStatement(payload []byte, digest string) string {
	var found statement
	if err := json.Unmarshal(payload, &found); err != nil {
		return "the statement that is signed cannot be read: " + cut(err.Error())
	}
	if found.Type != statementType || found.Predicate != signPredicate {
		return fmt.Sprintf(
			"what is signed is the statement %q of the kind %q, and not a signature of cosign (%s)",
			cut(found.Type), cut(found.Predicate), signPredicate,
		)
	}
	if len(found.Subjects) > mostSubjects {
		return fmt.Sprintf("the statement that is signed has more than %d subjects", mostSubjects)
	}
	others := make([]string, 0, len(found.Subjects))
	for _, subject := range found.Subjects {
		named := "sha256:" + strings.ToLower(subject.Digest["sha256"])
		if named == digest {
			return ""
		}
		if decoded, err := hex.DecodeString(named[len("sha256:"):]); err == nil && len(decoded) > 0 {
			others = append(others, named)
		}
	}
	return ofAnother(strings.Join(others, ", "), digest)
}

func ofAnother(manifest, digest string) string {
	if manifest = cut(manifest); manifest == "" {
		manifest = "which it does not name"
	}
	return fmt.Sprintf("its signature is of another manifest, %s, and not of %s", manifest, digest)
}

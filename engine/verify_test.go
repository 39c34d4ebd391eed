package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"helm.sh/helm/v4/pkg/provenance"
)

const signedFile = "webapp-1.0.0.tgz"

var signedChart = []byte("the archive")

func pgpKey(t *testing.T, name string, config *packet.Config) *openpgp.Entity {
	t.Helper()
	if config == nil {
		config = &packet.Config{}
	}
	config.Algorithm = packet.PubKeyAlgoEdDSA // RSA takes a second
	entity, err := openpgp.NewEntity(name, "", name+"@example.com", config)
	if err != nil {
		t.Fatal(err)
	}
	return entity
}

func armored(t *testing.T, entity *openpgp.Entity, kind string) string {
	t.Helper()
	text := &bytes.Buffer{}
	into, err := armor.Encode(text, kind, nil)
	if err != nil {
		t.Fatal(err)
	}
	write := entity.Serialize
	if kind == openpgp.PrivateKeyType {
		write = func(to io.Writer) error { return entity.SerializePrivate(to, nil) }
	}
	if err := write(into); err != nil {
		t.Fatal(err)
	}
	if err := into.Close(); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func provenanceOf(t *testing.T, entity *openpgp.Entity, chart []byte) string {
	t.Helper()
	signatory := &provenance.Signatory{Entity: entity}
	text, err := signatory.ClearSign(chart, signedFile, []byte("name: webapp\nversion: 1.0.0\n"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// clearSigned signs with that very key: helm takes the primary one, gpg a subkey that can sign.
func clearSigned(t *testing.T, key *packet.PrivateKey, text []byte) string {
	t.Helper()
	signed := &bytes.Buffer{}
	into, err := clearsign.Encode(signed, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := into.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := into.Close(); err != nil {
		t.Fatal(err)
	}
	return signed.String()
}

func TestAProvenanceTellsWhoSignedAndWhen(t *testing.T) {
	signer, other := pgpKey(t, "signer", nil), pgpKey(t, "other", nil)
	public := armored(t, other, openpgp.PublicKeyType) + "\n" + armored(t, signer, openpgp.PublicKeyType)
	found, err := verifyProvenance(&verifyProvenanceRequest{
		Chart: signedChart, FileName: signedFile, Provenance: provenanceOf(t, signer, signedChart), Keys: public,
	})
	if err != nil {
		t.Fatal(err)
	}
	wanted := fmt.Sprintf("%X", signer.PrimaryKey.Fingerprint)
	if found.SignedBy != "signer <signer@example.com>" || found.Fingerprint != wanted {
		t.Errorf("%+v, not %s", found, wanted)
	}
	if at, err := time.Parse(time.RFC3339, found.SignedAt); err != nil || time.Since(at).Abs() > time.Hour {
		t.Errorf("signed at %q", found.SignedAt)
	}
	keys, err := readKeys(&readKeysRequest{Kind: "pgp", Keys: public})
	if err != nil || len(keys.Fingerprints) != 2 || !slices.Contains(keys.Fingerprints, wanted) || len(keys.Unusable) != 0 {
		t.Errorf("%+v, %v", keys, err)
	}
}

func TestAProvenanceThatDoesNotCountSaysWhy(t *testing.T) {
	signer, other := pgpKey(t, "signer", nil), pgpKey(t, "other", nil)
	past := &packet.Config{
		Time: func() time.Time { return time.Now().Add(-48 * time.Hour) }, KeyLifetimeSecs: 24 * 3600,
	}
	expired := pgpKey(t, "expired", past)
	good := provenanceOf(t, signer, signedChart)
	for name, one := range map[string]struct {
		by                        *openpgp.Entity
		provenance, file, refused string
	}{
		"another key": {
			other, good, signedFile, fmt.Sprintf("the key %X, which is not trusted here", signer.PrimaryKey.Fingerprint),
		},
		"nobody":          {signer, "files:\n  webapp-1.0.0.tgz: sha256:00\n", signedFile, "nobody has signed its provenance"},
		"nothing":         {signer, "", signedFile, "nobody has signed its provenance"},
		"another archive": {signer, provenanceOf(t, signer, []byte("other")), signedFile, "sha256 sum does not match"},
		"another name":    {signer, good, "other-1.0.0.tgz", "does not contain a SHA for a file named"},
		"another text":    {signer, strings.Replace(good, "name: webapp", "name: webapq", 1), signedFile, "does not count"},
		"an expired key":  {expired, provenanceOf(t, expired, signedChart), signedFile, "which has expired"},
	} {
		_, err := verifyProvenance(&verifyProvenanceRequest{
			Chart: signedChart, FileName: one.file, Provenance: one.provenance,
			Keys: armored(t, one.by, openpgp.PublicKeyType),
		})
		if err == nil || !strings.Contains(err.Error(), one.refused) || classify(err) != signatureError {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatIsNotFetchedIsJudgedByTheDigestThatIsKnownOfIt(t *testing.T) {
	signer, other := pgpKey(t, "signer", nil), pgpKey(t, "other", nil)
	good, digest := provenanceOf(t, signer, signedChart), fmt.Sprintf("%x", sha256.Sum256(signedChart))
	for name, one := range map[string]struct {
		by                          *openpgp.Entity
		provenance, digest, refused string
	}{
		"its digest":      {signer, good, digest, ""},
		"no known digest": {signer, good, "", ""},
		"another archive": {signer, good, fmt.Sprintf("%x", sha256.Sum256([]byte("other"))), "of another archive"},
		"another key":     {other, good, digest, "which is not trusted here"},
		"another text":    {signer, strings.Replace(good, "name: webapp", "name: webapq", 1), digest, "does not count"},
		"nobody":          {signer, "files:\n  webapp-1.0.0.tgz: sha256:" + digest, digest, "nobody has signed its provenance"},
	} {
		_, err := verifyProvenance(&verifyProvenanceRequest{
			Unfetched: true, Digest: one.digest, FileName: signedFile, Provenance: one.provenance,
			Keys: armored(t, one.by, openpgp.PublicKeyType),
		})
		if one.refused == "" && err != nil || one.refused != "" && (err == nil || !strings.Contains(err.Error(), one.refused)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestARevokedKeySignsNothingAndIsNamed(t *testing.T) {
	signer := pgpKey(t, "signer", nil)
	good, before := provenanceOf(t, signer, signedChart), armored(t, signer, openpgp.PublicKeyType)
	if err := signer.RevokeKey(packet.KeyCompromised, "lost", nil); err != nil {
		t.Fatal(err)
	}
	revoked := armored(t, signer, openpgp.PublicKeyType)
	named := fmt.Sprintf("%X revoked", signer.PrimaryKey.Fingerprint)
	for name, keys := range map[string]string{
		"alone": revoked, "after a copy of before": before + "\n" + revoked, "before it": revoked + "\n" + before,
	} {
		_, err := verifyProvenance(&verifyProvenanceRequest{
			Chart: signedChart, FileName: signedFile, Provenance: good, Keys: keys,
		})
		if err == nil || !strings.Contains(err.Error(), "which was revoked") {
			t.Errorf("%s: %v", name, err)
		}
		found, err := readKeys(&readKeysRequest{Kind: "pgp", Keys: keys})
		if err != nil || len(found.Fingerprints) != 0 || !slices.Equal(found.Unusable, []string{named}) {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
	}
}

func TestASubkeyThatSignedIsToldAndCountsUntilItIsRevokedOrRemoved(t *testing.T) {
	signer := pgpKey(t, "signer", nil)
	without := armored(t, signer, openpgp.PublicKeyType)
	if err := signer.AddSigningSubkey(&packet.Config{Algorithm: packet.PubKeyAlgoEdDSA}); err != nil {
		t.Fatal(err)
	}
	subkey := &signer.Subkeys[len(signer.Subkeys)-1]
	primary := fmt.Sprintf("%X", signer.PrimaryKey.Fingerprint)
	signing := fmt.Sprintf("%X", subkey.PublicKey.Fingerprint)
	with := armored(t, signer, openpgp.PublicKeyType)
	plain, _ := clearsign.Decode([]byte(provenanceOf(t, signer, signedChart)))
	good := clearSigned(t, subkey.PrivateKey, plain.Plaintext)
	found, err := verifyProvenance(&verifyProvenanceRequest{
		Chart: signedChart, FileName: signedFile, Provenance: good, Keys: with,
	})
	if err != nil || found.Fingerprint != primary || found.SigningKey != signing {
		t.Errorf("%+v, %v, not %s of %s", found, err, signing, primary)
	}
	if err := signer.RevokeSubkey(subkey, packet.KeyRetired, "old", nil); err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct {
		keys     string
		usable   int
		unusable []string
	}{
		{with, 2, []string{}},
		{without, 1, []string{}},
		{armored(t, signer, openpgp.PublicKeyType), 1, []string{signing + " revoked"}},
	} {
		found, err := readKeys(&readKeysRequest{Kind: "pgp", Keys: one.keys})
		if err != nil || len(found.Fingerprints) != one.usable || !slices.Equal(found.Unusable, one.unusable) {
			t.Errorf("%+v, %v", found, err)
		}
		if err == nil && slices.Contains(found.Fingerprints, signing) != (one.usable == 2) {
			t.Errorf("%+v holds %s", found, signing)
		}
	}
}

func TestAKeyThatHasExpiredIsNamed(t *testing.T) {
	expired := pgpKey(t, "expired", &packet.Config{
		Time: func() time.Time { return time.Now().Add(-48 * time.Hour) }, KeyLifetimeSecs: 24 * 3600,
	})
	found, err := readKeys(&readKeysRequest{Kind: "pgp", Keys: armored(t, expired, openpgp.PublicKeyType)})
	named := fmt.Sprintf("%X expired", expired.PrimaryKey.Fingerprint)
	if err != nil || len(found.Fingerprints) != 0 || !slices.Equal(found.Unusable, []string{named}) {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestWhatIsNoPublicKeyIsRefused(t *testing.T) {
	signer := pgpKey(t, "signer", nil)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, one := range map[string]struct{ kind, keys, refused string }{
		"nothing":            {"pgp", "", "no armored PGP public key"},
		"a text":             {"pgp", "hello", "no armored PGP public key"},
		"a private key":      {"pgp", armored(t, signer, openpgp.PrivateKeyType), "send public keys only"},
		"another kind":       {"pgp", publicPEM(t, &private.PublicKey), "no armored PGP public key"},
		"nothing for cosign": {"cosign", "", "no public key in PEM form"},
		"a private PEM": {
			"cosign", string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED SIGSTORE PRIVATE KEY"})), "and not a PUBLIC KEY",
		},
		"a damaged PEM": {"cosign", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")})), "asn1"},
	} {
		_, err := readKeys(&readKeysRequest{Kind: one.kind, Keys: one.keys})
		if err == nil || !strings.Contains(err.Error(), one.refused) || classify(err) != keysError {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func publicPEM(t *testing.T, key crypto.PublicKey) string {
	t.Helper()
	encoded, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: encoded}))
}

func cosignPayload(digest, kind string) []byte {
	return fmt.Appendf(nil,
		`{"critical":{"identity":{"docker-reference":"r/team/webapp"},"image":{"docker-manifest-digest":%q},"type":%q},`+
			`"optional":null}`, digest, kind)
}

func TestEveryKindOfKeySignsAsCosignDoes(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	payload := cosignPayload(digest, cosignType)
	hashed := sha256.Sum256(payload)
	forCurve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forRSA, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, forEd, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	byCurve, err := ecdsa.SignASN1(rand.Reader, forCurve, hashed[:])
	if err != nil {
		t.Fatal(err)
	}
	byRSA, err := rsa.SignPKCS1v15(rand.Reader, forRSA, crypto.SHA256, hashed[:])
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{
		"ECDSA": publicPEM(t, &forCurve.PublicKey), "RSA": publicPEM(t, &forRSA.PublicKey), "Ed25519": publicPEM(t, public),
	}
	signatures := map[string][]byte{"ECDSA": byCurve, "RSA": byRSA, "Ed25519": ed25519.Sign(forEd, payload)}
	for name, key := range keys {
		for signer, signature := range signatures {
			found, err := verifySignatures(&verifySignaturesRequest{
				Digest: digest, Signatures: []cosignSignature{{[]byte("{}"), []byte("x")}, {payload, signature}}, Keys: key,
			})
			if (err == nil) != (name == signer) {
				t.Errorf("%s by %s: %v", signer, name, err)
			}
			if err == nil {
				known, err := readKeys(&readKeysRequest{Kind: "cosign", Keys: key})
				if err != nil || known.Fingerprints[0] != found.Fingerprint {
					t.Errorf("%s: %+v, %+v, %v", name, found, known, err)
				}
			}
		}
		for what, one := range map[string][]byte{
			"another manifest": cosignPayload("sha256:"+strings.Repeat("b", 64), cosignType),
			"another kind":     cosignPayload(digest, "atomic container signature"),
			"no JSON":          []byte("x"),
		} {
			if name != "Ed25519" {
				continue
			}
			_, err := verifySignatures(&verifySignaturesRequest{
				Digest: digest, Signatures: []cosignSignature{{one, ed25519.Sign(forEd, one)}}, Keys: key,
			})
			if err == nil || !strings.Contains(err.Error(), "of another manifest") {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const (
	signedDigest  = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	anotherDigest = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

func statementOf(digests ...string) string {
	subjects := make([]string, 0, len(digests))
	for _, digest := range digests {
		subjects = append(subjects, fmt.Sprintf(`{"digest":{"sha256":%q}}`, strings.TrimPrefix(digest, "sha256:")))
	}
	return fmt.Sprintf(
		`{"_type":%q,"subject":[%s],"predicateType":%q,"predicate":{}}`,
		statementType, strings.Join(subjects, ","), signPredicate,
	)
}

// bundleOf returns a bundle with the statement, signed each time by what sign returns for DSSE's text.
func bundleOf(t *testing.T, payloadType, payload string, signers ...func(text []byte) []byte) []byte {
	t.Helper()
	signatures := []map[string]any{}
	text := fmt.Sprintf("DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
	for _, sign := range signers {
		signatures = append(signatures, map[string]any{"sig": sign([]byte(text)), "keyid": ""})
	}
	encoded, err := json.Marshal(map[string]any{
		"mediaType":            bundleType,
		"verificationMaterial": map[string]any{"publicKey": map[string]string{"hint": "x"}},
		"dsseEnvelope": map[string]any{
			"payload": []byte(payload), "payloadType": payloadType, "signatures": signatures,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func edKey(t *testing.T) (public string, sign func([]byte) []byte) {
	t.Helper()
	key, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return publicPEM(t, key), func(text []byte) []byte { return ed25519.Sign(private, text) }
}

func TestEveryKindOfKeySignsABundle(t *testing.T) {
	publics, signers := map[string]string{}, map[string]func([]byte) []byte{}
	publics["Ed25519"], signers["Ed25519"] = edKey(t)
	public, forEd, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	publics["Ed25519ph"] = publicPEM(t, public)
	signers["Ed25519ph"] = func(text []byte) []byte {
		digest := sha512.Sum512(text)
		signature, err := forEd.Sign(nil, digest[:], &ed25519.Options{Hash: crypto.SHA512})
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	forRSA, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	publics["RSA"] = publicPEM(t, &forRSA.PublicKey)
	signers["RSA"] = func(text []byte) []byte {
		digest := sha256.Sum256(text)
		signature, err := rsa.SignPKCS1v15(rand.Reader, forRSA, crypto.SHA256, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	for name, curve := range map[string]elliptic.Curve{
		"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521(),
	} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		publics[name] = publicPEM(t, &key.PublicKey)
		signers[name] = func(text []byte) []byte {
			of256, of384, of512 := sha256.Sum256(text), sha512.Sum384(text), sha512.Sum512(text)
			digest := map[string][]byte{"P-256": of256[:], "P-384": of384[:], "P-521": of512[:]}[name]
			signature, err := ecdsa.SignASN1(rand.Reader, key, digest)
			if err != nil {
				t.Fatal(err)
			}
			return signature
		}
	}
	for name, public := range publics {
		for signer, sign := range signers {
			found, err := verifySignatures(&verifySignaturesRequest{
				Digest: signedDigest, Keys: public,
				Bundles: [][]byte{bundleOf(t, statementInside, statementOf(signedDigest), sign)},
			})
			if (err == nil) != (name == signer) {
				t.Errorf("%s by %s: %v", signer, name, err)
			}
			if err != nil {
				continue
			}
			known, err := readKeys(&readKeysRequest{Kind: "cosign", Keys: public})
			if err != nil || known.Fingerprints[0] != found.Fingerprint || found.SigningKey != found.Fingerprint {
				t.Errorf("%s: %+v, %+v, %v", name, found, known, err)
			}
		}
	}
}

func TestABundleThatDoesNotCountSaysWhy(t *testing.T) {
	public, sign := edKey(t)
	_, other := edKey(t)
	good := bundleOf(t, statementInside, statementOf(signedDigest), sign)
	attestation := strings.Replace(statementOf(signedDigest), signPredicate, "https://spdx.dev/Document", 1)
	for name, one := range map[string]struct {
		bundle  []byte
		refused string
	}{
		"another key":      {bundleOf(t, statementInside, statementOf(signedDigest), other), otherKeys},
		"another manifest": {bundleOf(t, statementInside, statementOf(anotherDigest), sign), "manifest, " + anotherDigest},
		"no manifest":      {bundleOf(t, statementInside, statementOf(), sign), "manifest, which it does not name"},
		"no digest":        {bundleOf(t, statementInside, statementOf("sha256:"), sign), "manifest, which it does not name"},
		"another type of payload": {
			bundleOf(t, "application/json", statementOf(signedDigest), sign), `of the type "application/json"`,
		},
		"a type that was changed": {
			[]byte(strings.Replace(string(good), statementInside, "application/json", 1)), otherKeys,
		},
		"an attestation": {
			bundleOf(t, statementInside, attestation, sign), `of the kind "https://spdx.dev/Document", and not a signature`,
		},
		"an old statement": {
			bundleOf(t, statementInside, strings.Replace(statementOf(signedDigest), "/v1", "/v0.1", 1), sign),
			`the statement "https://in-toto.io/Statement/v0.1"`,
		},
		"a statement that is none": {bundleOf(t, statementInside, "x", sign), "the statement that is signed cannot be read"},
		"nobody":                   {bundleOf(t, statementInside, statementOf(signedDigest)), "has 0 signatures"},
		"two signatures in one": {
			bundleOf(t, statementInside, statementOf(signedDigest), sign, other), "has 2 signatures",
		},
		"nothing":            {[]byte{}, "its bundle cannot be read"},
		"no JSON":            {[]byte("<html>"), "its bundle cannot be read"},
		"a list":             {[]byte("[]"), "its bundle cannot be read"},
		"no base64":          {[]byte(strings.Replace(string(good), `"sig":"`, `"sig":"*`, 1)), "its bundle cannot be read"},
		"another media type": {[]byte(strings.Replace(string(good), "v0.3", "v0.4", 1)), "its bundle is of the type"},
		"no envelope":        {[]byte(fmt.Sprintf(`{"mediaType":%q}`, bundleType)), "no envelope"},
		"an empty signature": {
			bundleOf(t, statementInside, statementOf(signedDigest), func([]byte) []byte { return nil }), otherKeys,
		},
		"keyless": {
			[]byte(strings.Replace(
				string(bundleOf(t, statementInside, statementOf(signedDigest), other)),
				`"publicKey":{"hint":"x"}`, `"certificate":{"rawBytes":""}`, 1,
			)), "(keyless)",
		},
		"too many subjects": {
			bundleOf(t, statementInside, statementOf(slices.Repeat([]string{anotherDigest}, mostSubjects+1)...), sign),
			"more than 1000 subjects",
		},
	} {
		_, err := verifySignatures(&verifySignaturesRequest{
			Digest: signedDigest, Bundles: [][]byte{one.bundle}, Keys: public,
		})
		if err == nil || !strings.Contains(err.Error(), one.refused) || classify(err) != signatureError {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOneGoodSignatureOfSeveralCountsAndAllReasonsAreTold(t *testing.T) {
	public, sign := edKey(t)
	otherPublic, other := edKey(t)
	ofAnother := bundleOf(t, statementInside, statementOf(anotherDigest), sign)
	byOther := bundleOf(t, statementInside, statementOf(signedDigest), other)
	good := bundleOf(t, statementInside, statementOf(anotherDigest, signedDigest), sign)
	payload := cosignPayload(signedDigest, cosignType)
	before := []cosignSignature{{payload, other(payload)}, {[]byte("{}"), []byte("x")}}
	found, err := verifySignatures(&verifySignaturesRequest{
		Digest: signedDigest, Signatures: before, Bundles: [][]byte{[]byte("x"), ofAnother, byOther, good}, Keys: public,
	})
	if err != nil {
		t.Fatal(err)
	}
	known, err := readKeys(&readKeysRequest{Kind: "cosign", Keys: public})
	if err != nil || found.Fingerprint != known.Fingerprints[0] {
		t.Errorf("%+v, %+v, %v", found, known, err)
	}
	if _, err := verifySignatures(&verifySignaturesRequest{
		Digest: signedDigest, Bundles: [][]byte{byOther, good}, Keys: otherPublic + public,
	}); err != nil {
		t.Error(err)
	}
	_, err = verifySignatures(&verifySignaturesRequest{
		Digest: signedDigest, Signatures: before, Bundles: [][]byte{byOther, ofAnother, byOther}, Keys: public,
	})
	wanted := otherKeys + "; its signature is of another manifest, " + anotherDigest + ", and not of " + signedDigest
	if err == nil || err.Error() != wanted {
		t.Error(err)
	}
}

package main

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"helm.sh/helm/v4/pkg/provenance"
)

const (
	cosignType = "cosign container image signature"
	otherKeys  = "it is signed, but with no key that is trusted here"
	mostKeys   = 100
	isRevoked  = "revoked"
	isExpired  = "expired"
)

// readKeys returns which keys can sign now, by the fingerprints with which verifications are compared.
func readKeys(request *readKeysRequest) (*readableKeys, error) {
	made := &readableKeys{Fingerprints: []string{}, Unusable: []string{}}
	if request.Kind == "cosign" {
		keys, err := readCosignKeys(request.Keys)
		for _, key := range keys {
			made.Fingerprints = append(made.Fingerprints, key.fingerprint)
		}
		return made, err
	}
	ring, err := readRing(request.Keys)
	if err != nil {
		return nil, err
	}
	usable, unusable := sortKeys(ring, time.Now())
	for fingerprint, reason := range unusable {
		made.Unusable = append(made.Unusable, fingerprint+" "+reason)
	}
	made.Fingerprints = slices.AppendSeq(made.Fingerprints, maps.Keys(usable))
	slices.Sort(made.Fingerprints)
	slices.Sort(made.Unusable)
	return made, nil
}

// sortKeys returns the keys and subkeys that can sign, and the others that are meant to, with the reason.
//
// A revocation counts whatever another copy of the same key says.
func sortKeys(ring openpgp.EntityList, now time.Time) (usable map[string]bool, unusable map[string]string) {
	usable, unusable = map[string]bool{}, map[string]string{}
	for _, entity := range ring {
		for _, key := range signingKeys(entity) {
			fingerprint := fingerprintOf(key.PublicKey)
			if reason := whyUnusable(key, now); reason == "" {
				usable[fingerprint] = true
			} else if unusable[fingerprint] != isRevoked {
				unusable[fingerprint] = reason
			}
		}
	}
	for fingerprint, reason := range unusable {
		if reason == isRevoked {
			delete(usable, fingerprint)
		} else if usable[fingerprint] {
			delete(unusable, fingerprint)
		}
	}
	return usable, unusable
}

// signingKeys returns the primary key and the subkeys, as far as they are meant to sign.
func signingKeys(entity *openpgp.Entity) []openpgp.Key {
	ring := openpgp.EntityList{entity}
	found := ring.KeysByIdUsage(entity.PrimaryKey.KeyId, packet.KeyFlagSign)
	for _, subkey := range entity.Subkeys {
		if subkey.PublicKey.KeyId != entity.PrimaryKey.KeyId {
			found = append(found, ring.KeysByIdUsage(subkey.PublicKey.KeyId, packet.KeyFlagSign)...)
		}
	}
	return found
}

// whyUnusable returns why the key cannot sign now, by what the library asks of signatures; empty if it can.
func whyUnusable(key openpgp.Key, now time.Time) string {
	primary, identity := key.Entity.PrimarySelfSignature()
	if primary == nil {
		return "without a valid name"
	}
	if key.Entity.Revoked(now) || key.Revoked(now) || (identity != nil && identity.Revoked(now)) {
		return isRevoked
	}
	if key.Entity.PrimaryKey.KeyExpired(primary, now) || key.PublicKey.KeyExpired(key.SelfSignature, now) ||
		primary.SigExpired(now) || key.SelfSignature.SigExpired(now) {
		return isExpired
	}
	return ""
}

// verifyProvenance returns who signed the provenance of an archive, as helm verify does.
func verifyProvenance(request *verifyProvenanceRequest) (*verification, error) {
	ring, err := readRing(request.Keys)
	if err != nil {
		return nil, err
	}
	text := []byte(request.Provenance)
	block, _ := clearsign.Decode(text)
	if block == nil {
		return nil, refusal{kind: signatureError, message: explainSignature(nil, text)}
	}
	if !request.Unfetched {
		signatory := &provenance.Signatory{KeyRing: ring}
		if _, err = signatory.Verify(request.Chart, text, request.FileName); err != nil {
			return nil, refusal{kind: signatureError, message: explainSignature(err, text)}
		}
	}
	signature, signer, err := openpgp.VerifyDetachedSignature(
		ring, bytes.NewReader(block.Bytes), block.ArmoredSignature.Body, &packet.Config{},
	)
	if err != nil {
		return nil, refusal{kind: signatureError, message: explainSignature(err, text)}
	}
	if request.Unfetched && !bytes.Contains(block.Bytes, []byte("sha256:"+request.Digest)) {
		return nil, refusal{kind: signatureError, message: "its provenance is of another archive"}
	}
	signing := ""
	for _, key := range signingKeys(signer) {
		if key.PublicKey.KeyId == *signature.IssuerKeyId {
			signing = fingerprintOf(key.PublicKey)
		}
	}
	if usable, unusable := sortKeys(ring, time.Now()); !usable[signing] {
		why := pgperrors.ErrKeyRevoked
		if unusable[signing] == isExpired {
			why = pgperrors.ErrKeyExpired
		}
		return nil, refusal{kind: signatureError, message: explainSignature(why, text)}
	}
	return &verification{
		SignedBy:    nameOf(signer),
		Fingerprint: fingerprintOf(signer.PrimaryKey),
		SigningKey:  signing,
		SignedAt:    moment(signature.CreationTime.UTC().Format(time.RFC3339)),
	}, nil
}

// readRing returns the armored public keys, of which there may be several blocks.
func readRing(text string) (openpgp.EntityList, error) {
	var ring openpgp.EntityList
	from := bufio.NewReader(strings.NewReader(text)) // which keeps what it has read of the next block
	for {
		block, err := armor.Decode(from)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && block.Type != openpgp.PublicKeyType {
			err = fmt.Errorf("a block is a %s and not a %s; send public keys only", block.Type, openpgp.PublicKeyType)
		}
		if err != nil {
			return nil, refusal{kind: keysError, message: err.Error()}
		}
		found, err := openpgp.ReadKeyRing(block.Body)
		if err != nil {
			return nil, refusal{kind: keysError, message: err.Error()}
		}
		ring = append(ring, found...)
	}
	if len(ring) == 0 {
		return nil, refusal{kind: keysError, message: "they hold no armored PGP public key (gpg --export --armor)"}
	}
	if len(ring) > mostKeys {
		return nil, refusal{kind: keysError, message: fmt.Sprintf("there are more than %d keys", mostKeys)}
	}
	return ring, nil
}

func fingerprintOf(key *packet.PublicKey) string {
	return fmt.Sprintf("%X", key.Fingerprint)
}

func nameOf(entity *openpgp.Entity) string {
	identity := entity.PrimaryIdentity()
	if identity == nil {
		return ""
	}
	return cut(strings.Map(func(char rune) rune {
		if unicode.IsPrint(char) {
			return char
		}
		return -1
	}, identity.Name))
}

// explainSignature returns why a provenance does not count: the words of the library do not name the key.
func explainSignature(err error, text []byte) string {
	block, _ := clearsign.Decode(text)
	if block == nil {
		return "nobody has signed its provenance"
	}
	signer := "a key"
	if first, readErr := packet.NewReader(block.ArmoredSignature.Body).Next(); readErr == nil {
		if signature, ok := first.(*packet.Signature); ok && len(signature.IssuerFingerprint) > 0 {
			signer = fmt.Sprintf("the key %X", signature.IssuerFingerprint)
		} else if ok && signature.IssuerKeyId != nil { // all that an old signature tells
			signer = fmt.Sprintf("the key whose fingerprint ends with %016X", *signature.IssuerKeyId)
		}
	}
	switch {
	case errors.Is(err, pgperrors.ErrUnknownIssuer):
		return fmt.Sprintf("its provenance is signed with %s, which is not trusted here", signer)
	case errors.Is(err, pgperrors.ErrKeyExpired):
		return fmt.Sprintf("its provenance is signed with %s, which has expired", signer)
	case errors.Is(err, pgperrors.ErrKeyRevoked):
		return fmt.Sprintf("its provenance is signed with %s, which was revoked", signer)
	case errors.Is(err, pgperrors.ErrSignatureExpired):
		return "the signature of its provenance has expired"
	}
	return "its provenance does not count: " + cut(err.Error())
}

// cosignKey is a public key, with the SHA-256 of its encoding as the fingerprint.
type cosignKey struct {
	key         crypto.PublicKey
	fingerprint string
}

func readCosignKeys(text string) ([]cosignKey, error) {
	var keys []cosignKey
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "PUBLIC KEY" {
			return nil, refusal{kind: keysError, message: "a block is a " + cut(block.Type) + " and not a PUBLIC KEY"}
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, refusal{kind: keysError, message: cut(err.Error())}
		}
		switch key.(type) {
		case *ecdsa.PublicKey, *rsa.PublicKey, ed25519.PublicKey:
		default:
			return nil, refusal{kind: keysError, message: "a key is not one of ECDSA, RSA or Ed25519"}
		}
		digest := sha256.Sum256(block.Bytes)
		keys = append(keys, cosignKey{key, "SHA256:" + hex.EncodeToString(digest[:])})
	}
	if len(keys) == 0 || len(keys) > mostKeys {
		return nil, refusal{kind: keysError, message: fmt.Sprintf("they hold no public key in PEM form, or more than %d", mostKeys)}
	}
	return keys, nil
}

// signs returns whether the signature of the payload is the key's, as cosign signs: with SHA-256, since version 3 on a
// larger curve with the digest of its size, and by Ed25519 with SHA-512 before it.
func (k cosignKey) signs(payload, signature []byte) bool {
	digest := sha256.Sum256(payload)
	switch key := k.key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, digest[:], signature) || ecdsa.VerifyASN1(key, digestFor(key, payload), signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil
	case ed25519.PublicKey:
		hashed := sha512.Sum512(payload)
		return ed25519.Verify(key, payload, signature) ||
			ed25519.VerifyWithOptions(key, hashed[:], signature, &ed25519.Options{Hash: crypto.SHA512}) == nil
	}
	return false
}

// digestFor returns the digest that has the size of the key's curve.
func digestFor(key *ecdsa.PublicKey, payload []byte) []byte {
	switch key.Curve {
	case elliptic.P384():
		digest := sha512.Sum384(payload)
		return digest[:]
	case elliptic.P521():
		digest := sha512.Sum512(payload)
		return digest[:]
	}
	digest := sha256.Sum256(payload)
	return digest[:]
}

// simpleSigning is the part of the payload that counts (the containers' simple signing format).
type simpleSigning struct {
	Critical struct {
		Type  string `json:"type"`
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		} `json:"image"`
	} `json:"critical"`
}

// verifySignatures returns which key signed the manifest with that digest, as cosign verify --key does.
func verifySignatures(request *verifySignaturesRequest) (*verification, error) {
	keys, err := readCosignKeys(request.Keys)
	if err != nil {
		return nil, err
	}
	reasons := []string{}
	judge := func(key *cosignKey, why string) *verification {
		if key != nil {
			return &verification{Fingerprint: key.fingerprint, SigningKey: key.fingerprint}
		}
		if !slices.Contains(reasons, why) {
			reasons = append(reasons, why)
		}
		return nil
	}
	for _, signature := range request.Signatures {
		if found := judge(judgeSignature(signature, request.Digest, keys)); found != nil {
			return found, nil
		}
	}
	for _, bundle := range request.Bundles {
		if found := judge(judgeBundle(bundle, request.Digest, keys)); found != nil {
			return found, nil
		}
	}
	return nil, refusal{kind: signatureError, message: cut(strings.Join(reasons, "; "))}
}

// judgeSignature returns which of the keys signed the manifest with that digest as before bundles, or why none did.
func judgeSignature(signature cosignSignature, digest string, keys []cosignKey) (*cosignKey, string) {
	for index := range keys {
		if !keys[index].signs(signature.Payload, signature.Signature) {
			continue
		}
		var signed simpleSigning
		err := json.Unmarshal(signature.Payload, &signed)
		if err == nil && signed.Critical.Type == cosignType && signed.Critical.Image.Digest == digest {
			return &keys[index], ""
		}
		return nil, ofAnother(signed.Critical.Image.Digest, digest)
	}
	return nil, otherKeys
}

package main

import (
	"context"
	"errors"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The kinds of refusals that a type tells. src/pilothouse/engine/helm_errors.py knows those that only Helm's texts tell.
const (
	chartLoadError     = "HelmChartLoadError"
	chartInvalidError  = "HelmChartInvalidError"
	conflictError      = "HelmConflictError"
	forbiddenError     = "HelmForbiddenError"
	indexError         = "HelmIndexError"
	invalidNameError   = "HelmInvalidNameError"
	invalidObjectError = "HelmInvalidObjectError"
	keysError          = "HelmKeysError"
	manifestError      = "HelmManifestError"
	namespaceMissing   = "HelmNamespaceMissingError"
	planMoved          = "HelmPlanError"
	releaseError       = "HelmReleaseError"
	renderError        = "HelmRenderError"
	revisionTaken      = "HelmRevisionTakenError"
	signatureError     = "HelmSignatureError"
	timeoutError       = "HelmTimeoutError"
	tooLargeError      = "HelmTooLargeError"
	unauthorizedError  = "HelmUnauthorizedError"
	versionError       = "HelmVersionError"
	unreachableError   = "HelmKubeError"
)

// refusal is an error with its kind.
type refusal struct {
	kind, message string
}

func (r refusal) Error() string { return r.message }

// classify returns the kind of what Helm or we refused: by the types in it, else the common one.
//
// Where several objects failed for several reasons, the first counts that a caller can act on.
func classify(err error) string {
	var own refusal
	if errors.As(err, &own) {
		return own.kind
	}
	found := map[string]bool{}
	walk(err, func(one error) { found[kindOf(one)] = true })
	for _, kind := range []string{
		conflictError, namespaceMissing, forbiddenError, unauthorizedError, tooLargeError, unreachableError, timeoutError,
		manifestError,
	} {
		if found[kind] {
			return kind
		}
	}
	return releaseError
}

func walk(err error, visit func(error)) {
	if err == nil {
		return
	}
	visit(err)
	switch wrapping := err.(type) { //nolint:errorlint // the tree itself is walked
	case interface{ Unwrap() error }:
		walk(wrapping.Unwrap(), visit)
	case interface{ Unwrap() []error }:
		for _, one := range wrapping.Unwrap() {
			walk(one, visit)
		}
	}
}

func kindOf(err error) string {
	switch typed := err.(type) { //nolint:errorlint // see walk
	case apierrors.APIStatus:
		return kindOfStatus(typed.Status())
	case *url.Error:
		return unreachableError
	case *meta.NoKindMatchError, *meta.NoResourceMatchError:
		return manifestError
	}
	if err == context.DeadlineExceeded { //nolint:errorlint // see walk
		return timeoutError
	}
	return ""
}

func kindOfStatus(status metav1.Status) string {
	switch status.Reason {
	case metav1.StatusReasonForbidden:
		return forbiddenError
	case metav1.StatusReasonUnauthorized:
		return unauthorizedError
	case metav1.StatusReasonRequestEntityTooLarge:
		return tooLargeError
	case metav1.StatusReasonServiceUnavailable, metav1.StatusReasonTooManyRequests, metav1.StatusReasonServerTimeout,
		metav1.StatusReasonTimeout:
		return unreachableError
	case metav1.StatusReasonNotFound:
		if status.Details != nil && status.Details.Kind == "namespaces" {
			return namespaceMissing
		}
	case metav1.StatusReasonConflict:
		if status.Details != nil && hasCause(status.Details.Causes, metav1.CauseTypeFieldManagerConflict) {
			return conflictError
		}
	}
	return ""
}

func hasCause(causes []metav1.StatusCause, wanted metav1.CauseType) bool {
	for _, cause := range causes {
		if cause.Type == wanted {
			return true
		}
	}
	return false
}

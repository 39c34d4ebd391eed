package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestTypesTellTheKindHoweverDeepTheyLie(t *testing.T) {
	things := schema.GroupResource{Resource: "things"}
	conflict := apierrors.NewApplyConflict([]metav1.StatusCause{{Type: metav1.CauseTypeFieldManagerConflict}}, "held")
	for _, one := range []struct {
		err  error
		kind string
	}{
		{apierrors.NewForbidden(things, "a", nil), forbiddenError},
		{apierrors.NewUnauthorized("who"), unauthorizedError},
		{apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "a"), namespaceMissing},
		{apierrors.NewNotFound(things, "a"), releaseError},
		{apierrors.NewServiceUnavailable("later"), unreachableError},
		{apierrors.NewTooManyRequests("later", 1), unreachableError},
		{conflict, conflictError},
		{apierrors.NewConflict(things, "a", errors.New("another version")), releaseError},
		{&url.Error{Op: "Get", URL: "https://a", Err: errors.New("EOF")}, unreachableError},
		{context.DeadlineExceeded, timeoutError},
		{&meta.NoKindMatchError{GroupKind: schema.GroupKind{Kind: "A"}}, manifestError},
		{errors.New("is forbidden: says a chart"), releaseError},
		{refusal{kind: renderError, message: "own"}, renderError},
	} {
		for _, wrapped := range []error{
			one.err, fmt.Errorf("helm: %w", one.err), errors.Join(errors.New("other"), one.err),
			joined([]error{errors.New("other"), fmt.Errorf("deep: %w", one.err)}, " && "),
		} {
			if got := classify(wrapped); got != one.kind {
				t.Errorf("%v: %s, not %s", wrapped, got, one.kind)
			}
		}
	}
}

func TestOfSeveralKindsTheOneCountsThatACallerCanActOn(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "things"}, "a", nil)
	if got := classify(errors.Join(apierrors.NewServiceUnavailable("later"), forbidden)); got != forbiddenError {
		t.Fatal(got)
	}
}

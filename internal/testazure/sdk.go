package testazure

import (
	"context"
	"io"
	"maps"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// Instead has a fake server of Azure's SDK answer what Resource Manager is asked
// about a resource, be it there or not, and below it, to whoever may ask it: the
// fake reads requests into the SDK's own types, and writes those. Do is that of the
// fake's transport, and method the one that it is asked for, such as
// "RegistriesClient.BeginImportImage", which clients of the SDK name in the context.
//
// https://pkg.go.dev/github.com/Azure/azure-sdk-for-go/sdk/azcore/fake
func (a *Azure) Instead(id, method string, do func(*http.Request) (*http.Response, error)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.instead[strings.ToLower(id)] = func(w http.ResponseWriter, r *http.Request) {
		asked := r.Clone(context.WithValue(r.Context(), runtime.CtxAPINameKey{}, method))
		asked.URL.Scheme, asked.URL.Host = "https", r.Host
		answer, err := do(asked)
		if err != nil {
			refuse(w, http.StatusBadRequest, "InvalidRequest", err.Error())
			return
		}
		defer answer.Body.Close()
		maps.Copy(w.Header(), answer.Header)
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body)
	}
}

// replaced answers for a resource that a fake has.
func (a *Azure) replaced(w http.ResponseWriter, r *http.Request) bool {
	a.mu.Lock()
	var answer http.HandlerFunc
	for id, fake := range a.instead {
		if strings.HasPrefix(strings.ToLower(r.URL.Path)+"/", id+"/") {
			answer = fake
		}
	}
	a.mu.Unlock()
	if answer == nil {
		return false
	}
	answer(w, r)
	return true
}

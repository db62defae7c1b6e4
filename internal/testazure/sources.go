package testazure

import (
	"net/http"
	"strings"
	"sync"
)

// Source is a registry that is not Azure's, such as ghcr.io. It gives tokens to
// everybody, or to one user: https://distribution.github.io/distribution/spec/auth/token/.
type Source struct {
	images

	host string

	mu                 sync.Mutex
	username, password string
	tokens             map[string]bool
}

// Source returns the registry at a host, and makes it if there is none.
func (a *Azure) Source(host string) *Source {
	a.mu.Lock()
	defer a.mu.Unlock()
	source, ok := a.sources[host]
	if !ok {
		source = &Source{images: newImages(), host: host, tokens: map[string]bool{}}
		a.sources[host] = source
	}
	return source
}

// Protect makes the registry one of this user alone.
func (s *Source) Protect(username, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.username, s.password = username, password
	s.tokens = map[string]bool{}
}

func (s *Source) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		s.token(w, r)
		return
	}
	s.mu.Lock()
	known := s.tokens[bearer(r)]
	s.mu.Unlock()
	if !known {
		challenge(w, "https://"+s.host+"/token", s.host, scopeOf(r), "")
		return
	}
	s.handler.ServeHTTP(w, r)
}

func (s *Source) token(w http.ResponseWriter, r *http.Request) {
	username, password, _ := r.BasicAuth()
	s.mu.Lock()
	defer s.mu.Unlock()
	if username != s.username || password != s.password {
		refuseImage(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		return
	}
	token := unique("source~")
	s.tokens[token] = true
	answer(w, http.StatusOK, map[string]any{"token": token, "expires_in": 300})
}

// challenge says where a token is to be had.
func challenge(w http.ResponseWriter, realm, service, scope, why string) {
	header := `Bearer realm="` + realm + `",service="` + service + `"`
	if scope != "" {
		header += `,scope="` + scope + `"`
	}
	if why != "" {
		header += `,error="` + why + `"`
	}
	w.Header().Set("WWW-Authenticate", header)
	refuseImage(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required, visit https://aka.ms/acr/authorization for more information.")
}

// refuseImage answers as registries do.
func refuseImage(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, map[string]any{"errors": []any{map[string]any{"code": code, "message": message, "detail": nil}}})
}

// scopeOf names what a request needs the right to, "" if only a token.
func scopeOf(r *http.Request) string {
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	if path == "_catalog" {
		return "registry:catalog:*"
	}
	for _, kind := range []string{"/manifests/", "/blobs/", "/tags/", "/referrers/"} {
		if at := strings.LastIndex(path, kind); at > 0 {
			return "repository:" + path[:at] + ":" + actionOf(r)
		}
	}
	return ""
}

func actionOf(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return "pull"
	case http.MethodDelete:
		return "delete"
	default:
		return "pull,push"
	}
}

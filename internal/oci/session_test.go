package oci

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// front leads all requests for a registry to another, and asks for the:front
// itself.
func front(t *testing.T, address string) *store {
	t.Helper()
	s := newStore(t)
	s.meanwhile(func(w http.ResponseWriter, request *http.Request) bool {
		if user, password, _ := request.BasicAuth(); user != "the" || password != "front" {
			w.Header().Set("WWW-Authenticate", `Basic realm="front"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		http.Redirect(w, request, address+request.URL.RequestURI(), http.StatusTemporaryRedirect)
		return true
	})
	return s
}

// heard are the values of Authorization that hosts were sent.
type heard struct {
	mu     sync.Mutex
	values map[string][]string // by host
}

func (h *heard) listen(request *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.values == nil {
		h.values = map[string][]string{}
	}
	h.values[request.Host] = append(h.values[request.Host], request.Header["Authorization"]...)
}

// check holds that a host was sent nothing else than is allowed.
func (h *heard) check(t *testing.T, host string, allowed ...string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, value := range h.values[host] {
		if !slices.Contains(allowed, value) {
			t.Errorf("%s was sent the credential %q", host, value)
		}
	}
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// behind has a registry want a token, which anybody gets who says wanted (or
// nothing, if that is empty), and has blobs fetched from elsewhere.
func behind(t *testing.T, s *store, wanted string, listen *heard) (storage string) {
	t.Helper()
	keeper := serve(t, http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		listen.listen(request)
		s.inner.ServeHTTP(w, request)
	}))
	s.meanwhile(func(w http.ResponseWriter, request *http.Request) bool {
		listen.listen(request)
		switch {
		case request.URL.Path == "/token":
			if request.Header.Get("Authorization") != wanted {
				w.WriteHeader(http.StatusForbidden)
				return true
			}
			_, _ = io.WriteString(w, `{"token":"pull-`+request.URL.Query().Get("scope")+`"}`)
			return true
		case request.Header.Get("Authorization") != "Bearer pull-repository:linkerd/proxy:pull":
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+s.URL+`/token",service="back",scope="repository:linkerd/proxy:pull"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		case requestOf("GET", "/blobs/")(request):
			http.Redirect(w, request, keeper.URL+request.URL.Path+"?sig=signed", http.StatusTemporaryRedirect)
			return true
		}
		return false
	})
	return strings.TrimPrefix(keeper.URL, "http://")
}

func TestImagesAreReadBehindAFront(t *testing.T) {
	t.Parallel()
	for title, login := range map[string]auth.Credential{
		"by anybody":           {},
		"by who may read them": {Username: "the", Password: "back"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			back, target := newStore(t), newStore(t)
			digest := back.publish(t, "linkerd/proxy", "2.0", "proxy", amd64, arm64)
			listen, wanted := &heard{}, ""
			if login != auth.EmptyCredential {
				wanted = basic(login.Username, login.Password)
			}
			storage := behind(t, back, wanted, listen)
			entrance := front(t, back.URL)
			client := impatient(Options{Keychains: []Keychain{Static(map[string]auth.Credential{
				entrance.host: {Username: "the", Password: "front"}, back.host: login,
			})}})

			found, err := client.Resolve(t.Context(), entrance.at("linkerd/proxy", "2.0"))
			if err != nil || found.Digest != digest || len(found.Platforms) != 2 {
				t.Errorf("resolved to %+v (%v)", found, err)
			}
			outcome := mirror(t, client, entrance.at("linkerd/proxy", "2.0"), target.at("proxy", "2.0"))
			if outcome.Err != nil || outcome.Digest != digest {
				t.Errorf("copied: %+v", outcome)
			}
			listen.check(t, back.host, "Bearer pull-repository:linkerd/proxy:pull", wanted)
			listen.check(t, storage)
			if tokens := back.asked("GET", "/token"); tokens > 3 {
				t.Errorf("%d tokens were asked for", tokens)
			}
		})
	}
}

func TestRefusalsBehindAFrontNameWhoRefused(t *testing.T) {
	t.Parallel()
	back, listen := newStore(t), &heard{}
	behind(t, back, basic("the", "back"), listen)
	entrance := front(t, back.URL)
	image := entrance.at("linkerd/proxy", "2.0")
	client := impatient(Options{Keychains: []Keychain{Static(map[string]auth.Credential{
		entrance.host: {Username: "the", Password: "front"},
	})}})
	_, err := client.Resolve(t.Context(), image)
	if refused, ok := errors.AsType[*UnauthorizedError](err); !ok || refused.Host != back.host || !strings.Contains(Advice(err), back.host) {
		t.Errorf("got %v; %s", err, Advice(err))
	}
	listen.check(t, back.host)

	back.meanwhile(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("WWW-Authenticate", `Basic realm="back"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	if _, err = client.Resolve(t.Context(), image); !isA[*UnauthorizedError](err) || AnsweredBy(err, "") != back.host {
		t.Errorf("got %v", err)
	}
	if outcome := mirror(t, client, image, image); !isA[*UnauthorizedError](outcome.Err) {
		t.Errorf("got %+v", outcome)
	}
}

func TestNothingIsWrittenBehindAFront(t *testing.T) {
	t.Parallel()
	source, back, listen := newStore(t), newStore(t), &heard{}
	source.publish(t, "linkerd/proxy", "2.0", "proxy", amd64)
	behind(t, back, "", listen)
	entrance := front(t, back.URL)
	client := impatient(Options{Keychains: []Keychain{Static(map[string]auth.Credential{
		entrance.host: {Username: "the", Password: "front"},
	})}})
	outcome := mirror(t, client, source.at("linkerd/proxy", "2.0"), entrance.at("linkerd/proxy", "2.0"))
	if !isA[*UnauthorizedError](outcome.Err) || back.asked("PUT", "") != 0 {
		t.Errorf("got %+v", outcome)
	}
	listen.check(t, back.host, "Bearer pull-repository:linkerd/proxy:pull")
}

func TestNobodyIsLedToWhereOthersReadAlong(t *testing.T) {
	t.Parallel()
	entrance := front(t, "http://registry.invalid")
	login := Static(map[string]auth.Credential{
		entrance.host: {Username: "the", Password: "front"}, "registry.invalid": {Username: "me", Password: "hunter2"},
	})
	_, err := impatient(Options{Keychains: []Keychain{login}}).Resolve(t.Context(), entrance.at("proxy", "2.0"))
	if !isA[*AnswerError](err) || !strings.Contains(err.Error(), "http://registry.invalid, which does not encrypt") {
		t.Errorf("got %v", err)
	}
	_, err = impatient(Options{Keychains: []Keychain{login}, PlainHTTP: []string{"registry.invalid"}}).
		Resolve(t.Context(), entrance.at("proxy", "2.0"))
	if !isA[*UnreachableError](err) {
		t.Errorf("where the configuration has it so: %v", err)
	}

	circle := newStore(t)
	circle.meanwhile(func(w http.ResponseWriter, request *http.Request) bool {
		http.Redirect(w, request, request.URL.Path, http.StatusTemporaryRedirect)
		return true
	})
	if _, err = impatient(Options{}).Resolve(t.Context(), circle.at("proxy", "2.0")); err == nil ||
		circle.asked("HEAD", "") != maxRedirects {
		t.Errorf("%v after %d requests", err, circle.asked("HEAD", ""))
	}
}

func TestHostsAreThoseThatCredentialsAreKeptFor(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"https://GHCR.io/v2/": "ghcr.io", "https://ghcr.io:443/v2/": "ghcr.io", "https://ghcr.io:80/": "ghcr.io:80",
		"http://localhost:80/": "localhost", "http://localhost:5000/": "localhost:5000", "https://[::1]:443/": "[::1]",
	} {
		parsed, err := url.Parse(address)
		if err != nil || hostOf(parsed) != want {
			t.Errorf("%s: %s (%v), want %s", address, hostOf(parsed), err, want)
		}
	}
}

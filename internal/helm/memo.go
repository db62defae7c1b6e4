package helm

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
)

// memo answers again what an API server has answered, for as long as an update takes. Helm reads each object two or
// three times in the course of one, which is most of the requests of an upgrade, and would compute its patch from
// another state of the object than the one that was looked at before.
type memo struct {
	mu      sync.Mutex
	answers map[string]remembered // by URL and wanted content type; nil if nothing is to be kept
}

type remembered struct {
	path     string
	response http.Response // without its body
	body     []byte
}

func (m *memo) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answers = map[string]remembered{}
}

func (m *memo) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answers = nil
}

// recall returns what a request was answered before, nil if it was not. A request that changes an object makes what
// was answered about it forgotten.
func (m *memo) recall(request *http.Request) *http.Response {
	m.mu.Lock()
	defer m.mu.Unlock()
	if request.Method != http.MethodGet {
		for key, answer := range m.answers {
			// Creations go to the collection, and concern what was not found there.
			created := request.Method == http.MethodPost && answer.response.StatusCode == http.StatusNotFound &&
				strings.HasPrefix(answer.path, request.URL.Path+"/")
			if created || answer.path == request.URL.Path {
				delete(m.answers, key)
			}
		}
		return nil
	}
	answer, ok := m.answers[keyOf(request)]
	if !ok {
		return nil
	}
	response := answer.response
	response.Header = response.Header.Clone()
	response.Request = request
	response.Body = io.NopCloser(bytes.NewReader(answer.body))
	return &response
}

// keep remembers an answer that tells what an object is, or that it is not, and leaves it as it was. It reads the body
// for that, and closes it if this fails.
func (m *memo) keep(request *http.Request, response *http.Response) error {
	telling := response.StatusCode == http.StatusOK || response.StatusCode == http.StatusNotFound
	if !m.active() || request.Method != http.MethodGet || !telling {
		return nil
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		return err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	answer := remembered{path: request.URL.Path, response: *response, body: body}
	answer.response.Body = nil
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.answers != nil {
		m.answers[keyOf(request)] = answer
	}
	return nil
}

func (m *memo) active() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.answers != nil
}

func keyOf(request *http.Request) string {
	return request.Header.Get("Accept") + " " + request.URL.String()
}

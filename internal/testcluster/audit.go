package testcluster

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// AuditEvent is one request that the API server has answered.
type AuditEvent struct {
	// Time is when the request arrived.
	Time time.Time
	// Verb is the Kubernetes verb: get, list, watch, create, update, patch,
	// delete or deletecollection; for other paths the HTTP method, lower-case.
	Verb string
	// Path is the URL's path and query.
	Path string
	// UserAgent and User tell who asked.
	UserAgent, User string
	// Code is the HTTP status of the answer.
	Code int
	// Group, Resource (such as "deployments"), Subresource, Namespace and Name
	// are empty where the request has none.
	Group, Resource, Subresource, Namespace, Name string
}

// errNoAuditLog is a mistake of the caller: see Options.AuditLog.
var errNoAuditLog = errors.New("the cluster was started without an audit log")

// AuditEvents returns the requests that arrived at or after since and have
// been answered, in the order of their answers. Watches count when they end.
func (c *Cluster) AuditEvents(since time.Time) ([]AuditEvent, error) {
	if c.endpoints.AuditLog == "" {
		return nil, errNoAuditLog
	}

	file, err := os.Open(c.endpoints.AuditLog)
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	defer file.Close() //nolint:errcheck // It was only read.

	return readAuditEvents(file, since)
}

// auditRecord is the part of an audit.k8s.io/v1 Event that is of use here; the
// API server's own type would bring its whole library into every test.
type auditRecord struct {
	Stage                    string    `json:"stage"`
	RequestReceivedTimestamp time.Time `json:"requestReceivedTimestamp"`
	Verb                     string    `json:"verb"`
	RequestURI               string    `json:"requestURI"`
	UserAgent                string    `json:"userAgent"`
	User                     struct {
		Username string `json:"username"`
	} `json:"user"`
	ObjectRef struct {
		APIGroup    string `json:"apiGroup"`
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

func readAuditEvents(r io.Reader, since time.Time) ([]AuditEvent, error) {
	var events []AuditEvent

	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			// A line without its end is still being written.
			return events, nil
		}

		if err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}

		var record auditRecord
		if err := json.Unmarshal(line, &record); err != nil {
			return nil, fmt.Errorf("decode the audit log: %w", err)
		}

		if record.Stage != "ResponseComplete" || record.RequestReceivedTimestamp.Before(since) {
			continue
		}

		events = append(events, AuditEvent{
			Time:        record.RequestReceivedTimestamp,
			Verb:        record.Verb,
			Path:        record.RequestURI,
			UserAgent:   record.UserAgent,
			User:        record.User.Username,
			Code:        record.ResponseStatus.Code,
			Group:       record.ObjectRef.APIGroup,
			Resource:    record.ObjectRef.Resource,
			Subresource: record.ObjectRef.Subresource,
			Namespace:   record.ObjectRef.Namespace,
			Name:        record.ObjectRef.Name,
		})
	}
}

package linkerd

// This file stands in for the HTTPS servers of Linkerd's admission webhooks.

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// reviewLimit is the size of the largest request that the API server sends:
// an object and its old version, each as large as etcd takes them.
const reviewLimit = 8 << 20

// stopGrace is how long answers that are under way may take when a pod ends.
const stopGrace = 5 * time.Second

// A review answers an admission request. An error refuses it, as Linkerd's
// webhooks do when they cannot tell.
type review func(ctx context.Context, request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error)

// A webhookServer is one webhook of a pod, or another server with a certificate
// of the same kind; that has no answer.
type webhookServer struct {
	// port is the container port it listens on.
	port int
	// secret of type kubernetes.io/tls holds its certificate, mounted with a lag.
	secret string
	lag    time.Duration
	// checkKey, unless nil, has a say about private keys.
	checkKey func(keyPEM []byte) error
	answer   review
}

// serveWebhook serves w until the instance stops.
func (i *instance) serveWebhook(ctx context.Context, c *clients, log *slog.Logger, w webhookServer) error {
	return i.serveSecured(ctx, c, log, w, handler(log, w.answer))
}

// serveSecured serves handler with the certificate of w until the instance
// stops. A new certificate in the Secret is taken up, unless it cannot be read.
func (i *instance) serveSecured(ctx context.Context, c *clients, log *slog.Logger, w webhookServer, handler http.Handler) error {
	var certificate atomic.Pointer[tls.Certificate]
	load := func(files map[string][]byte) error {
		if w.checkKey != nil {
			if err := w.checkKey(files[corev1.TLSPrivateKeyKey]); err != nil {
				return err
			}
		}
		pair, err := tls.X509KeyPair(files[corev1.TLSCertKey], files[corev1.TLSPrivateKeyKey])
		if err != nil {
			return err
		}
		certificate.Store(&pair)
		return nil
	}
	m, err := i.secret(ctx, c, w.secret, w.lag, func(files map[string][]byte) {
		if err := load(files); err != nil {
			log.Error("cannot use new webhook certificate", "secret", w.secret, "error", err)
		}
	})
	if err != nil {
		return err
	}
	if err := load(m.Files()); err != nil {
		return fmt.Errorf("certificate of Secret %s/%s: %w", c.namespace, w.secret, err)
	}

	return i.serve(ctx, log, w.port, handler, &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return certificate.Load(), nil
		},
	})
}

// serve serves handler on a container port until the instance stops, by HTTPS
// if there is a configuration for it.
func (i *instance) serve(ctx context.Context, log *slog.Logger, port int, handler http.Handler, secured *tls.Config) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for container port %d: %w", port, err)
	}
	i.addresses[port] = listener.Addr().String()
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		TLSConfig:         secured,
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var err error
		if secured == nil {
			err = server.Serve(listener)
		} else {
			err = server.ServeTLS(listener, "", "")
		}
		if !errors.Is(err, http.ErrServerClosed) {
			log.Error("server ended", "containerPort", port, "error", err)
		}
	}()
	i.onStop(func() {
		// Who is being answered gets the answer, if it does not take too long.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer cancel()
		_ = errors.Join(server.Shutdown(ctx), server.Close())
		<-done
	})
	return nil
}

// handler serves answer as admission.k8s.io/v1.
func handler(log *slog.Logger, answer review) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		var review admissionv1.AdmissionReview
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, reviewLimit))
		if err == nil {
			err = json.Unmarshal(body, &review)
		}
		if err == nil && review.Request == nil {
			err = errors.New("review without a request")
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		request := review.Request
		response, err := answer(r.Context(), request)
		if err != nil {
			log.Info("admission refused", "kind", request.Kind.Kind,
				"namespace", request.Namespace, "name", request.Name, "reason", err)
			response = &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: err.Error()}}
		}
		response.UID = request.UID
		review.Request, review.Response = nil, response
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(review); err != nil {
			log.Debug("admission response not delivered", "error", err)
		}
	})
}

// validating turns a check into the review of a validating webhook.
func validating(check func(ctx context.Context, request *admissionv1.AdmissionRequest) error) review {
	return func(ctx context.Context, request *admissionv1.AdmissionRequest) (*admissionv1.AdmissionResponse, error) {
		if err := check(ctx, request); err != nil {
			return nil, err
		}
		return &admissionv1.AdmissionResponse{Allowed: true}, nil
	}
}

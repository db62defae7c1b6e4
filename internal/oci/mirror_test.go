package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// mirror does one task.
func mirror(t *testing.T, client *Client, from, to Reference) Outcome {
	t.Helper()
	return client.Mirror(t.Context(), []Task{{From: from, To: to, Move: true}}, MirrorOptions{})[0]
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func TestMirrorCopiesAllPlatformsOnce(t *testing.T) {
	t.Parallel()
	source, target, client := newStore(t), newStore(t), impatient(Options{})
	digest := source.publish(t, "linkerd/proxy", "2.0", "proxy", amd64, arm64)
	from, to := source.at("linkerd/proxy", "2.0"), target.at("mirror/linkerd/proxy", "2.0")

	var sent, skipped atomic.Int64
	tasks := []Task{{From: from, To: to}}
	outcome := client.Mirror(t.Context(), tasks, MirrorOptions{Progress: func(progress Progress) {
		if progress.From.Repository != from.Repository || progress.To != to || progress.Size == 0 {
			t.Errorf("progress says %+v", progress)
		}
		if progress.Skipped {
			skipped.Add(1)
		} else {
			sent.Add(1)
		}
	}})[0]
	if outcome.Err != nil || outcome.Digest != digest || !outcome.Placed || outcome.Unverified != nil {
		t.Fatalf("first: %+v", outcome)
	}
	if sent.Load() != blobsOfTwo+4 || skipped.Load() != 0 {
		t.Errorf("%d blobs and manifests were sent, %d skipped", sent.Load(), skipped.Load())
	}
	there, err := client.Resolve(t.Context(), to)
	if err != nil || there.Digest != digest || !slices.Equal(there.Platforms, []string{"linux/amd64", "linux/arm64"}) {
		t.Errorf("in the mirror is %+v (%v)", there, err)
	}

	source.forget()
	target.forget()
	outcome = mirror(t, client, from, to)
	if outcome.Err != nil || outcome.Digest != digest || outcome.Placed {
		t.Errorf("second: %+v", outcome)
	}
	for name, store := range map[string]*store{"source": source, "target": target} {
		if all, heads := store.asked("", ""), store.asked("HEAD", "/manifests/2.0"); all != heads || heads != 1 {
			t.Errorf("of the %s, %d requests were made for what is there: %q", name, all, store.requests)
		}
	}

	pinned := Reference{Registry: "unreachable.invalid", Repository: "linkerd/proxy", Digest: digest}
	if outcome = mirror(t, client, pinned, to); outcome.Err != nil || outcome.Placed {
		t.Errorf("by digest, with nobody to ask: %+v", outcome)
	}
}

func TestMirrorPutsAMovedTagBack(t *testing.T) {
	t.Parallel()
	source, target, client := newStore(t), newStore(t), impatient(Options{})
	digest := source.publish(t, "proxy", "2.0", "proxy", amd64)
	from, to := source.at("proxy", "2.0"), target.at("proxy", "2.0")
	if outcome := mirror(t, client, from, to); outcome.Err != nil {
		t.Fatal(outcome.Err)
	}
	target.publish(t, "proxy", "2.0", "somebody else's", amd64)
	source.forget()
	outcome := mirror(t, client, from, to)
	if outcome.Err != nil || outcome.Digest != digest || !outcome.Placed {
		t.Errorf("got %+v", outcome)
	}
	if there, err := client.digest(t.Context(), to); err != nil || there != digest {
		t.Errorf("the tag leads to %s (%v)", there, err)
	}
	if blobs := source.asked("GET", "/blobs/") + target.asked("PUT", "/blobs/"); blobs != 0 {
		t.Errorf("%d blobs went again", blobs)
	}
}

func TestMirrorLeavesTagsOfOthers(t *testing.T) {
	t.Parallel()
	source, target, client := newStore(t), newStore(t), impatient(Options{})
	digest := source.publish(t, "proxy", "2.0", "proxy", amd64)
	theirs := target.publish(t, "proxy", "2.0", "somebody else's", amd64)
	task := Task{From: source.at("proxy", "2.0"), To: target.at("proxy", "2.0")}
	never := func(context.Context, Task) error {
		t.Error("it was imported")
		return nil
	}
	for title, options := range map[string]MirrorOptions{"copy": {}, "import": {Import: never}} {
		outcome := client.Mirror(t.Context(), []Task{task}, options)[0]
		if taken, ok := errors.AsType[*TakenError](outcome.Err); !ok || *taken != (TakenError{Reference: task.To, Want: digest, Got: theirs}) {
			t.Errorf("%s: %+v", title, outcome)
		}
	}
	if there, err := client.digest(t.Context(), task.To); err != nil || there != theirs {
		t.Errorf("the tag leads to %s (%v)", there, err)
	}
}

func TestMirrorKeepsImagesWithoutTagsByTheirDigest(t *testing.T) {
	t.Parallel()
	source, target, client := newStore(t), newStore(t), impatient(Options{})
	digest := source.publish(t, "proxy", "2.0", "proxy", amd64)
	from := Reference{Registry: source.host, Repository: "proxy", Digest: digest}
	outcome := mirror(t, client, from, target.at("proxy", ""))
	if outcome.Err != nil || outcome.Digest != digest {
		t.Fatalf("got %+v", outcome)
	}
	if _, err := client.Resolve(t.Context(), Reference{Registry: target.host, Repository: "proxy", Digest: digest}); err != nil {
		t.Error(err)
	}
	if outcome = mirror(t, client, from, target.at("proxy", "")); outcome.Placed || outcome.Err != nil {
		t.Errorf("again: %+v", outcome)
	}
}

func TestMirrorOutlivesRegistriesThatFailForAMoment(t *testing.T) {
	t.Parallel()
	failWith := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
	}
	for title, test := range map[string]struct {
		source, target func(http.ResponseWriter, *http.Request) bool
	}{
		"throttled manifest":     {source: times(2, requestOf("HEAD", "/manifests/"), failWith(http.StatusTooManyRequests))},
		"failing blob":           {source: times(3, requestOf("GET", "/blobs/"), failWith(http.StatusBadGateway))},
		"failing upload":         {target: once(requestOf("PUT", "/blobs/"), failWith(http.StatusServiceUnavailable))},
		"throttled upload":       {target: times(2, requestOf("POST", "/blobs/uploads/"), failWith(http.StatusTooManyRequests))},
		"throttled blob":         {target: times(4, requestOf("PUT", "/blobs/"), failWith(http.StatusTooManyRequests))},
		"throttled last step":    {target: times(4, requestOf("PUT", "/manifests/"), failWith(http.StatusTooManyRequests))},
		"failing manifest":       {target: times(2, requestOf("PUT", "/manifests/"), failWith(http.StatusInternalServerError))},
		"failing to tell":        {target: times(2, requestOf("HEAD", "/"), failWith(http.StatusGatewayTimeout))},
		"request that timed out": {target: once(requestOf("HEAD", "/"), failWith(http.StatusRequestTimeout))},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			source, target, client := newStore(t), newStore(t), impatient(Options{})
			digest := source.publish(t, "proxy", "2.0", "proxy", amd64, arm64)
			source.meanwhile(test.source)
			target.meanwhile(test.target)
			outcome := mirror(t, client, source.at("proxy", "2.0"), target.at("proxy", "2.0"))
			if outcome.Err != nil || outcome.Digest != digest {
				t.Errorf("got %+v", outcome)
			}
		})
	}
}

func TestMirrorWaitsAsLongAsUploadsAreThrottled(t *testing.T) {
	t.Parallel()
	for after, waits := range map[string]bool{"7": true, "21600": false} {
		t.Run(after, func(t *testing.T) {
			t.Parallel()
			source, target, client := newStore(t), newStore(t), impatient(Options{})
			digest := source.publish(t, "proxy", "2.0", "proxy", amd64, arm64)
			// Every second upload is refused: as something comes of each attempt, all do.
			var turn atomic.Int64
			target.meanwhile(func(w http.ResponseWriter, request *http.Request) bool {
				if !requestOf("PUT", "/blobs/")(request) || turn.Add(1)%2 == 0 {
					return false
				}
				w.Header().Set("Retry-After", after)
				w.WriteHeader(http.StatusTooManyRequests)
				return true
			})
			asked := map[time.Duration]bool{}
			client.pauses = func(_ int, patience time.Duration) time.Duration {
				asked[patience] = true
				return time.Microsecond
			}
			outcome := mirror(t, client, source.at("proxy", "2.0"), target.at("proxy", "2.0"))
			switch {
			case waits && (outcome.Err != nil || outcome.Digest != digest || len(asked) != 1 || !asked[7*time.Second]):
				t.Errorf("got %+v after waiting %v", outcome, asked)
			case !waits && (!isA[*ThrottledError](outcome.Err) || len(asked) != 0):
				t.Errorf("got %+v after waiting %v", outcome, asked)
			}
		})
	}
}

func TestMirrorEndsWhereEachUploadIsThrottled(t *testing.T) {
	t.Parallel()
	source, target, client := newStore(t), newStore(t), impatient(Options{})
	source.publish(t, "proxy", "2.0", "proxy", amd64)
	target.meanwhile(func(w http.ResponseWriter, request *http.Request) bool {
		if requestOf("PUT", "/blobs/")(request) {
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		}
		return false
	})
	outcome := mirror(t, client, source.at("proxy", "2.0"), target.at("proxy", "2.0"))
	if !isA[*ThrottledError](outcome.Err) {
		t.Errorf("got %+v", outcome)
	}
}

func TestMirrorGoesOnWhenAConnectionBreaks(t *testing.T) {
	t.Parallel()
	source, target, client := newStore(t), newStore(t), impatient(Options{})
	digest := source.publish(t, "proxy", "2.0", "proxy", amd64)
	source.meanwhile(once(requestOf("GET", "/blobs/"), func(w http.ResponseWriter, request *http.Request) {
		whole := httptest.NewRecorder()
		source.inner.ServeHTTP(whole, request)
		w.Header().Set("Content-Length", strconv.Itoa(whole.Body.Len()))
		_, _ = w.Write(whole.Body.Bytes()[:whole.Body.Len()/2])
		panic(http.ErrAbortHandler)
	}))
	outcome := mirror(t, client, source.at("proxy", "2.0"), target.at("proxy", "2.0"))
	if outcome.Err != nil || outcome.Digest != digest {
		t.Errorf("got %+v", outcome)
	}
}

func TestMirrorResumesWhereItWasInterrupted(t *testing.T) {
	t.Parallel()
	source, target, client := newStore(t), newStore(t), impatient(Options{})
	digest := source.publish(t, "proxy", "2.0", "proxy", amd64, arm64)
	var uploads atomic.Int64
	target.meanwhile(func(w http.ResponseWriter, request *http.Request) bool {
		if requestOf("PUT", "/blobs/")(request) && uploads.Add(1) > 3 {
			w.WriteHeader(http.StatusInsufficientStorage)
			return true
		}
		return false
	})
	outcome := mirror(t, client, source.at("proxy", "2.0"), target.at("proxy", "2.0"))
	if !isA[*UnreachableError](outcome.Err) || outcome.Digest != "" {
		t.Fatalf("while the target has no room: %+v", outcome)
	}

	target.meanwhile(nil)
	target.forget()
	outcome = mirror(t, client, source.at("proxy", "2.0"), target.at("proxy", "2.0"))
	if outcome.Err != nil || outcome.Digest != digest {
		t.Fatalf("afterwards: %+v", outcome)
	}
	if again := target.asked("PUT", "/blobs/"); again != blobsOfTwo-3 {
		t.Errorf("%d blobs were sent afterwards, want %d", again, blobsOfTwo-3)
	}
}

func TestMirrorGivesUpOnThrottlingThatLasts(t *testing.T) {
	t.Parallel()
	source, client := newStore(t), impatient(Options{})
	source.meanwhile(func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Retry-After", "21600")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	outcome := mirror(t, client, source.at("proxy", "2.0"), source.at("copy", "2.0"))
	if !isA[*ThrottledError](outcome.Err) || source.asked("", "") != 1 {
		t.Errorf("got %v after %d requests", outcome.Err, source.asked("", ""))
	}
	if advice := Advice(outcome.Err); !strings.Contains(advice, "later") {
		t.Errorf("the advice is %q", advice)
	}
	if advice := Advice(&ThrottledError{Host: "registry-1.docker.io"}); !strings.Contains(advice, "docker login") {
		t.Errorf("the advice for Docker Hub is %q", advice)
	}
}

func TestMirrorBringsAsManyImagesAtOnceAsItMay(t *testing.T) {
	t.Parallel()
	const parallel, images = 3, 12
	store, client := newStore(t), impatient(Options{})
	var tasks []Task
	for i := range images {
		name := fmt.Sprintf("image%d", i)
		store.publish(t, name, "1", name, amd64)
		tasks = append(tasks, Task{From: store.at(name, "1"), To: store.at("mirror/"+name, "1")})
	}
	var working, most atomic.Int64
	var once sync.Once
	full := make(chan struct{}) // closed when as many are at work as may be
	outcomes := client.Mirror(t.Context(), tasks, MirrorOptions{
		Parallel: parallel,
		Import: func(ctx context.Context, task Task) error {
			now := working.Add(1)
			defer working.Add(-1)
			for before := most.Load(); now > before && !most.CompareAndSwap(before, now); {
				before = most.Load()
			}
			if now == parallel {
				once.Do(func() { close(full) })
			}
			<-full
			return client.copy(ctx, task.From, task.To, nil)
		},
	})
	for i, outcome := range outcomes {
		if outcome.Err != nil || !outcome.Placed || outcome.Digest == "" {
			t.Errorf("image %d: %+v", i, outcome)
		}
	}
	if most.Load() != parallel {
		t.Errorf("%d images were on their way at once, want %d", most.Load(), parallel)
	}
}

func TestMirrorImportsByDigestAndLooksAtWhatCame(t *testing.T) {
	t.Parallel()
	source, target, client := newStore(t), newStore(t), impatient(Options{})
	digest := source.publish(t, "proxy", "2.0", "proxy", amd64)
	other := source.publish(t, "other", "2.0", "other", amd64)
	from, to := source.at("proxy", "2.0"), target.at("proxy", "2.0")
	refused := errors.New("the registry cannot fetch it")
	byImport := func(do func(ctx context.Context, task Task) error, tasks ...Task) []Outcome {
		return client.Mirror(t.Context(), tasks, MirrorOptions{Import: do})
	}

	outcomes := byImport(func(ctx context.Context, task Task) error {
		from, to := task.From, task.To
		if from.Tag != "" || from.Digest != digest || to.String() != target.at("proxy", "2.0").String() {
			t.Errorf("import of %s to %s", from, to)
		}
		from.Digest, from.Repository = other, "other"
		return client.copy(ctx, from, to, nil)
	}, Task{From: from, To: to})
	if wrong, ok := errors.AsType[*DigestError](outcomes[0].Err); !ok || wrong.Want != digest || wrong.Got != other {
		t.Errorf("another image came, and the outcome is %+v", outcomes[0])
	}

	outcomes = byImport(func(ctx context.Context, task Task) error {
		if task.To.Repository == "refused" {
			return refused
		}
		return client.copy(ctx, task.From, task.To, nil)
	}, Task{From: from, To: target.at("refused", "2.0")}, Task{From: from, To: to, Move: true}, Task{From: from, To: to})
	if !errors.Is(outcomes[0].Err, refused) || outcomes[0].Placed {
		t.Errorf("the refused one: %+v", outcomes[0])
	}
	if outcomes[1] != (Outcome{Digest: digest, Placed: true}) || outcomes[2] != (Outcome{Digest: digest}) {
		t.Errorf("the others: %+v", outcomes[1:])
	}
}

func TestMirrorWaitsForReplicas(t *testing.T) {
	t.Parallel()
	source, target := newStore(t), newStore(t)
	digest := source.publish(t, "proxy", "2.0", "proxy", amd64)
	other := target.publish(t, "proxy", "2.0", "other", amd64)
	to := target.at("proxy", "2.0")
	missing := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	older := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Docker-Content-Digest", other)
		w.Header().Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		w.Header().Set("Content-Length", "2")
	})
	for title, test := range map[string]struct {
		answer http.Handler
		times  int
		came   bool
	}{
		"without it for a moment":   {missing, 3, true},
		"with another for a moment": {older, 3, true},
		"without it for good":       {missing, 100, false},
	} {
		client := impatient(Options{})
		outcome := client.Mirror(t.Context(), []Task{{From: source.at("proxy", "2.0"), To: to, Move: true}}, MirrorOptions{
			Import: func(ctx context.Context, task Task) error {
				err := client.copy(ctx, task.From, task.To, nil)
				target.meanwhile(times(test.times, requestOf("HEAD", "/manifests/"), test.answer.ServeHTTP))
				return err
			},
		})[0]
		target.meanwhile(nil)
		if test.came && outcome != (Outcome{Digest: digest, Placed: true}) || !test.came && !isA[*UnknownError](outcome.Err) {
			t.Errorf("%s: %+v", title, outcome)
		}
		target.publish(t, "proxy", "2.0", "other", amd64)
	}
}

func TestMirrorLooksAtWhatRefusedImportsLeft(t *testing.T) {
	t.Parallel()
	source := newStore(t)
	digest := source.publish(t, "proxy", "2.0", "proxy", amd64)
	other := source.publish(t, "other", "2.0", "other", amd64)
	refusal := errors.New("already exists in target registry")
	for title, test := range map[string]struct {
		brings string // before it is refused
		move   bool
		check  func(Outcome) bool
	}{
		"the image":                   {digest, false, func(o Outcome) bool { return o == Outcome{Digest: digest, Placed: true} }},
		"nothing":                     {"", false, func(o Outcome) bool { return errors.Is(o.Err, refusal) }},
		"another":                     {other, false, func(o Outcome) bool { return isA[*TakenError](o.Err) && o.Digest == "" }},
		"another, which may be moved": {other, true, func(o Outcome) bool { return errors.Is(o.Err, refusal) }},
	} {
		target, client := newStore(t), impatient(Options{})
		outcome := client.Mirror(t.Context(), []Task{{From: source.at("proxy", "2.0"), To: target.at("proxy", "2.0"), Move: test.move}}, MirrorOptions{
			Import: func(ctx context.Context, task Task) error {
				if test.brings == "" {
					return refusal
				}
				from := source.at(map[string]string{digest: "proxy", other: "other"}[test.brings], "")
				from.Digest = test.brings
				if err := client.copy(ctx, from, task.To, nil); err != nil {
					return err
				}
				return refusal
			},
		})[0]
		if !test.check(outcome) {
			t.Errorf("%s: %+v", title, outcome)
		}
	}
}

func TestMirrorImportsIntoRegistriesThatLetNobodyIn(t *testing.T) {
	t.Parallel()
	target, client := newStore(t), impatient(Options{})
	target.meanwhile(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED","message":"client with IP '192.0.2.7' is not allowed access. `+
			`Refer https://aka.ms/acr/firewall to grant access."}]}`)
		return true
	})
	digest := "sha256:" + strings.Repeat("0a", 32)
	task := Task{From: Reference{Registry: "ghcr.io", Repository: "proxy", Tag: "2", Digest: digest}, To: target.at("proxy", "2")}
	imported := 0
	outcome := client.Mirror(t.Context(), []Task{task}, MirrorOptions{Import: func(context.Context, Task) error {
		imported++
		return nil
	}})[0]
	if imported != 1 || outcome.Err != nil || outcome.Digest != digest || !outcome.Placed || !isA[*UnreachableError](outcome.Unverified) {
		t.Errorf("imported %d times: %+v", imported, outcome)
	}
	outcome = client.Mirror(t.Context(), []Task{task}, MirrorOptions{})[0]
	if !isA[*UnreachableError](outcome.Err) || !strings.Contains(Advice(outcome.Err), "network rules") {
		t.Errorf("a copy ends with %v, and the advice %q", outcome.Err, Advice(outcome.Err))
	}
}

func TestMirrorImportsWithoutTheRightToRead(t *testing.T) {
	t.Parallel()
	target := newStore(t)
	guarded(target)
	digest := "sha256:" + strings.Repeat("0a", 32)
	task := Task{From: Reference{Registry: "ghcr.io", Repository: "proxy", Digest: digest}, To: target.at("proxy", "2")}
	imported := 0
	outcome := impatient(Options{}).Mirror(t.Context(), []Task{task}, MirrorOptions{Import: func(context.Context, Task) error {
		imported++
		return nil
	}})[0]
	if imported != 1 || outcome.Err != nil || outcome.Digest != digest || !isA[*UnauthorizedError](outcome.Unverified) {
		t.Errorf("imported %d times: %+v", imported, outcome)
	}
	if outcome = mirror(t, impatient(Options{}), task.From, task.To); !isA[*UnauthorizedError](outcome.Err) {
		t.Errorf("a copy: %+v", outcome)
	}
}

func TestMirrorEndsWithItsContext(t *testing.T) {
	t.Parallel()
	source, target, client := newStore(t), newStore(t), impatient(Options{})
	source.publish(t, "proxy", "2.0", "proxy", amd64)
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	source.meanwhile(func(_ http.ResponseWriter, request *http.Request) bool {
		if !requestOf("GET", "/blobs/")(request) {
			return false
		}
		cancel(enough)
		<-request.Context().Done()
		return true
	})
	outcome := client.Mirror(ctx, []Task{{From: source.at("proxy", "2.0"), To: target.at("proxy", "2.0")}}, MirrorOptions{})[0]
	if !errors.Is(outcome.Err, enough) {
		t.Errorf("got %v", outcome.Err)
	}
}

func TestMessagesHoldNoSignedAddresses(t *testing.T) {
	t.Parallel()
	source, target, client := newStore(t), newStore(t), impatient(Options{})
	source.publish(t, "proxy", "2.0", "proxy", amd64)
	storage := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
	}))
	gone := serve(t, http.NotFoundHandler())
	_ = gone.Config.Close()
	for _, address := range []string{storage.URL, gone.URL} {
		source.meanwhile(func(w http.ResponseWriter, request *http.Request) bool {
			if !requestOf("GET", "/blobs/")(request) {
				return false
			}
			http.Redirect(w, request, address+"/blob?sv=1&sig=hunter2", http.StatusTemporaryRedirect)
			return true
		})
		outcome := mirror(t, client, source.at("proxy", "2.0"), target.at("proxy", "2.0"))
		if outcome.Err == nil || strings.Contains(outcome.Err.Error(), "hunter2") {
			t.Errorf("got %v", outcome.Err)
		}
	}
}

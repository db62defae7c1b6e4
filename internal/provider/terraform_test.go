package provider

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The tests of this file's users run the provider as it is released: in a
// process of its own, started by the real Terraform. plugin-testing runs it in
// the test's process, which can be neither interrupted nor killed nor measured.

const (
	// terraformTimeout bounds one run of Terraform; it is for machines under load.
	terraformTimeout = 5 * time.Minute

	providerExecutable = "terraform-provider-aksmesh"

	processPoll = 5 * time.Millisecond
)

// providerBuild is a provider's executable, built when a test first needs it.
type providerBuild struct {
	executable, source string // its name, and its package

	once sync.Once
	dir  string
	err  error
}

var (
	builtProvider = providerBuild{executable: providerExecutable, source: "github.com/aksmesh/terraform-provider-aksmesh"}
	builtAzurerm  = providerBuild{executable: "terraform-provider-azurerm", source: "github.com/aksmesh/terraform-provider-aksmesh/tools/azurerm"}
)

// directory returns the directory that holds the executable and nothing else.
func (b *providerBuild) directory(t testing.TB) string {
	t.Helper()
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", b.executable+"-"); b.err != nil { //nolint:usetesting // It outlives the test that is the first.
			return
		}
		command := exec.CommandContext(context.WithoutCancel(t.Context()), "go", "build", "-buildvcs=false", "-ldflags", "-s -w",
			"-o", filepath.Join(b.dir, b.executable), b.source)
		// As it is released: with cgo, kustomize's plugin loader, which Helm brings
		// along, has the linker keep every symbol.
		command.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := command.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("build %s: %w\n%s", b.executable, err, output)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.dir
}

// remove deletes the executable after the tests.
func (b *providerBuild) remove() {
	if b.dir != "" {
		_ = os.RemoveAll(b.dir)
	}
}

// workspace is a directory with a configuration and its state.
type workspace struct {
	t   testing.TB
	dir string
	env []string
}

// newWorkspace makes a workspace of a configuration. Terraform sees none of the
// settings of whoever runs the test, but the variables given here.
func newWorkspace(t testing.TB, config string, env ...string) *workspace {
	t.Helper()
	w := &workspace{t: t, dir: t.TempDir()}
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "KUBE") && !strings.HasPrefix(entry, "TF_") && !strings.HasPrefix(entry, "XDG_") && !strings.HasPrefix(entry, "HOME=") {
			w.env = append(w.env, entry)
		}
	}
	cli := filepath.Join(w.dir, "terraformrc")
	w.env = append(w.env, "HOME="+t.TempDir(), "TF_CLI_CONFIG_FILE="+cli, "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1")
	w.env = append(w.env, env...)
	w.install(map[string]string{"aksmesh/aksmesh": builtProvider.directory(t)})
	w.file("versions.tf", "terraform {\n  required_providers {\n    aksmesh = { source = \"aksmesh/aksmesh\" }\n  }\n}\n")
	w.write(config)
	return w
}

// install tells Terraform where the executables of providers are.
func (w *workspace) install(providers map[string]string) {
	w.t.Helper()
	var overrides strings.Builder
	for _, source := range slices.Sorted(maps.Keys(providers)) {
		fmt.Fprintf(&overrides, "    %q = %q\n", source, providers[source])
	}
	w.file("terraformrc", "provider_installation {\n  dev_overrides {\n"+overrides.String()+"  }\n  direct {}\n}\n")
}

// write replaces the configuration.
func (w *workspace) write(config string) {
	w.t.Helper()
	w.file("main.tf", config)
}

func (w *workspace) file(name, content string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// stateFile is the name of the state in a workspace.
const stateFile = "terraform.tfstate"

// stateBytes is the state as it is written; nothing if there is none yet.
func (w *workspace) stateBytes() []byte {
	w.t.Helper()
	content, err := os.ReadFile(filepath.Join(w.dir, stateFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	return content
}

// terraformState is the part of a state file that tests look at.
type terraformState struct {
	Resources []struct {
		Type      string `json:"type"`
		Name      string `json:"name"`
		Instances []struct {
			Status       string         `json:"status,omitempty"`
			Attributes   map[string]any `json:"attributes"`
			Dependencies []string       `json:"dependencies,omitempty"`
		} `json:"instances"`
	} `json:"resources"`
}

// attributes returns the attributes of each resource in the state by address.
func (w *workspace) attributes() map[string]map[string]any {
	w.t.Helper()
	found := map[string]map[string]any{}
	content := w.stateBytes()
	if len(content) == 0 {
		return found
	}
	var state terraformState
	if err := json.Unmarshal(content, &state); err != nil {
		w.t.Fatalf("state: %v", err)
	}
	for _, r := range state.Resources {
		for _, instance := range r.Instances {
			found[r.Type+"."+r.Name] = instance.Attributes
		}
	}
	return found
}

// attribute returns one attribute that is a string.
func (w *workspace) attribute(address, name string) string {
	w.t.Helper()
	value, ok := w.attributes()[address][name].(string)
	if !ok {
		w.t.Fatalf("%s.%s is not a string in the state", address, name)
	}
	return value
}

// run runs Terraform to its end.
func (w *workspace) run(args ...string) outcome {
	w.t.Helper()
	return w.start(args...).wait()
}

// succeed is run for a command that must succeed.
func (w *workspace) succeed(args ...string) outcome {
	w.t.Helper()
	got := w.run(args...)
	if got.code != 0 {
		w.t.Fatalf("terraform %s: exit code %d\n%s", args[0], got.code, got.output)
	}
	return got
}

// apply applies the configuration.
func (w *workspace) apply() {
	w.t.Helper()
	w.succeed("apply", "-auto-approve", "-no-color")
}

// expectNoChanges plans, and wants nothing planned.
func (w *workspace) expectNoChanges() {
	w.t.Helper()
	if got := w.run("plan", "-detailed-exitcode", "-no-color"); got.code != 0 {
		w.t.Fatalf("a plan with nothing to do: exit code %d\n%s", got.code, got.output)
	}
}

// execution is a run of Terraform that is under way.
type execution struct {
	t       testing.TB
	args    []string
	process *exec.Cmd
	output  bytes.Buffer
	done    chan struct{}
	ended   time.Time // set before done is closed
}

// start begins to run Terraform.
func (w *workspace) start(args ...string) *execution {
	w.t.Helper()
	path := os.Getenv("TF_ACC_TERRAFORM_PATH")
	if path == "" {
		var err error
		if path, err = exec.LookPath("terraform"); err != nil {
			w.t.Fatal(err)
		}
	}
	// Without CommandContext: that would kill Terraform at the end of a test,
	// and leave its provider behind.
	e := &execution{t: w.t, args: args, process: exec.Command(path, args...), done: make(chan struct{})}
	e.process.Dir, e.process.Env = w.dir, w.env
	e.process.Stdout, e.process.Stderr = &e.output, &e.output
	// Its own group, so that an interrupt reaches Terraform alone and not its provider.
	e.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := e.process.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		// The exit code is read from the state of the process.
		_ = e.process.Wait()
		e.ended = time.Now()
		close(e.done)
	}()
	w.t.Cleanup(func() {
		select {
		case <-e.done:
		default:
			_ = syscall.Kill(-e.process.Process.Pid, syscall.SIGKILL)
			<-e.done
		}
	})
	return e
}

// outcome is how a run has ended.
type outcome struct {
	code   int
	output string // standard output and error
	ended  time.Time
}

// wait waits for the end of the run.
func (e *execution) wait() outcome {
	e.t.Helper()
	limit := time.NewTimer(terraformTimeout)
	defer limit.Stop()
	select {
	case <-e.done:
	case <-limit.C:
		// Its goroutines are in the output of a Go program that is told to quit.
		_ = syscall.Kill(-e.process.Process.Pid, syscall.SIGQUIT)
		<-e.done
		e.t.Fatalf("terraform %s has not ended within %s\n%s", strings.Join(e.args, " "), terraformTimeout, e.output.String())
	}
	return outcome{code: e.process.ProcessState.ExitCode(), output: e.output.String(), ended: e.ended}
}

// interrupt does what Ctrl-C in a terminal of its own would, once.
func (e *execution) interrupt() {
	e.t.Helper()
	if err := e.process.Process.Signal(os.Interrupt); err != nil {
		e.t.Fatal(err)
	}
}

// providers returns the processes of the provider that belong to the run.
func (e *execution) providers() []int {
	e.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		e.t.Fatal(err)
	}
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		// A process that has ended in the meantime is none. The kernel cuts names off.
		if name, parent := processOf(pid); parent == e.process.Process.Pid && name == providerExecutable[:15] {
			found = append(found, pid)
		}
	}
	return found
}

// processOf returns the name of a process and its parent; nothing of one that is not there or has only not been reaped.
func processOf(pid int) (name string, parent int) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	// The name is in parentheses and may hold anything.
	head, tail, _ := strings.Cut(string(content), ") ")
	_, name, _ = strings.Cut(head, "(")
	fields := strings.Fields(tail)
	if len(fields) < 2 || fields[0] == "Z" {
		return "", 0
	}
	parent, err = strconv.Atoi(fields[1])
	if err != nil {
		return "", 0
	}
	return name, parent
}

// kill ends the provider as a crash would, which Terraform then reports.
func (e *execution) kill() {
	e.t.Helper()
	providers := e.providers()
	if len(providers) != 1 {
		e.t.Fatalf("%d processes of the provider, want 1", len(providers))
	}
	if err := syscall.Kill(providers[0], syscall.SIGKILL); err != nil {
		e.t.Fatal(err)
	}
}

// peakMemory follows the provider until the run ends and returns the most
// memory that any process of it has used, in bytes.
func (e *execution) peakMemory() int64 {
	e.t.Helper()
	poll := time.NewTicker(processPoll)
	defer poll.Stop()
	var peak int64
	for {
		for _, pid := range e.providers() {
			peak = max(peak, highWater(pid))
		}
		select {
		case <-e.done:
			return peak
		case <-poll.C:
		}
	}
}

// highWater is the largest resident set of a process so far, in bytes.
func highWater(pid int) int64 {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	defer file.Close() //nolint:errcheck // It was only read.
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			kibibytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			if err != nil {
				return 0
			}
			return kibibytes << 10
		}
	}
	return 0
}

// A diagnostic is one that Terraform prints with -json.
type diagnostic struct {
	Severity string `json:"severity"`
	Summary  string `json:"summary"`
	Detail   string `json:"detail"`
}

// failures returns the errors of a run with -json.
func (o outcome) failures() []diagnostic { return o.diagnostics("error") }

// diagnostics returns those of a run with -json that have a severity.
func (o outcome) diagnostics(severity string) []diagnostic {
	var found []diagnostic
	for line := range strings.Lines(o.output) {
		var message struct {
			Type       string     `json:"type"`
			Diagnostic diagnostic `json:"diagnostic"`
		}
		// What Terraform prints before it reads its flags is no JSON.
		if json.Unmarshal([]byte(line), &message) == nil && message.Type == "diagnostic" && message.Diagnostic.Severity == severity {
			found = append(found, message.Diagnostic)
		}
	}
	return found
}

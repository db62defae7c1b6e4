package testkeyvault_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kms"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testkeyvault"
)

// childKey makes a process of this binary a client, of the key with this URI.
const childKey = "TESTKEYVAULT_CHILD_KEY"

func TestMain(m *testing.M) {
	if uri := os.Getenv(childKey); uri != "" {
		os.Exit(client(uri))
	}
	os.Exit(m.Run())
}

func client(uri string) int {
	keys := kms.New(func() (kms.Login, error) {
		credential, err := azidentity.NewEnvironmentCredential(nil)
		return kms.Login{Credential: credential, Cloud: "public", VaultSuffix: "vault.azure.net"}, err
	})
	version, _, err := keys.Create(context.Background(), uri, pki.AlgorithmECDSAP384)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stdout, version)
	return 0
}

func TestChildProcess(t *testing.T) {
	t.Parallel()
	vault := testkeyvault.New(t)
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), executable)
	command.Env = append(append(os.Environ(), vault.Environ()...), childKey+"="+vault.KeyURI("mesh-root"))
	for _, variable := range vault.Environ() {
		if name, ok := strings.CutPrefix(variable, "ARM_"); ok {
			command.Env = append(command.Env, "AZURE_"+name)
		}
	}
	command.Stderr = os.Stderr
	output, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	keys := vault.Keys()
	if len(keys) != 1 || keys[0].Name != "mesh-root" {
		t.Fatalf("keys %v, want mesh-root", keys)
	}
	if got, want := strings.TrimSpace(string(output)), vault.KeyURI("mesh-root")+"?version="+keys[0].Version; got != want {
		t.Errorf("the client has %s, want %s", got, want)
	}
	var operations []testkeyvault.Operation
	for _, request := range vault.Requests() {
		operations = append(operations, request.Operation)
		if request.Status != http.StatusOK || request.Key != "mesh-root" || len(request.Answer) == 0 {
			t.Errorf("unexpected request %+v", request)
		}
	}
	if want := []testkeyvault.Operation{testkeyvault.Create, testkeyvault.Get}; !slices.Equal(operations, want) {
		t.Errorf("operations %q, want %q", operations, want)
	}
}

func TestProxyKnowsNobodyElse(t *testing.T) {
	t.Parallel()
	azure, err := testkeyvault.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := azure.Close(); err != nil {
			t.Error(err)
		}
	})
	variable := slices.IndexFunc(azure.Environ(), func(variable string) bool { return strings.HasPrefix(variable, "HTTPS_PROXY=") })
	if variable < 0 {
		t.Fatal("no proxy in the environment")
	}
	proxy, err := url.Parse(strings.TrimPrefix(azure.Environ()[variable], "HTTPS_PROXY="))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(proxy)}
	t.Cleanup(transport.CloseIdleConnections)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://example.com/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err == nil {
		body, _ := io.ReadAll(response.Body) // For the message alone.
		_ = response.Body.Close()
		t.Fatalf("somebody answered: %s %s", response.Status, body)
	}
	if want := []string{"example.com"}; !slices.Equal(azure.Strangers(), want) {
		t.Errorf("strangers %q, want %q", azure.Strangers(), want)
	}
}

package kms_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	account "github.com/aksmesh/terraform-provider-aksmesh/internal/azure"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/kms"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/pki"
	"github.com/aksmesh/terraform-provider-aksmesh/internal/testazure"
)

// azure is shared, because Go reads once per process where proxies and roots
// are. Each test has a vault of its own.
var azure *testazure.Azure

func TestMain(m *testing.M) { os.Exit(testazure.Main(context.Background(), m.Run, &azure)) }

// keys are those that the double's application may use.
var keys = kms.New(func() (kms.Login, error) { return login(application()) })

func application() account.Settings {
	return account.Settings{TenantID: azure.Tenant().ID, ClientID: azure.Application().ClientID, ClientSecret: testazure.ClientSecret}
}

func login(settings account.Settings) (kms.Login, error) {
	who, err := account.NewAccount(settings, account.Options{})
	if err != nil {
		return kms.Login{}, err
	}
	options := who.ClientOptions()
	options.Retry = policy.RetryOptions{RetryDelay: time.Millisecond}
	return kms.Login{Credential: who.Credential(), Options: options, Cloud: who.Cloud().Name, VaultSuffix: who.Cloud().VaultSuffix}, nil
}

func TestAnchorByKeyVault(t *testing.T) {
	t.Parallel()
	for algorithm, want := range map[pki.Algorithm]x509.SignatureAlgorithm{
		pki.AlgorithmECDSAP256: x509.ECDSAWithSHA256,
		pki.AlgorithmECDSAP384: x509.ECDSAWithSHA384,
		pki.AlgorithmRSA2048:   x509.SHA256WithRSA,
		pki.AlgorithmRSA4096:   x509.SHA256WithRSA,
	} {
		t.Run(string(algorithm), func(t *testing.T) {
			t.Parallel()
			vault := azure.AddVault()
			uri, signer, err := keys.Create(t.Context(), vault.KeyURI("mesh-root"), algorithm)
			if err != nil {
				t.Fatal(err)
			}
			inVault := vault.Keys()
			if len(inVault) != 1 {
				t.Fatalf("%d keys in the vault, want 1", len(inVault))
			}
			if want := vault.KeyURI("mesh-root") + "?version=" + inVault[0].Version; uri != want {
				t.Errorf("key URI %s, want %s", uri, want)
			}
			anchor := verifyChain(t, signer)
			if got := anchor.Certificate().SignatureAlgorithm; got != want {
				t.Errorf("anchor signed by %s, want %s", got, want)
			}
			if got, err := pki.AlgorithmOf(anchor.Certificate().PublicKey); err != nil || got != algorithm {
				t.Errorf("anchor has a key of %s (%v), want %s", got, err, algorithm)
			}

			reopened, err := keys.Open(t.Context(), uri)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := pki.NewKeyPair([]*x509.Certificate{anchor.Certificate()}, reopened); err != nil {
				t.Errorf("the key found again is another: %v", err)
			}
			if _, err := anchor.KeyPEM(); !errors.Is(err, pki.ErrUnsupportedKey) {
				t.Errorf("private key written out: %v", err)
			}
			checkNothingLeaked(t, vault)
		})
	}
}

// verifyChain makes an anchor with the signer and an issuer below it, and has
// the standard library verify them.
func verifyChain(t *testing.T, signer crypto.Signer) *pki.KeyPair {
	t.Helper()
	now := time.Now()
	anchor, err := pki.NewAnchor(pki.AuthorityOptions{Signer: signer, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := pki.NewIssuer(anchor, pki.AuthorityOptions{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(anchor.Certificate())
	if _, err := issuer.Certificate().Verify(x509.VerifyOptions{Roots: roots}); err != nil {
		t.Error(err)
	}
	return anchor
}

// checkNothingLeaked looks for private keys in all that the vault answered.
func checkNothingLeaked(t *testing.T, vault *testazure.Vault) {
	t.Helper()
	for _, key := range vault.Keys() {
		var secret []byte
		switch private := key.Private.(type) {
		case *ecdsa.PrivateKey:
			var err error
			if secret, err = private.Bytes(); err != nil {
				t.Fatal(err)
			}
		case *rsa.PrivateKey:
			secret = private.D.Bytes()
		default:
			t.Fatalf("key of type %T", private)
		}
		for _, request := range vault.Requests() {
			for _, text := range []string{string(secret), base64.RawURLEncoding.EncodeToString(secret), base64.StdEncoding.EncodeToString(secret)} {
				if bytes.Contains(request.Answer, []byte(text)) {
					t.Errorf("the answer to %s %s holds the private key", request.Operation, request.Key)
				}
			}
		}
	}
}

func TestVersionsOfKeyVault(t *testing.T) {
	t.Parallel()
	vault := azure.AddVault()
	uri := vault.KeyURI("mesh-root")
	first, firstSigner, err := keys.Create(t.Context(), uri, pki.AlgorithmECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	second, secondSigner, err := keys.Create(t.Context(), uri+";environment=public;hsm=true", pki.AlgorithmECDSAP384)
	if err != nil {
		t.Fatal(err)
	}
	if want := "azurekms:environment=public;name=mesh-root;vault=" + vault.Name() + "?version=" + vault.Keys()[1].Version; second != want {
		t.Errorf("key URI %s, want %s", second, want)
	}
	for _, test := range []struct {
		uri  string
		want crypto.Signer
	}{{first, firstSigner}, {second, secondSigner}, {uri, secondSigner}} {
		got, err := keys.Open(t.Context(), test.uri)
		if err != nil {
			t.Fatal(err)
		}
		if !samePublic(t, got, test.want) {
			t.Errorf("%s opens another version", test.uri)
		}
	}
	if _, _, err := keys.Create(t.Context(), first, pki.AlgorithmECDSAP256); !errors.Is(err, kms.ErrFixed) || !strings.Contains(err.Error(), "leave out `version`") {
		t.Errorf("Create below a version: %v", err)
	}
	if !kms.Versioned(first) || kms.Versioned(uri) {
		t.Error("Versioned must tell a version from a key")
	}
}

func samePublic(t *testing.T, a, b crypto.Signer) bool {
	t.Helper()
	public, ok := a.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		t.Fatalf("public key of type %T", a.Public())
	}
	return public.Equal(b.Public())
}

func TestKeyVaultRefusals(t *testing.T) {
	t.Parallel()
	create := func(t *testing.T, vault *testazure.Vault) error {
		t.Helper()
		_, _, err := keys.Create(t.Context(), vault.KeyURI("mesh-root"), pki.AlgorithmECDSAP256)
		return err
	}
	open := func(t *testing.T, vault *testazure.Vault) error {
		t.Helper()
		_, err := keys.Open(t.Context(), vault.KeyURI("mesh-root"))
		return err
	}
	sign := func(t *testing.T, vault *testazure.Vault) error {
		t.Helper()
		signer, err := keys.Open(t.Context(), vault.KeyURI("mesh-root"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = pki.NewAnchor(pki.AuthorityOptions{Signer: signer, Now: time.Now()})
		return err
	}
	for name, test := range map[string]struct {
		prepare func(*testing.T, *testazure.Vault)
		do      func(*testing.T, *testazure.Vault) error
		want    []string
	}{
		"key not found": {
			do:   open,
			want: []string{"read: there is no such key in vault", "check name and version", "az keyvault key recover --vault-name"},
		},
		"soft-deleted key opened": {
			prepare: func(t *testing.T, vault *testazure.Vault) {
				t.Helper()
				importP256(t, vault)
				vault.Delete("mesh-root")
			},
			do:   open,
			want: []string{"there is no such key", "if it was deleted, bring it back"},
		},
		"soft-deleted key created": {
			prepare: func(_ *testing.T, vault *testazure.Vault) { vault.Delete("mesh-root") },
			do:      create,
			want:    []string{"create: a key of this name is soft-deleted", "az keyvault key recover", "az keyvault key purge"},
		},
		"creating forbidden": {
			prepare: func(_ *testing.T, vault *testazure.Vault) { vault.Fail(testazure.CreateKey, testazure.KeyForbidden) },
			do:      create,
			want:    []string{"create: forbidden", "Caller is not authorized to perform action on resource (ForbiddenByRbac)", `"Key Vault Crypto Officer"`, `"Create"`},
		},
		"reading forbidden": {
			prepare: func(_ *testing.T, vault *testazure.Vault) { vault.Fail(testazure.GetKey, testazure.KeyForbidden) },
			do:      open,
			want:    []string{"read: forbidden", `"Key Vault Crypto User"`, `"Get"`},
		},
		"signing forbidden": {
			prepare: func(t *testing.T, vault *testazure.Vault) {
				t.Helper()
				importP256(t, vault)
				vault.Fail(testazure.SignDigest, testazure.KeyForbidden)
			},
			do:   sign,
			want: []string{"sign: forbidden", `"Key Vault Crypto User"`, `"Sign"`},
		},
		"made but not readable": {
			prepare: func(_ *testing.T, vault *testazure.Vault) { vault.Fail(testazure.GetKey, testazure.KeyForbidden) },
			do:      create,
			want:    []string{"was made but cannot be used: read: forbidden", `"Get"`},
		},
		"expired key": {
			prepare: func(t *testing.T, vault *testazure.Vault) {
				t.Helper()
				importP256(t, vault)
				vault.Fail(testazure.SignDigest, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(http.StatusForbidden)
					fmt.Fprint(w, `{"error":{"code":"Forbidden","message":"Operation sign is not allowed on an expired key.","innererror":{"code":"KeyExpired"}}}`)
				})
			},
			do:   sign,
			want: []string{"refuses it: Operation sign is not allowed on an expired key (KeyExpired)"},
		},
		"firewall": {
			prepare: func(_ *testing.T, vault *testazure.Vault) { vault.Fail(testazure.GetKey, testazure.VaultFirewalled) },
			do:      open,
			want:    []string{"network rules", "ForbiddenByFirewall", "allow its address"},
		},
		"disabled key": {
			prepare: func(t *testing.T, vault *testazure.Vault) {
				t.Helper()
				importP256(t, vault)
				vault.Disable("mesh-root")
			},
			do:   open,
			want: []string{"the key is disabled", "--enabled true"},
		},
		"curve that meshes refuse": {
			prepare: func(t *testing.T, vault *testazure.Vault) {
				t.Helper()
				key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				vault.Import("mesh-root", key)
			},
			do:   open,
			want: []string{"unsupported key: it is ECDSA-P521", "name one of ECDSA-P256, ECDSA-P384, RSA-2048, RSA-4096"},
		},
		"size that meshes refuse": {
			prepare: func(t *testing.T, vault *testazure.Vault) {
				t.Helper()
				key, err := rsa.GenerateKey(rand.Reader, 3072)
				if err != nil {
					t.Fatal(err)
				}
				vault.Import("mesh-root", key)
			},
			do:   open,
			want: []string{"unsupported key: it is RSA-3072"},
		},
		"another answer": {
			prepare: func(_ *testing.T, vault *testazure.Vault) {
				vault.Fail(testazure.GetKey, func(w http.ResponseWriter, _ *http.Request) {
					http.Error(w, "<html>a proxy's page</html>", http.StatusTeapot)
				})
			},
			do:   open,
			want: []string{"answered 418: I'm a teapot"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vault := azure.AddVault()
			if test.prepare != nil {
				test.prepare(t, vault)
			}
			checkError(t, test.do(t, vault), append(test.want, "key azurekms:name=mesh-root;vault="+vault.Name())...)
		})
	}
}

func importP256(t *testing.T, vault *testazure.Vault) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	vault.Import("mesh-root", key)
}

// checkError checks that an error says all that is wanted, on one line and
// without the client secret.
func checkError(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error lacks %q: %v", text, err)
		}
	}
	if strings.ContainsAny(err.Error(), "\n\r") {
		t.Errorf("error has several lines: %v", err)
	}
	if strings.Contains(err.Error(), testazure.ClientSecret) {
		t.Errorf("error holds the client secret: %v", err)
	}
}

// The proxy knows no such host, as the resolver would not.
func TestUnknownVault(t *testing.T) {
	t.Parallel()
	_, err := keys.Open(t.Context(), "azurekms:name=mesh-root;vault=nowhere")
	checkError(t, err, "key azurekms:name=mesh-root;vault=nowhere: read: vault nowhere is unreachable: Bad Gateway", "check the vault's name")
}

func TestEndOfContext(t *testing.T) {
	t.Parallel()
	for _, operation := range []testazure.KeyOperation{testazure.CreateKey, testazure.GetKey, testazure.SignDigest} {
		t.Run(string(operation), func(t *testing.T) {
			t.Parallel()
			vault := azure.AddVault()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			// Not before the end of the test: the call must not wait for it.
			released := make(chan struct{})
			defer close(released)
			hang := func(http.ResponseWriter, *http.Request) {
				cancel()
				<-released
			}
			uri := vault.KeyURI("mesh-root")
			var err error
			switch operation {
			case testazure.CreateKey:
				vault.Fail(operation, hang)
				_, _, err = keys.Create(ctx, uri, pki.AlgorithmECDSAP256)
			case testazure.GetKey:
				vault.Fail(operation, hang)
				_, err = keys.Open(ctx, uri)
			case testazure.SignDigest:
				_, signer, createErr := keys.Create(ctx, uri, pki.AlgorithmECDSAP256)
				if createErr != nil {
					t.Fatal(createErr)
				}
				vault.Fail(operation, hang)
				_, err = pki.NewAnchor(pki.AuthorityOptions{Signer: signer, Now: time.Now()})
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("%v, want the context's end", err)
			}
			for _, request := range vault.Requests() {
				if request.Operation == operation {
					t.Error("the call waited for the vault")
				}
			}
		})
	}
}

func TestContextAtItsEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	vault := azure.AddVault()
	if _, _, err := keys.Create(ctx, vault.KeyURI("mesh-root"), pki.AlgorithmECDSAP256); !errors.Is(err, context.Canceled) {
		t.Errorf("Create: %v", err)
	}
	if len(vault.Keys()) != 0 {
		t.Error("a key was made")
	}
}

func TestLoginRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*account.Settings)
		want   []string
	}{
		"wrong secret": {
			func(s *account.Settings) { s.ClientSecret = "wrong-hunter2" },
			[]string{"read: log in to Azure with client secret", "AADSTS7000215: Invalid client secret provided"},
		},
		"unknown application": {
			func(s *account.Settings) { s.ClientID = "00000000-0000-0000-0000-00000000000a" },
			[]string{"AADSTS700016: Application with identifier '00000000-0000-0000-0000-00000000000a' was not found"},
		},
		"no login": {
			func(s *account.Settings) { s.ClientSecret, s.UseCLI = "", new(false) },
			[]string{"client_secret"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vault := azure.AddVault()
			settings := application()
			test.change(&settings)
			refused := kms.New(func() (kms.Login, error) { return login(settings) })
			_, err := refused.Open(t.Context(), vault.KeyURI("mesh-root"))
			checkError(t, err, append(test.want, "key azurekms:name=mesh-root;vault="+vault.Name())...)
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error holds the secret: %v", err)
			}
			if _, told := errors.AsType[*account.LoginError](err); !told && name != "no login" {
				t.Errorf("%v is not known as an error of the login", err)
			}
			if len(vault.Requests()) != 0 {
				t.Error("the vault let somebody in")
			}
		})
	}
}

// Only the public cloud is served here: it is enough to see where else a key is
// looked for.
func TestCloud(t *testing.T) {
	t.Parallel()
	vault := azure.AddVault()
	settings := application()
	settings.Environment = "usgovernment"
	government := kms.New(func() (kms.Login, error) { return login(settings) })
	_, err := government.Open(t.Context(), vault.KeyURI("mesh-root")+";environment=public")
	checkError(t, err, `it is in the cloud "public", but the credentials are for "usgovernment"`, "ARM_ENVIRONMENT")
	custom := kms.New(func() (kms.Login, error) { return kms.Login{Cloud: "custom"}, nil })
	_, err = custom.Open(t.Context(), vault.KeyURI("mesh-root"))
	checkError(t, err, `the cloud "custom", of which the host names of vaults are not known`)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	opened := make(chan error)
	go func() {
		_, err := government.Open(ctx, vault.KeyURI("mesh-root")+";environment=AzureUSGovernmentCloud")
		opened <- err
	}()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for host := vault.Name() + ".vault.usgovcloudapi.net"; !slices.Contains(azure.Strangers(), host); {
		select {
		case err := <-opened:
			t.Fatalf("nobody looked for %s: %v", host, err)
		case <-ticker.C:
		}
	}
	cancel()
	if err := <-opened; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the context's end", err)
	}
}

func TestKeyVaultThrottles(t *testing.T) {
	t.Parallel()
	vault := azure.AddVault()
	importP256(t, vault)
	vault.Fail(testazure.SignDigest, func(w http.ResponseWriter, _ *http.Request) {
		vault.Fail(testazure.SignDigest, nil)
		w.Header().Set("Retry-After-Ms", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	signer, err := keys.Open(t.Context(), vault.KeyURI("mesh-root"))
	if err != nil {
		t.Fatal(err)
	}
	verifyChain(t, signer)
	var signatures []int
	for _, request := range vault.Requests() {
		if request.Operation == testazure.SignDigest {
			signatures = append(signatures, request.Status)
		}
	}
	// The anchor's own and that of the issuer.
	if want := []int{http.StatusTooManyRequests, http.StatusOK, http.StatusOK}; !slices.Equal(signatures, want) {
		t.Errorf("signatures answered by %v, want %v", signatures, want)
	}
}

// A vault makes but some of the signatures that Go knows: others must not come
// out as another kind.
func TestKeyVaultSignatures(t *testing.T) {
	t.Parallel()
	vault := azure.AddVault()
	digest := make([]byte, crypto.SHA256.Size())
	for algorithm, opts := range map[pki.Algorithm]crypto.SignerOpts{
		pki.AlgorithmRSA2048:   &rsa.PSSOptions{Hash: crypto.SHA256},
		pki.AlgorithmECDSAP256: crypto.SHA512,
	} {
		_, signer, err := keys.Create(t.Context(), vault.KeyURI(string(algorithm)), algorithm)
		if err != nil {
			t.Fatal(err)
		}
		_, err = signer.Sign(rand.Reader, digest, opts)
		checkError(t, err, "sign: signatures of SHA-", "are not supported")
	}
}

func TestSoftwareKeys(t *testing.T) {
	t.Parallel()
	for _, algorithm := range pki.Algorithms() {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			directory := filepath.Join(t.TempDir(), "mesh root & more")
			uri := "softkms:path=" + strings.NewReplacer(" ", "%20", "&", "%26").Replace(directory) + "/"
			if kms.Versioned(uri) {
				t.Error("a directory is no version")
			}
			first, firstSigner, err := keys.Create(t.Context(), uri, pki.Algorithm(algorithm))
			if err != nil {
				t.Fatal(err)
			}
			second, secondSigner, err := keys.Create(t.Context(), uri, pki.Algorithm(algorithm))
			if err != nil {
				t.Fatal(err)
			}
			for _, test := range []struct {
				uri  string
				want crypto.Signer
			}{{first, firstSigner}, {second, secondSigner}, {uri, secondSigner}, {"softkms:" + filepath.Join(strings.ReplaceAll(directory, " ", "%20"), "1.pem"), firstSigner}} {
				got, err := keys.Open(t.Context(), test.uri)
				if err != nil {
					t.Fatal(err)
				}
				if !samePublic(t, got, test.want) {
					t.Errorf("%s opens another version", test.uri)
				}
			}
			if !kms.Versioned(second) {
				t.Errorf("%s is a version", second)
			}
			if _, _, err := keys.Create(t.Context(), second, pki.Algorithm(algorithm)); !errors.Is(err, kms.ErrFixed) {
				t.Errorf("Create over a version: %v", err)
			}
			anchor := verifyChain(t, secondSigner)
			if _, err := anchor.KeyPEM(); !errors.Is(err, pki.ErrUnsupportedKey) {
				t.Errorf("private key written out: %v", err)
			}
			if text := fmt.Sprintf("%+v %#v", secondSigner, secondSigner); strings.Contains(text, "PrivateKey") {
				t.Errorf("formatting shows the key: %s", text)
			}
			checkFiles(t, directory, "1.pem", "2.pem")
		})
	}
}

// checkFiles checks that a directory holds these files alone, for their owner
// alone.
func checkFiles(t *testing.T, directory string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != 0o600 {
			t.Errorf("%s has mode %s", entry.Name(), info.Mode())
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("directory holds %q, want %q", got, want)
	}
}

func TestSoftwareKeysMadeAtOnce(t *testing.T) {
	t.Parallel()
	uri := "softkms:path=" + t.TempDir() + "/"
	const makers = 8
	made := make(chan string, makers)
	for range makers {
		go func() {
			version, _, err := keys.Create(t.Context(), uri, pki.AlgorithmECDSAP256)
			if err != nil {
				t.Error(err)
			}
			made <- version
		}()
	}
	versions := map[string]bool{}
	for range makers {
		versions[<-made] = true
	}
	if len(versions) != makers {
		t.Errorf("%d versions of %d makers: %v", len(versions), makers, versions)
	}
}

func TestSoftwareKeyRefusals(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(directory, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return "softkms:path=" + path
	}
	for name, test := range map[string]struct {
		uri  string
		want string
		is   error
	}{
		"no file":              {"softkms:path=" + directory + "/none.pem", "there is no such key; check the path", fs.ErrNotExist},
		"no directory":         {"softkms:path=" + directory + "/none/", "there is no such key; check the path", fs.ErrNotExist},
		"no key in it":         {"softkms:path=" + directory + "/", "holds no key", fs.ErrNotExist},
		"not a directory":      {write("file", "") + "/", "not a directory", nil},
		"garbage":              {write("garbage.pem", "garbage"), "no block found", pki.ErrMalformed},
		"encrypted":            {write("encrypted.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"), "take it off", pki.ErrEncrypted},
		"relative and missing": {"softkms:none.pem", "relative to where Terraform runs", fs.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := keys.Open(t.Context(), test.uri)
			checkError(t, err, test.want, "key softkms:path=")
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("error does not wrap %q: %v", test.is, err)
			}
		})
	}
	t.Run("created below a file", func(t *testing.T) {
		t.Parallel()
		_, _, err := keys.Create(t.Context(), write("other", "")+"/keys/", pki.AlgorithmECDSAP256)
		checkError(t, err, "create:", "not a directory")
	})
}

func TestCreateRefusesUnknownAlgorithm(t *testing.T) {
	t.Parallel()
	_, _, err := keys.Create(t.Context(), "softkms:path="+t.TempDir()+"/", "Ed25519")
	checkError(t, err, `algorithm "Ed25519" is unknown; name one of ECDSA-P256`)
}

func TestCheckURI(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{
		"azurekms:name=mesh-root;vault=company-pki",
		"azurekms:vault=company-pki;name=mesh-root?version=0123456789abcdef0123456789abcdef",
		"azurekms:name=mesh-root;vault=company-pki;environment=AzureUSGovernmentCloud?version=0123456789abcdef0123456789abcdef&hsm=false",
		"azurekms:name=mesh-root;vault=company-pki?hsm=true",
		"softkms:path=/keys/root.pem",
		"softkms:path=keys/",
		"softkms:root.pem",
		"softkms:/keys/root.pem",
	} {
		if err := kms.CheckURI(uri); err != nil {
			t.Errorf("%s: %v", uri, err)
		}
	}
	for uri, want := range map[string]string{
		"":                              "malformed",
		"%zz":                           "malformed",
		"mesh-root":                     "malformed",
		"awskms:key-id=1":               `unknown scheme "awskms": azurekms and softkms`,
		"azurekms:vault=company-pki":    `name ""`,
		"azurekms:name=mesh-root":       `vault ""`,
		"azurekms:name=a/b;vault=pki":   `name "a/b"`,
		"azurekms:name=a;vault=pki.com": "the vault's name alone",
		"azurekms:name=a;vault=https%3A%2F%2Fpki.vault.azure.net": "the vault's name alone",
		"azurekms:name=a;vault=pki?version=":                      `version ""`,
		"azurekms:name=a;vault=pki?version=../b":                  "version",
		"azurekms:name=a;vault=pki?version=1;hsm=true":            "separated by &",
		"azurekms:name=a;vault=pki;name=b":                        `"name" 2 times`,
		"azurekms:name=a;vault=pki;environment=mars":              `unknown environment "mars"`,
		"azurekms:name=a;vault=pki;hsm=yes":                       `hsm="yes"`,
		"azurekms:name=a;vault=pki;release=1":                     `unknown parameter "release": known are name, vault, version`,
		"azurekms:name=a;vault=pki;client-secret=hunter2":         `credential "client-secret", which would end up in the state`,
		"azurekms:name=a;vault=pki?client-id=hunter2":             `credential "client-id"`,
		"azurekms:name=a;vault=pki?aad-endpoint=hunter2":          `credential "aad-endpoint"`,
		"azurekms://hunter2@pki?name=a&vault=pki":                 "malformed",
		"azurekms:name=a;vault=pki#hunter2":                       "malformed",
		"softkms:path=/keys/root.pem;pin-value=hunter2":           `credential "pin-value"`,
		"softkms:/keys/root.pem?pin-value=hunter2":                `credential "pin-value"`,
		"softkms:":                "lacks the path",
		"softkms:path=":           "lacks the path",
		"softkms://keys/root.pem": "malformed",
		"softkms:/keys/root.pem?path=/keys/other.pem":              "twice",
		"azurekms:name=a;vault=pki;client-secret=hunter2%zz;x=%zz": "malformed",
	} {
		err := kms.CheckURI(uri)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", uri, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: error holds a secret: %v", uri, err)
		}
		if kms.Versioned(uri) {
			t.Errorf("%q is no version of anything", uri)
		}
		if _, openErr := keys.Open(t.Context(), uri); openErr == nil || err != nil && openErr.Error() != err.Error() {
			t.Errorf("%q: Open says %v, CheckURI %v", uri, openErr, err)
		}
		if _, _, createErr := keys.Create(t.Context(), uri, pki.AlgorithmECDSAP256); createErr == nil || err != nil && createErr.Error() != err.Error() {
			t.Errorf("%q: Create says %v, CheckURI %v", uri, createErr, err)
		}
	}
}

package testazure

// The keys of Azure Key Vault: https://learn.microsoft.com/rest/api/keyvault/keys,
// and the writing of its secrets, version 7 of its API.

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/google/uuid"
)

const vaultSuffix = ".vault.azure.net"

// KeyOperation is one operation on keys.
type KeyOperation string

// The operations that a Vault knows.
const (
	CreateKey  KeyOperation = "create"
	GetKey     KeyOperation = "get"
	SignDigest KeyOperation = "sign"
)

// Key is one version of a key.
type Key struct {
	Name, Version string
	// Private is the key that must never leave the vault, for tests that look
	// for it elsewhere.
	Private crypto.Signer

	kty  azkeys.KeyType
	made time.Time
}

// KeyRequest is one request by a client that had logged in.
type KeyRequest struct {
	Operation KeyOperation
	// Key and Version are those of the path; Version is empty for the newest.
	Key, Version string
	// Body is what came, Status and Answer what went.
	Body   []byte
	Status int
	Answer []byte
}

// Vault is one vault of the premium tier, with soft delete.
type Vault struct {
	azure *Azure
	name  string

	mu       sync.Mutex
	keys     []Key
	deleted  map[string]bool
	disabled map[string]bool
	faults   map[KeyOperation]http.HandlerFunc
	requests []KeyRequest
	secrets  map[string]string
}

// AddVault makes an empty vault.
func (a *Azure) AddVault() *Vault {
	v := &Vault{
		azure: a, name: unique("vault-"),
		deleted: map[string]bool{}, disabled: map[string]bool{}, faults: map[KeyOperation]http.HandlerFunc{}, secrets: map[string]string{},
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.vaults[v.name+vaultSuffix] = v
	return v
}

// Name returns the vault's name, without the suffix of its host.
func (v *Vault) Name() string { return v.name }

// KeyURI returns the URI, as go.step.sm/crypto/kms has it, of the newest
// version of a key.
func (v *Vault) KeyURI(key string) string {
	return fmt.Sprintf("azurekms:name=%s;vault=%s", key, v.name)
}

// Keys returns all versions of all keys, in the order of their making.
func (v *Vault) Keys() []Key {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.keys)
}

// Requests returns what clients that had logged in asked for, in the order of
// the answers. What hangs is not among them yet.
func (v *Vault) Requests() []KeyRequest {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.requests)
}

// Import puts a key into the vault, or a new version of it.
func (v *Vault) Import(name string, private crypto.Signer) Key {
	kty := azkeys.KeyTypeRSA
	if _, ok := private.(*ecdsa.PrivateKey); ok {
		kty = azkeys.KeyTypeEC
	}
	return v.add(name, kty, private)
}

// Delete soft-deletes a key: it is gone, but its name is not free.
func (v *Vault) Delete(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.deleted[name] = true
}

// Disable makes a key refuse all operations.
func (v *Vault) Disable(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.disabled[name] = true
}

// Fail answers an operation by fault from now on, until fault is nil.
func (v *Vault) Fail(operation KeyOperation, fault http.HandlerFunc) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.faults[operation] = fault
}

// KeyForbidden is the fault of a caller without the role.
func KeyForbidden(w http.ResponseWriter, r *http.Request) {
	refuseKey(w, http.StatusForbidden, "Forbidden", "ForbiddenByRbac", "Caller is not authorized to perform action on resource.\r\n"+
		"If role assignments, deny assignments or role definitions were changed recently, please observe propagation time.\r\n"+
		"Caller: appid=00000000-0000-4000-8000-00000000000c\r\nResource: '"+r.URL.Path+"'\r\nAssignment: (not found)\r\n")
}

// VaultFirewalled is the fault of a caller whose address the vault's network rules
// do not know.
func VaultFirewalled(w http.ResponseWriter, _ *http.Request) {
	refuseKey(w, http.StatusForbidden, "Forbidden", "ForbiddenByFirewall", "Client address is not authorized and caller is not a trusted service.\r\nClient address: 192.0.2.1\r\n")
}

// Hang is the fault of a vault that never answers. It ends with the client, or
// the vault.
func Hang(w http.ResponseWriter, r *http.Request) { hang(w, r) }

func (v *Vault) serve(w http.ResponseWriter, r *http.Request) {
	if _, err := v.azure.authenticate(bearer(r), vaultAudience); err != nil {
		w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer authorization=%q, resource=%q", "https://"+publicAuthority+"/"+v.azure.home.ID, vaultAudience))
		refuseKey(w, http.StatusUnauthorized, "Unauthorized", "", "AKV10000: Request is missing a Bearer or PoP token.")
		return
	}
	body, err := body(r)
	if err != nil {
		return // The client is gone.
	}
	if name, ok := strings.CutPrefix(r.URL.Path, "/secrets/"); ok && r.Method == http.MethodPut {
		v.putSecret(w, name, body)
		return
	}
	operation, name, version := route(r)
	if operation == "" || r.URL.Query().Get("api-version") == "" {
		refuseKey(w, http.StatusBadRequest, "BadParameter", "", "The request URI or its api-version is not valid.")
		return
	}
	v.mu.Lock()
	fault := v.faults[operation]
	v.mu.Unlock()

	recorder := httptest.NewRecorder()
	switch {
	case fault != nil:
		fault(recorder, r)
	case operation == CreateKey:
		v.create(recorder, name, body)
	case operation == GetKey:
		if key, ok := v.find(recorder, operation, name, version); ok {
			answer(recorder, http.StatusOK, v.bundle(key))
		}
	case operation == SignDigest:
		if key, ok := v.find(recorder, operation, name, version); ok {
			v.sign(recorder, key, body)
		}
	}
	v.mu.Lock()
	v.requests = append(v.requests, KeyRequest{
		Operation: operation, Key: name, Version: version,
		Body: body, Status: recorder.Code, Answer: recorder.Body.Bytes(),
	})
	v.mu.Unlock()
	maps.Copy(w.Header(), recorder.Header())
	w.WriteHeader(recorder.Code)
	_, _ = w.Write(recorder.Body.Bytes()) // The client may be gone.
}

// Secret is the value of the newest version of a secret, "" if there is none.
func (v *Vault) Secret(name string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.secrets[name]
}

func (v *Vault) putSecret(w http.ResponseWriter, name string, body []byte) {
	var asked struct {
		Value string `json:"value"`
	}
	if err := json.Unmarshal(body, &asked); err != nil || asked.Value == "" {
		refuseKey(w, http.StatusBadRequest, "BadParameter", "", "Property value has invalid value.")
		return
	}
	v.mu.Lock()
	v.secrets[name] = asked.Value
	v.mu.Unlock()
	version := strings.ReplaceAll(uuid.NewString(), "-", "")
	answer(w, http.StatusOK, map[string]any{"id": "https://" + v.name + vaultSuffix + "/secrets/" + name + "/" + version})
}

// route reads the path: /keys/<name>/create, /keys/<name>/[<version>] or
// /keys/<name>[/<version>]/sign.
func route(r *http.Request) (operation KeyOperation, name, version string) {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if len(parts) < 3 || parts[0] != "keys" || parts[1] == "" {
		return "", "", ""
	}
	switch {
	case r.Method == http.MethodPost && len(parts) == 3 && parts[2] == "create":
		return CreateKey, parts[1], ""
	case r.Method == http.MethodPost && len(parts) == 3 && parts[2] == "sign":
		return SignDigest, parts[1], ""
	case r.Method == http.MethodPost && len(parts) == 4 && parts[3] == "sign":
		return SignDigest, parts[1], parts[2]
	case r.Method == http.MethodGet && len(parts) == 3:
		return GetKey, parts[1], parts[2]
	}
	return "", "", ""
}

func (v *Vault) create(w http.ResponseWriter, name string, body []byte) {
	var parameters azkeys.CreateKeyParameters
	if err := json.Unmarshal(body, &parameters); err != nil || parameters.Kty == nil {
		refuseKey(w, http.StatusBadRequest, "BadParameter", "", "Property kty has invalid value.")
		return
	}
	v.mu.Lock()
	deleted := v.deleted[name]
	v.mu.Unlock()
	if deleted {
		refuseKey(w, http.StatusConflict, "Conflict", "ObjectIsDeletedButRecoverable",
			"Key "+name+" is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the key can only be recovered or purged.")
		return
	}
	private, err := generate(parameters)
	if err != nil {
		refuseKey(w, http.StatusBadRequest, "BadParameter", "", err.Error())
		return
	}
	answer(w, http.StatusOK, v.bundle(v.add(name, *parameters.Kty, private)))
}

func generate(parameters azkeys.CreateKeyParameters) (crypto.Signer, error) {
	switch *parameters.Kty {
	case azkeys.KeyTypeEC, azkeys.KeyTypeECHSM:
		if parameters.Curve == nil {
			return nil, errors.New("property crv is missing")
		}
		for _, curve := range curves() {
			if azkeys.CurveName(curve.Params().Name) == *parameters.Curve {
				return ecdsa.GenerateKey(curve, rand.Reader)
			}
		}
		return nil, errors.New("property crv has invalid value")
	case azkeys.KeyTypeRSA, azkeys.KeyTypeRSAHSM:
		if parameters.KeySize == nil || !slices.Contains([]int32{2048, 3072, 4096}, *parameters.KeySize) {
			return nil, errors.New("property key_size has invalid value")
		}
		return rsa.GenerateKey(rand.Reader, int(*parameters.KeySize))
	default:
		return nil, errors.New("property kty has invalid value")
	}
}

func curves() []elliptic.Curve {
	return []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}
}

func (v *Vault) add(name string, kty azkeys.KeyType, private crypto.Signer) Key {
	key := Key{Name: name, Version: strings.ReplaceAll(uuid.NewString(), "-", ""), Private: private, kty: kty, made: time.Now()}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keys = append(v.keys, key)
	return key
}

// find returns a version of a key, the newest if version is empty, or refuses.
func (v *Vault) find(w http.ResponseWriter, operation KeyOperation, name, version string) (Key, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.disabled[name] {
		refuseKey(w, http.StatusForbidden, "Forbidden", "KeyDisabled", "Operation "+string(operation)+" is not allowed on a disabled key.")
		return Key{}, false
	}
	for _, key := range slices.Backward(v.keys) {
		if key.Name == name && !v.deleted[name] && (version == "" || key.Version == version) {
			return key, true
		}
	}
	refuseKey(w, http.StatusNotFound, "KeyNotFound", "",
		"A key with (name/id) "+strings.TrimSuffix(name+"/"+version, "/")+" was not found in this key vault. If you recently deleted this key you may be able to recover it using the correct recovery command.")
	return Key{}, false
}

// bundle is what a vault shows of a key. The SDK's own types write it.
func (v *Vault) bundle(key Key) azkeys.KeyBundle {
	id := v.id(key)
	web := &azkeys.JSONWebKey{
		KID: &id, Kty: &key.kty,
		KeyOps: []*azkeys.KeyOperation{new(azkeys.KeyOperationSign), new(azkeys.KeyOperationVerify)},
	}
	switch public := key.Private.Public().(type) {
	case *ecdsa.PublicKey:
		web.Crv = new(azkeys.CurveName(public.Curve.Params().Name))
		if point, err := public.Bytes(); err == nil { // As for every key made by the library.
			coordinates := point[1:]
			web.X, web.Y = coordinates[:len(coordinates)/2], coordinates[len(coordinates)/2:]
		}
	case *rsa.PublicKey:
		web.N, web.E = public.N.Bytes(), big.NewInt(int64(public.E)).Bytes()
	}
	return azkeys.KeyBundle{Key: web, Attributes: &azkeys.KeyAttributes{
		Enabled: new(true), Created: &key.made, Updated: &key.made, RecoveryLevel: new("Recoverable+Purgeable"),
	}}
}

func (v *Vault) id(key Key) azkeys.ID {
	return azkeys.ID("https://" + v.name + vaultSuffix + "/keys/" + key.Name + "/" + key.Version)
}

func (v *Vault) sign(w http.ResponseWriter, key Key, body []byte) {
	var parameters azkeys.SignParameters
	if err := json.Unmarshal(body, &parameters); err != nil || parameters.Algorithm == nil {
		refuseKey(w, http.StatusBadRequest, "BadParameter", "", "Property alg has invalid value.")
		return
	}
	signature, err := signature(key.Private, *parameters.Algorithm, parameters.Value)
	if err != nil {
		refuseKey(w, http.StatusBadRequest, "BadParameter", "", err.Error())
		return
	}
	answer(w, http.StatusOK, map[string]any{"kid": v.id(key), "value": signature})
}

// signature signs a digest in the layouts of JSON Web Signatures.
func signature(private crypto.Signer, algorithm azkeys.SignatureAlgorithm, digest []byte) (string, error) {
	var hash crypto.Hash
	switch algorithm {
	case azkeys.SignatureAlgorithmES256, azkeys.SignatureAlgorithmRS256:
		hash = crypto.SHA256
	case azkeys.SignatureAlgorithmES384:
		hash = crypto.SHA384
	default:
		return "", fmt.Errorf("property alg has invalid value %q", algorithm)
	}
	key, elliptical := private.(*ecdsa.PrivateKey)
	if elliptical != strings.HasPrefix(string(algorithm), "ES") || len(digest) != hash.Size() || elliptical && key.Params().BitSize != hash.Size()*8 {
		return "", errors.New("key and alg, or alg and the size of value, do not match")
	}
	made, err := private.Sign(rand.Reader, digest, hash)
	if err != nil {
		return "", err
	}
	if elliptical {
		var point struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(made, &point); err != nil {
			return "", err
		}
		size := hash.Size()
		made = append(point.R.FillBytes(make([]byte, size)), point.S.FillBytes(make([]byte, size))...)
	}
	return base64.RawURLEncoding.EncodeToString(made), nil
}

// refuseKey answers as vaults do.
func refuseKey(w http.ResponseWriter, status int, code, inner, message string) {
	refusal := map[string]any{"code": code, "message": message}
	if inner != "" {
		refusal["innererror"] = map[string]any{"code": inner}
	}
	answer(w, status, map[string]any{"error": refusal})
}

package kms

import "testing"

// A key is named in the state as its string has it, which must therefore name
// the same key.
func FuzzURI(f *testing.F) {
	for _, seed := range []string{
		"azurekms:name=mesh-root;vault=company-pki",
		"azurekms:name=a;vault=company-pki;environment=usgov?version=0a&hsm=true",
		"azurekms:?name=a&vault=pki",
		"azurekms:name=a;vault=pki?version=1;hsm=true",
		"softkms:path=/keys/root.pem",
		"softkms:keys/",
		"softkms:/keys/%20a%26+.pem",
		"softkms:keys/%20a%26+.pem",
		"",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, keyURI string) {
		key, err := parse(keyURI)
		if err != nil {
			if Versioned(keyURI) {
				t.Error("refused, but names a version")
			}
			return
		}
		again, err := parse(key.String())
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		if azure, ok := key.(azureKey); ok {
			azure.hsm = false // Of the making only.
			key = azure
		}
		if again != key {
			t.Errorf("%s names %#v, want %#v", key, again, key)
		}
	})
}

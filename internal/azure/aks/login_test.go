package aks

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

func kubeconfigOf(server, user string) []byte {
	return []byte(`{"apiVersion":"v1","kind":"Config","current-context":"c",
		"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],
		"clusters":[{"name":"c","cluster":` + server + `}],"users":[{"name":"u","user":` + user + `}]}`)
}

func TestReadLogin(t *testing.T) {
	t.Parallel()
	const server = `{"server":"https://x.azmk8s.io:443","certificate-authority-data":"Q0E=","tls-server-name":"y","proxy-url":"http://proxy.example.com:3128"}`
	plugin := func(args string) string {
		return `{"exec":{"apiVersion":"client.authentication.k8s.io/v1beta1","command":"kubelogin","args":["get-token",` + args + `],"interactiveMode":"Never","provideClusterInfo":false}}`
	}
	certificate := `{"client-certificate-data":"` + base64.StdEncoding.EncodeToString([]byte("cert")) + `","client-key-data":"` + base64.StdEncoding.EncodeToString([]byte("key")) + `","token":"s3cr3t"}`
	for name, test := range map[string]struct {
		user string
		want login
	}{
		"Entra ID":           {plugin(`"--server-id","6dae42f8-4368-4678-94ff-3960e28e3630","--tenant-id","t","--login","devicecode"`), login{scope: serverScope, tenant: "t"}},
		"another server":     {plugin(`"--server-id=other","--tenant-id=t"`), login{scope: "other/.default", tenant: "t"}},
		"without arguments":  {plugin(`"--tenant-id"`), login{scope: serverScope}},
		"client certificate": {certificate, login{certificate: []byte("cert"), key: []byte("key")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := readLogin(kubeconfigOf(server, test.user))
			if err != nil {
				t.Fatal(err)
			}
			if got.host != "https://x.azmk8s.io:443" || string(got.ca) != "CA" || got.serverName != "y" || got.proxy.Host != "proxy.example.com:3128" {
				t.Errorf("server: %+v", got)
			}
			if got.scope != test.want.scope || got.tenant != test.want.tenant || string(got.certificate) != string(test.want.certificate) || string(got.key) != string(test.want.key) {
				t.Errorf("user: %+v", got)
			}
		})
	}
	for name, test := range map[string]struct{ server, user, want string }{
		"legacy":             {server, `{"auth-provider":{"name":"azure","config":{"apiserver-id":"s3cr3t"}}}`, errLegacy.Error()},
		"no credentials":     {server, `{"token":"s3cr3t"}`, "neither a client certificate nor the exec plugin"},
		"no TLS":             {`{"server":"http://x.azmk8s.io"}`, certificate, `"http://x.azmk8s.io" is not the https URL of an API server`},
		"proxy without host": {`{"server":"https://x","proxy-url":"http://%zz"}`, certificate, "the proxy-url in the kubeconfig is not a URL"},
		"base64":             {`{"server":"https://x","certificate-authority-data":"s3cr3t!"}`, certificate, "not a kubeconfig"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := readLogin(kubeconfigOf(test.server, test.user))
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("error %v; want %q", err, test.want)
			}
			if (name == "legacy") != errors.Is(err, errLegacy) {
				t.Errorf("legacy: %v", err)
			}
		})
	}
}

func TestParseID(t *testing.T) {
	t.Parallel()
	want := ID{SubscriptionID: "s", ResourceGroup: "rg", Name: "prod"}
	for _, text := range []string{want.Path(), strings.ToLower(want.Path()), strings.Replace(want.Path(), "resourceGroups", "resourcegroups", 1)} {
		if got, err := ParseID(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "prod", "/subscriptions/s", want.Path() + "/agentPools/system", strings.Replace(want.Path(), "managedClusters", "fleets", 1)} {
		if got, err := ParseID(text); err == nil || !strings.Contains(err.Error(), "is not the resource ID of an AKS cluster") {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

package podenv_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/aksmesh/terraform-provider-aksmesh/tools/devcluster/podenv"
)

const namespace = "istio-system"

// TestVariables covers each source of a variable.
func TestVariables(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset(
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "s"}, Data: map[string][]byte{"key": []byte("from secret")}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "c"}, Data: map[string]string{"key": "from config"}},
	)
	secretKey := func(name, key string, optional bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key, Optional: &optional,
		}}
	}
	configKey := func(name, key string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key,
		}}
	}
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "istiod-0", Labels: map[string]string{"app": "istiod"}},
		Spec:       corev1.PodSpec{NodeName: "aks-nodepool1-0", ServiceAccountName: "istiod"},
	}
	for name, test := range map[string]struct {
		env  corev1.EnvVar
		want string
		err  string
	}{
		"reference":        {env: corev1.EnvVar{Value: "$(EARLIER).$(LATER) $$(EARLIER)"}, want: "e.$(LATER) $(EARLIER)"},
		"value":            {env: corev1.EnvVar{Value: "v"}, want: "v"},
		"name":             {env: corev1.EnvVar{ValueFrom: field("metadata.name")}, want: "istiod-0"},
		"label":            {env: corev1.EnvVar{ValueFrom: field("metadata.labels['app']")}, want: "istiod"},
		"node":             {env: corev1.EnvVar{ValueFrom: field("spec.nodeName")}, want: "aks-nodepool1-0"},
		"account":          {env: corev1.EnvVar{ValueFrom: field("spec.serviceAccountName")}, want: "istiod"},
		"secret":           {env: corev1.EnvVar{ValueFrom: secretKey("s", "key", false)}, want: "from secret"},
		"config":           {env: corev1.EnvVar{ValueFrom: configKey("c", "key")}, want: "from config"},
		"optional secret":  {env: corev1.EnvVar{ValueFrom: secretKey("none", "key", true)}},
		"optional key":     {env: corev1.EnvVar{ValueFrom: secretKey("s", "none", true)}},
		"missing key":      {env: corev1.EnvVar{ValueFrom: configKey("c", "none")}, err: `ConfigMap istio-system/c has no key "none"`},
		"missing secret":   {env: corev1.EnvVar{ValueFrom: secretKey("none", "key", false)}, err: `Secret istio-system/none has no key "key"`},
		"unknown field":    {env: corev1.EnvVar{ValueFrom: field("spec.none")}, err: "unsupported fieldPath: spec.none"},
		"limit of the CPU": {env: corev1.EnvVar{ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.cpu"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.env.Name = "X"
			container := corev1.Container{Name: "discovery", Env: []corev1.EnvVar{{Name: "EARLIER", Value: "e"}, test.env}}
			got, err := podenv.Variables(t.Context(), client, pod, &container)
			if test.err != "" {
				if want := "environment variable X of container discovery: " + test.err; err == nil || err.Error() != want {
					t.Fatalf("error is %v, want %s", err, want)
				}
				return
			}
			if err != nil || got["X"] != test.want {
				t.Errorf("environment is %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

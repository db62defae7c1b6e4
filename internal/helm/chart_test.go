package helm

import "testing"

func TestLooksAtCluster(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		want  bool
	}{
		"nothing":    {map[string]string{"templates/a.yaml": "v: {{ .Capabilities.KubeVersion }}", "README.md": "lookup"}, false},
		"kinds":      {map[string]string{"templates/a.yaml": `{{ if .Capabilities.APIVersions.Has "a/v1" }}{{ end }}`}, true},
		"objects":    {map[string]string{"templates/_names.tpl": `{{ lookup "v1" "Secret" "a" "b" }}`}, true},
		"a subchart": {map[string]string{"charts/sub/Chart.yaml": "apiVersion: v2\nname: sub\nversion: 1.0.0\n", "charts/sub/templates/a.yaml": `{{ lookup "v1" "Secret" "a" "b" }}`}, true},
	} {
		loaded, err := readArchive(packed(t, "1.0.0", c.files))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := loaded.LooksAtCluster(); got != c.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
}

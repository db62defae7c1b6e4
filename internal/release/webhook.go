package release

import (
	"regexp"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/kube"
)

// unanswered is how the API server says that it could not reach a webhook.
var unanswered = regexp.MustCompile(`failed calling webhook "([^"]+)"`)

// brokenWebhook returns the name of the webhook that did not answer, or "" if an
// error says something else.
func brokenWebhook(err error) string {
	if err == nil {
		return ""
	}
	found := unanswered.FindStringSubmatch(err.Error())
	if found == nil {
		return ""
	}
	return found[1]
}

func (e *entry) configuresWebhooks() bool {
	return slices.Contains([]kube.Kind{kube.MutatingWebhookConfiguration, kube.ValidatingWebhookConfiguration}, e.kind())
}

// webhooksOf returns the names of the webhooks that objects configure.
func webhooksOf(entries []*entry) []string {
	var names []string
	for _, e := range entries {
		if !e.configuresWebhooks() {
			continue
		}
		webhooks, _, err := unstructured.NestedSlice(e.Object.Object, "webhooks")
		if err != nil {
			continue // The API server will say what is wrong with it.
		}
		for _, webhook := range webhooks {
			if fields, ok := webhook.(map[string]any); ok {
				if name, named := fields["name"].(string); named {
					names = append(names, name)
				}
			}
		}
	}
	return names
}

package helm

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/strvals"
	"sigs.k8s.io/yaml"
)

// ParseValues reads YAML documents of chart values and merges them in order, later ones winning. The error names the
// index of the document that is wrong and never quotes it, as values may hold secrets.
func ParseValues(documents []string) (map[string]any, error) {
	merged := map[string]any{}
	for i, document := range documents {
		var overlay map[string]any
		if err := yaml.Unmarshal([]byte(document), &overlay); err != nil {
			return nil, &ValuesError{Index: i, Err: err}
		}
		merged = MergeValues(merged, overlay)
	}
	return merged, nil
}

// ValuesError says which of several values documents cannot be read.
type ValuesError struct {
	Index int
	Err   error
}

func (e *ValuesError) Error() string {
	return fmt.Sprintf("values[%d] is not a YAML mapping: %v", e.Index, e.Err)
}

func (e *ValuesError) Unwrap() error { return e.Err }

// MergeValues lays overlays over base as `helm --values` does: mappings merge key by key, everything else (lists, too)
// is replaced, and null stays, so that it removes the chart's default. The arguments are not changed.
func MergeValues(base map[string]any, overlays ...map[string]any) map[string]any {
	merged := make(map[string]any, len(base))
	maps.Copy(merged, base)
	for _, overlay := range overlays {
		for key, value := range overlay {
			over, isMapping := value.(map[string]any)
			under, wasMapping := merged[key].(map[string]any)
			if isMapping && wasMapping {
				value = MergeValues(under, over)
			}
			merged[key] = value
		}
	}
	return merged
}

// plainValues copies values into the form in which Helm reads them from YAML and keeps them in its records, because
// Helm's actions write into what they are given.
func plainValues(values map[string]any) (map[string]any, error) {
	data, err := json.Marshal(values)
	if err != nil {
		return nil, fmt.Errorf("values cannot be written as JSON: %w", err)
	}
	plain := map[string]any{}
	if err := json.Unmarshal(data, &plain); err != nil {
		return nil, fmt.Errorf("values cannot be read back: %w", err)
	}
	if plain == nil {
		plain = map[string]any{}
	}
	return plain, nil
}

// SetStrings returns the values with texts at paths, each written as `helm --set-string` has it: auth.password,
// users[0].name, annotations.example\.com/owner. The texts are taken as they are. The arguments are not changed; errors
// are SettingError.
func SetStrings(values map[string]any, texts map[string]string) (map[string]any, error) {
	changed, err := plainValues(values)
	if err != nil {
		return nil, err
	}
	for _, path := range slices.Sorted(maps.Keys(texts)) {
		if strings.ContainsAny(path, "=,{}") || strings.Trim(path, ". ") != path || path == "" {
			return nil, &SettingError{Path: path}
		}
		// The parser reads only the path: it would find meaning in commas, braces and backslashes of the text.
		err := strvals.ParseIntoFile(path+"=-", changed, func([]rune) (any, error) { return texts[path], nil })
		if err != nil {
			return nil, &SettingError{Path: path}
		}
	}
	return changed, nil
}

// SettingError says which path is none, or leads through values that are neither mappings nor lists.
type SettingError struct{ Path string }

func (e *SettingError) Error() string {
	return fmt.Sprintf("%q is not the path of a value, such as auth.password or users[0].name, or the values have something else on its way", e.Path)
}

package install

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/aksmesh/terraform-provider-aksmesh/internal/helm"
)

// ValuesError tells that a chart has no place for values given for it, or that it
// refuses them. It names keys and never quotes a value.
type ValuesError struct {
	// Chart is the name of the chart, Key the dotted key of the value at fault;
	// empty if it is the chart that refuses the values as a whole.
	Chart, Key string
	Err        error
}

func (e *ValuesError) Error() string {
	if e.Key == "" {
		return e.Err.Error()
	}
	return fmt.Sprintf("chart %s, value %s: %v", e.Chart, e.Key, e.Err)
}

func (e *ValuesError) Unwrap() error { return e.Err }

// RemovedValue is a value that charts had until a version, and that later ones
// pass over in silence.
type RemovedValue struct {
	Key     string // dotted
	Since   string // the version that removed it, with the name of what it is of: "Linkerd 2.19"
	Instead string // what to set instead, or why there is no need to; may be empty
}

// CheckValues refuses values that a chart would pass over in silence: keys that
// nothing in it reads, those removed (unless the chart still has a default for
// them), and values of another type than the chart's defaults. Null, which
// removes a default, fits everything. All errors are *[ValuesError], joined.
func CheckValues(chart *helm.Chart, values map[string]any, removed []RemovedValue) error {
	known, err := knownValues(chart)
	if err != nil {
		return fmt.Errorf("chart %s %s: %w", chart.Name(), chart.Version(), err)
	}
	check := valuesCheck{chart: chart, known: known}
	for _, r := range removed {
		at := strings.Split(r.Key, ".")
		// An error means that the way to the key is no mapping: it is not there.
		value, set, err := unstructured.NestedFieldNoCopy(values, at...)
		_, has, _ := unstructured.NestedFieldNoCopy(known.defaults, at...)
		if !set || err != nil || value == nil || has {
			continue
		}
		check.gone = append(check.gone, r.Key)
		text := "was removed in " + r.Since
		if r.Instead != "" {
			text += "; " + r.Instead
		}
		check.fail(at, errors.New(text))
	}
	check.level(nil, values)
	return errors.Join(check.errs...)
}

type valuesCheck struct {
	chart *helm.Chart
	known *valuesKnown
	gone  []string // removed keys, which have been told
	errs  []error
}

func (c *valuesCheck) fail(at []string, err error) {
	c.errs = append(c.errs, &ValuesError{Chart: c.chart.Name(), Key: strings.Join(at, "."), Err: err})
}

// level checks the keys of the values as a whole, or those below a wrapper, which
// the chart reads as if they were there.
func (c *valuesCheck) level(at []string, values map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		here := append(slices.Clip(at), key)
		inner, isMapping := values[key].(map[string]any)
		switch {
		case values[key] == nil, c.told(here):
		case len(at) == 0 && c.known.wrappers[key] && isMapping:
			c.level(here, inner)
		case !c.known.keys[key]:
			text := fmt.Sprintf("nothing in version %s of the chart reads it", c.chart.Version())
			if nearest := c.known.nearest(key); nearest != "" {
				text += "; did you mean " + nearest + "?"
			}
			c.fail(here, errors.New(text))
		default:
			c.typed(here, values[key], c.known.defaults[key])
		}
	}
}

// told reports a key that has been removed, or the way to one.
func (c *valuesCheck) told(at []string) bool {
	key := strings.Join(at, ".")
	return slices.ContainsFunc(c.gone, func(gone string) bool { return gone == key || strings.HasPrefix(gone, key+".") })
}

// typed compares the type of a value with that of the chart's default.
func (c *valuesCheck) typed(at []string, value, preset any) {
	if value == nil || preset == nil || c.told(at) {
		return
	}
	wanted := ""
	switch preset := preset.(type) {
	case map[string]any:
		mapping, ok := value.(map[string]any)
		if !ok {
			wanted = "a mapping"
			break
		}
		for _, key := range slices.Sorted(maps.Keys(mapping)) {
			c.typed(append(slices.Clip(at), key), mapping[key], preset[key])
		}
	case []any:
		if _, ok := value.([]any); !ok {
			wanted = "a list"
		}
	case bool:
		if _, ok := value.(bool); !ok {
			// A text is true for a template, also if it says "false".
			wanted = "true or false"
		}
	case string:
	default:
		if !numeric(value) {
			wanted = "a number"
		}
	}
	if wanted != "" {
		c.fail(at, fmt.Errorf("the chart wants %s, and it is %s", wanted, typeOf(value)))
	}
}

// numeric reports numbers, and texts that say amounts, such as 25% or 100m.
func numeric(value any) bool {
	switch value := value.(type) {
	case string:
		return value == "" || strings.ContainsAny(value[:1], "0123456789.+-")
	case bool, map[string]any, []any:
		return false
	}
	return true
}

func typeOf(value any) string {
	switch value.(type) {
	case map[string]any:
		return "a mapping"
	case []any:
		return "a list"
	case bool:
		return "true or false"
	case string:
		return "a text"
	}
	return "a number"
}

// valuesKnown is what a chart has a place for.
type valuesKnown struct {
	defaults map[string]any
	keys     map[string]bool
	// wrappers are the keys whose mappings the chart lays over all values.
	wrappers map[string]bool
}

// internalDefaults is where Istio's charts have their defaults, so that profiles
// can come between these and the user's values.
const internalDefaults = "_internal_defaults_do_not_set"

var (
	// readValue finds `.Values.key`, with whatever variable before it.
	readValue = regexp.MustCompile(`\.Values\.([A-Za-z0-9_]+)(?:\.([A-Za-z0-9_]+))?`)
	// templateActions finds what a template does, quoted text what it does it by:
	// `index .Values "key"`, `dig "key" … .Values`.
	templateActions = regexp.MustCompile(`(?s)\{\{.*?\}\}`)
	quotedText      = regexp.MustCompile("[\"`]([A-Za-z0-9_-]+)[\"`]")
	// wholeValues finds where all values become the dot or a variable, from which
	// keys are then read without their name.
	wholeValues = regexp.MustCompile(`(?:=|\bwith|\brange|(?:include|template) +"[^"]+") *\(?\$?[a-z]*\.Values *[)}-]`)
	readField   = regexp.MustCompile(`[ (|$]\$?[A-Za-z]*\.([A-Za-z0-9_]+)`)
	// wrapping finds where values below a key are laid over all values.
	wrapping = regexp.MustCompile(`mustMergeOverwrite \$\.Values \(index \$\.Values "([A-Za-z0-9_]+)"\)`)
	// valuesFile matches the files of a chart that are values themselves.
	valuesFile = regexp.MustCompile(`^(values|profile)[^/]*\.ya?ml$`)
)

func knownValues(chart *helm.Chart) (*valuesKnown, error) {
	defaults, err := chart.DefaultValues()
	if err != nil {
		return nil, err
	}
	known := &valuesKnown{defaults: defaults, keys: map[string]bool{"global": true}, wrappers: map[string]bool{}}
	known.learn(slices.Collect(maps.Keys(defaults)))
	if inner, ok := defaults[internalDefaults].(map[string]any); ok {
		known.defaults = inner
		known.learn(slices.Collect(maps.Keys(inner)))
	}
	known.learn(chart.Dependencies())
	texts, err := chart.Texts()
	if err != nil {
		return nil, err
	}
	var below [][2]string
	for name, text := range texts {
		switch base := path.Base(name); {
		case valuesFile.MatchString(base):
			known.learnFile(text)
		case base == "values.schema.json":
			known.learnSchema(text)
		}
		below = append(below, known.learnTemplate(text)...)
	}
	if schema, ok := chart.File("values.schema.json"); ok {
		known.learnSchema(schema)
	}
	for _, read := range below {
		if known.wrappers[read[0]] {
			known.keys[read[1]] = true
		}
	}
	return known, nil
}

func (k *valuesKnown) learn(keys []string) {
	for _, key := range keys {
		k.keys[key] = true
	}
}

// learnFile takes the keys of a file with values. One that is none is a template
// of such, in which keys are found otherwise.
func (k *valuesKnown) learnFile(text []byte) {
	var values map[string]any
	if yaml.Unmarshal(text, &values) == nil {
		k.learn(slices.Collect(maps.Keys(values)))
	}
}

// learnSchema takes the properties at the top of a schema. Helm enforces it, so
// that one which cannot be read has been told by then.
func (k *valuesKnown) learnSchema(text []byte) {
	type object struct {
		Properties map[string]any `json:"properties"`
	}
	var schema struct {
		object
		Ref  string            `json:"$ref"`
		Defs map[string]object `json:"$defs"`
	}
	if json.Unmarshal(text, &schema) != nil {
		return
	}
	k.learn(slices.Collect(maps.Keys(schema.Properties)))
	k.learn(slices.Collect(maps.Keys(schema.Defs[strings.TrimPrefix(schema.Ref, "#/$defs/")].Properties)))
}

// learnTemplate takes the keys that a template reads, and returns those that it
// reads below others.
func (k *valuesKnown) learnTemplate(text []byte) (below [][2]string) {
	for _, read := range readValue.FindAllSubmatch(text, -1) {
		k.keys[string(read[1])] = true
		if len(read[2]) > 0 {
			below = append(below, [2]string{string(read[1]), string(read[2])})
		}
	}
	for _, wrapper := range wrapping.FindAllSubmatch(text, -1) {
		k.wrappers[string(wrapper[1])] = true
	}
	for _, action := range templateActions.FindAll(text, -1) {
		if !strings.Contains(string(action), "Values") {
			continue
		}
		for _, quoted := range quotedText.FindAllSubmatch(action, -1) {
			k.keys[string(quoted[1])] = true
		}
	}
	if wholeValues.Match(text) {
		for _, read := range readField.FindAllSubmatch(text, -1) {
			k.keys[string(read[1])] = true
		}
	}
	return below
}

// nearest returns a known key that may have been meant, or "".
func (k *valuesKnown) nearest(key string) string {
	distance := func(other string) int {
		return levenshtein.Distance(strings.ToLower(key), strings.ToLower(other), nil)
	}
	// What templates read besides includes words that are none of the user's.
	candidates := slices.Sorted(maps.Keys(k.defaults))
	if len(candidates) == 0 {
		return ""
	}
	best := slices.MinFunc(candidates, func(a, b string) int { return cmp.Compare(distance(a), distance(b)) })
	if distance(best) > max(2, len(key)/3) {
		return ""
	}
	return best
}

package mesh

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

// ValueType is the type of a setting's value.
type ValueType int

// The types, with the Go values that stand for them.
const (
	Text      ValueType = iota // string
	Number                     // int64
	Switch                     // bool
	Ports                      // []string, each a port or a range: "5080", "4000-4100"
	Texts                      // []string
	Variables                  // map[string]string
)

// A Setting is one thing that users may say about the proxies of an enrolment:
// a name of ours, and the annotation by which the mesh is told.
type Setting struct {
	// Name is what users write: proxy_cpu_request.
	Name string
	// Key of the annotation that carries the value.
	Key string
	// Prefix tells that Key only begins the keys of Variables: each of them is an
	// annotation of its own, named by what follows.
	Prefix bool
	// Field of the JSON object that the annotation holds, if the value is only a
	// part of it; dots lead into the objects in it.
	Field string
	Type  ValueType
	// On and Off are how the annotation spells a Switch, "true" and "false" if
	// empty.
	On, Off string
	// Choices are all values that a Text may have; none if it is free.
	Choices []string
	// TemplateOnly settings are read from pods, never from their namespace.
	TemplateOnly bool
	// Description in Markdown: what it does, the default, the unit.
	Description string
	// Check refuses a Text, a Number in decimal, an element of Texts or Ports, or
	// the name of one of Variables, with an error that says what is expected; it
	// may be nil.
	Check func(value string) error
	// Spell turns Variables into the text of the annotation, and Read turns it
	// back; nil means a JSON object.
	Spell func(map[string]string) (string, error)
	Read  func(string) (map[string]string, error)
}

// A SettingError is a value that a setting cannot have.
type SettingError struct {
	Name string // of the setting
	Err  error
}

func (e *SettingError) Error() string { return fmt.Sprintf("setting %s: %v", e.Name, e.Err) }

func (e *SettingError) Unwrap() error { return e.Err }

// RequestsAboveLimits finds values of settings named like proxy_cpu_request that
// are more than those of their limits, which Kubernetes refuses pods for.
func RequestsAboveLimits(values map[string]any) []*SettingError {
	var found []*SettingError
	for _, name := range slices.Sorted(maps.Keys(values)) {
		of, isRequest := strings.CutSuffix(name, "_request")
		if !isRequest {
			continue
		}
		request, known := quantityOf(values[name])
		limit, limited := quantityOf(values[of+"_limit"])
		if known && limited && request.Cmp(limit) > 0 {
			found = append(found, &SettingError{Name: name, Err: fmt.Errorf("%s is more than %s_limit, which is %s; pods with such a proxy would be refused", &request, of, &limit)})
		}
	}
	return found
}

func quantityOf(value any) (quantity resource.Quantity, ok bool) {
	text, _ := value.(string)
	quantity, err := resource.ParseQuantity(text)
	return quantity, err == nil
}

// Annotations spells values, by the names of their settings, as annotations.
// The values are of the Go types that ValueType names. The error is a *SettingError.
func Annotations(settings []Setting, values map[string]any) (map[string]string, error) {
	annotations := map[string]string{}
	fields := map[string]map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		i := slices.IndexFunc(settings, func(s Setting) bool { return s.Name == name })
		if i < 0 {
			return nil, &SettingError{Name: name, Err: fmt.Errorf("there is no such setting")}
		}
		s := settings[i]
		if err := s.check(values[name]); err != nil {
			return nil, &SettingError{Name: name, Err: err}
		}
		if s.Field != "" {
			if fields[s.Key] == nil {
				fields[s.Key] = map[string]any{}
			}
			s.setField(fields[s.Key], values[name])
			continue
		}
		if variables, ok := values[name].(map[string]string); ok && s.Prefix {
			for variable, value := range variables {
				annotations[s.Key+variable] = value
			}
			continue
		}
		text, err := s.spell(values[name])
		if err != nil {
			return nil, &SettingError{Name: name, Err: err}
		}
		annotations[s.Key] = text
	}
	for key, object := range fields {
		text, err := json.Marshal(object)
		if err != nil {
			return nil, fmt.Errorf("annotation %s: %w", key, err)
		}
		annotations[key] = string(text)
	}
	return annotations, nil
}

func (s Setting) setField(object map[string]any, value any) {
	parts := strings.Split(s.Field, ".")
	last := len(parts) - 1
	for _, part := range parts[:last] {
		inner, ok := object[part].(map[string]any)
		if !ok {
			inner = map[string]any{}
			object[part] = inner
		}
		object = inner
	}
	object[parts[last]] = value
}

func (s Setting) spell(value any) (string, error) {
	switch value := value.(type) {
	case string:
		return value, nil
	case int64:
		return strconv.FormatInt(value, 10), nil
	case bool:
		if value {
			return cmp.Or(s.On, "true"), nil
		}
		return cmp.Or(s.Off, "false"), nil
	case []string:
		return strings.Join(value, ","), nil
	case map[string]string:
		if s.Spell != nil {
			return s.Spell(value)
		}
		text, err := json.Marshal(value)
		return string(text), err
	default:
		return "", fmt.Errorf("a %T cannot be its value", value)
	}
}

// check refuses a value that the mesh would not understand.
func (s Setting) check(value any) error {
	var texts []string
	switch value := value.(type) {
	case string:
		texts = []string{value}
	case int64:
		texts = []string{strconv.FormatInt(value, 10)}
	case []string:
		texts = value
	case map[string]string:
		texts = slices.Sorted(maps.Keys(value))
	}
	for _, text := range texts {
		if len(s.Choices) > 0 && !slices.Contains(s.Choices, text) {
			return fmt.Errorf("%q is not one of %s", text, strings.Join(s.Choices, ", "))
		}
		if s.Check == nil {
			continue
		}
		if err := s.Check(text); err != nil {
			return err
		}
	}
	return nil
}

// Values reads annotations back as values of settings, and returns the
// annotations that no setting has taken. What cannot be read is a *SettingError.
func Values(settings []Setting, annotations map[string]string) (values map[string]any, rest map[string]string, err error) {
	values, rest = map[string]any{}, maps.Clone(annotations)
	for _, s := range settings {
		if s.Prefix {
			variables := map[string]string{}
			for key, text := range annotations {
				if variable, ok := strings.CutPrefix(key, s.Key); ok {
					variables[variable] = text
					delete(rest, key)
				}
			}
			if len(variables) > 0 {
				values[s.Name] = variables
			}
			continue
		}
		text, ok := annotations[s.Key]
		if !ok {
			continue
		}
		value, err := s.read(text)
		if err != nil {
			return nil, nil, &SettingError{Name: s.Name, Err: fmt.Errorf("annotation %s: %w", s.Key, err)}
		}
		if value != nil {
			values[s.Name] = value
			delete(rest, s.Key)
		}
	}
	return values, rest, nil
}

// Expressible are those of the annotations that settings say in full, spelled as
// they are; nil if there are none. The others are for whoever has written them.
func Expressible(settings []Setting, annotations map[string]string) map[string]string {
	var found map[string]string
	for key, text := range annotations {
		values, _, err := Values(settings, map[string]string{key: text})
		if err != nil {
			continue
		}
		if spelled, err := Annotations(settings, values); err == nil && spelled[key] == text && len(spelled) == 1 {
			if found == nil {
				found = map[string]string{}
			}
			found[key] = text
		}
	}
	return found
}

func (s Setting) read(text string) (any, error) {
	if s.Field != "" {
		field := json.RawMessage(text)
		for part := range strings.SplitSeq(s.Field, ".") {
			var object map[string]json.RawMessage
			if err := json.Unmarshal(field, &object); err != nil {
				return nil, err
			}
			var ok bool
			if field, ok = object[part]; !ok {
				return nil, nil //nolint:nilnil // Nothing is said about it.
			}
		}
		return s.readJSON(field)
	}
	switch s.Type {
	case Number:
		return strconv.ParseInt(text, 10, 64)
	case Switch:
		switch text {
		case cmp.Or(s.On, "true"):
			return true, nil
		case cmp.Or(s.Off, "false"):
			return false, nil
		}
		return nil, fmt.Errorf("%q is neither %s nor %s", text, cmp.Or(s.On, "true"), cmp.Or(s.Off, "false"))
	case Ports, Texts:
		if text == "" {
			return []string{}, nil
		}
		return strings.Split(text, ","), nil
	case Variables:
		if s.Read != nil {
			return s.Read(text)
		}
		var variables map[string]string
		err := json.Unmarshal([]byte(text), &variables)
		return variables, err
	default:
		return text, nil
	}
}

func (s Setting) readJSON(text json.RawMessage) (value any, err error) {
	switch s.Type {
	case Number:
		var number int64
		err = json.Unmarshal(text, &number)
		value = number
	case Switch:
		var on bool
		err = json.Unmarshal(text, &on)
		value = on
	case Ports, Texts:
		var texts []string
		err = json.Unmarshal(text, &texts)
		value = texts
	case Variables:
		var variables map[string]string
		err = json.Unmarshal(text, &variables)
		value = variables
	default:
		var plain string
		err = json.Unmarshal(text, &plain)
		value = plain
	}
	return value, err
}

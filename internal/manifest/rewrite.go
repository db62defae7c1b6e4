package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"
	kubernetesyaml "sigs.k8s.io/yaml"
)

// Rewrite asks choose for an edit of every object of a text, also of those in
// lists, and makes the edits. Choose may only look at the objects. The text is
// YAML or JSON in UTF-8, of any number of documents. Values that are right
// already are left as they are written, so rewriting again changes nothing.
//
// Errors begin with the number of the document, the line in the text and, if
// there is one, the object: "document 3 (line 41): Deployment dgraph/alpha: …".
func Rewrite(text []byte, choose func(*unstructured.Unstructured) (Edit, error)) ([]byte, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("the manifest is not text in UTF-8")
	}
	source := newSource(text)
	documents, err := parse(source)
	if err != nil {
		return nil, err
	}
	var splices []splice
	for _, d := range documents {
		made, err := d.edit(source, choose)
		if err != nil {
			return nil, err
		}
		splices = append(splices, made...)
	}
	if len(splices) == 0 {
		return text, nil
	}
	result := source.spliced(splices)
	if err := verify(result, documents); err != nil {
		return nil, err
	}
	return result, nil
}

// A document is one document of a text: as it stands there, and as Kubernetes
// reads it.
type document struct {
	number int // from 1
	root   *yaml.Node
	value  any
	shared map[*yaml.Node]bool // what aliases refer to
}

// parse reads all documents of a text. Nodes tell where things stand, values
// what they mean to Kubernetes, which reads YAML 1.1: there, "yes" is true.
func parse(s source) ([]*document, error) {
	var documents []*document
	decoder := yaml.NewDecoder(bytes.NewReader(s.text))
	for {
		var node yaml.Node
		err := decoder.Decode(&node)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", len(documents)+1, err)
		}
		documents = append(documents, &document{number: len(documents) + 1, root: &node, shared: map[*yaml.Node]bool{}})
	}
	for i, d := range documents {
		part := span{s.at(d.root), len(s.text)}
		if i+1 < len(documents) {
			part.end = s.at(documents[i+1].root)
		}
		encoded, err := kubernetesyaml.YAMLToJSON(s.text[part.start:part.end])
		if err == nil {
			err = json.Unmarshal(encoded, &d.value)
		}
		if err != nil {
			return nil, d.fail(d.root.Content[0], "", errNoJSON) // The parser's words may quote a Secret.
		}
	}
	return documents, nil
}

// verify compares what a text says with what its documents were to become, so
// that no style of YAML that is not thought of here can lead to a wrong manifest.
func verify(text []byte, want []*document) error {
	got, err := parse(newSource(text))
	if err != nil || len(got) != len(want) {
		return fmt.Errorf("the manifest: %w", errStyle)
	}
	for i, d := range want {
		if !reflect.DeepEqual(got[i].value, d.value) {
			return d.fail(d.root.Content[0], "", errStyle)
		}
	}
	return nil
}

var errNoJSON = errors.New("it cannot be turned into JSON for Kubernetes: keys have to be plain values, numbers finite, binary values valid, and aliases few")

// errStyle is what no manifest is known to lead to that people or tools write.
var errStyle = errors.New("it is written in a style of YAML that cannot be changed in place: write metadata as plain mappings, one key a line")

// fail says where an error is.
func (d *document) fail(at *yaml.Node, object string, err error) error {
	if object != "" {
		object += ": "
	}
	return fmt.Errorf("document %d (line %d): %s%w", d.number, at.Line, object, err)
}

// edit returns the splices that make the edits of all objects of the document,
// and makes them in its value.
func (d *document) edit(s source, choose func(*unstructured.Unstructured) (Edit, error)) ([]splice, error) {
	if d.value == nil {
		return nil, nil // There is nothing but comments.
	}
	if err := d.inspect(d.root); err != nil {
		return nil, err
	}
	root := d.root.Content[0]
	e := editor{source: s, document: d, choose: choose, json: root.Style&yaml.FlowStyle != 0}
	err := e.visit(root, d.value, schema.GroupVersionKind{})
	return e.splices, err
}

// inspect refuses duplicate keys and collects what is shared.
func (d *document) inspect(node *yaml.Node) error {
	if node.Kind == yaml.AliasNode {
		d.shared[node.Alias] = true
	}
	if node.Kind == yaml.MappingNode {
		lines := map[string]int{}
		for i := 0; i < len(node.Content); i += 2 {
			key := node.Content[i]
			if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
				continue
			}
			if first, ok := lines[key.Value]; ok {
				return d.fail(key, describe(d.value), fmt.Errorf("key %q is there twice, first on line %d; remove one of them", key.Value, first))
			}
			lines[key.Value] = key.Line
		}
	}
	for _, child := range node.Content {
		if err := d.inspect(child); err != nil {
			return err
		}
	}
	return nil
}

// An editor collects the splices for one document.
type editor struct {
	source
	*document

	choose  func(*unstructured.Unstructured) (Edit, error)
	json    bool   // the document is JSON, or as good as
	name    string // of the object in hand
	splices []splice
}

// visit edits one object, or those of a list. Items of a typed list need not
// say what they are: it is kind then.
func (e *editor) visit(node *yaml.Node, value any, kind schema.GroupVersionKind) error {
	found, ok := value.(map[string]any)
	if !ok {
		return e.fail(node, "", errors.New("it is no Kubernetes object but a single value or a list"))
	}
	object := &unstructured.Unstructured{Object: maps.Clone(found)}
	if object.GetKind() == "" && object.GetAPIVersion() == "" && kind.Kind != "" {
		object.SetGroupVersionKind(kind)
	}
	e.name = describe(object.Object)
	if object.GetKind() == "" || object.GetAPIVersion() == "" {
		return e.fail(node, e.name, errors.New("it is no Kubernetes object: apiVersion or kind is missing"))
	}
	if items, ok := found["items"].([]any); ok && strings.HasSuffix(object.GetKind(), "List") {
		kind = object.GroupVersionKind()
		kind.Kind = strings.TrimSuffix(kind.Kind, "List")
		_, list := child(node, "items")
		if list == nil || list.Kind != yaml.SequenceNode {
			return e.fail(node, e.name, errors.New("its items come from elsewhere, by an alias or a merge key; write them out"))
		}
		for i, item := range items {
			if err := e.visit(list.Content[i], item, kind); err != nil {
				return err
			}
		}
		return nil
	}
	edit, err := e.choose(object)
	if err != nil {
		return e.fail(node, e.name, err)
	}
	lacking := edit.lacking(found)
	if len(lacking) == 0 {
		return nil
	}
	before := place{node: node, value: runtime.DeepCopyJSON(found), step: defaultStep}
	if err := edit.apply(found); err != nil {
		return e.fail(node, e.name, err)
	}
	return e.fill(before, lacking)
}

// describe names an object as messages do: "Deployment dgraph/alpha".
func describe(value any) string {
	content, ok := value.(map[string]any)
	if !ok {
		return ""
	}
	object := unstructured.Unstructured{Object: content}
	text := object.GetKind()
	if namespace := object.GetNamespace(); namespace != "" {
		text += " " + namespace + "/" + object.GetName()
	} else if object.GetName() != "" {
		text += " " + object.GetName()
	}
	return strings.TrimSpace(text)
}

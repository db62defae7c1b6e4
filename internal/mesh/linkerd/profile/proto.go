package profile

import (
	"bytes"
	"fmt"
	"net/http"
	"regexp"

	"github.com/bufbuild/protocompile/ast"
	"github.com/bufbuild/protocompile/parser"
	"github.com/bufbuild/protocompile/reporter"
)

// maxProto is how many bytes of a protobuf definition are read: its parser takes a
// thousand times as much memory for what is nested without end.
const maxProto = 1 << 20

// ProtoNames are how the routes of a protobuf definition are named.
type ProtoNames int

// The ways to name routes.
const (
	// MethodNames are the bare names of the methods, as Linkerd has them. Two
	// methods of one name are an error: their metrics could not be told apart.
	MethodNames ProtoNames = iota
	// AmbiguousNames are the bare names even then.
	AmbiguousNames
	// FullNames are those of gRPC: emojivoto.v1.VotingService/VoteDog.
	FullNames
)

// FromProto derives routes from a protobuf definition, as `linkerd profile
// --proto` does: one for each method of each service, in the order of the text;
// those that declare an idempotency_level may be retried. What it imports is
// neither read nor needed. Errors tell line and column.
func FromProto(text []byte, names ProtoNames) ([]Route, error) {
	if len(text) > maxProto {
		return nil, fmt.Errorf("the definition has %d bytes, and %d are read at most", len(text), maxProto)
	}
	file, err := parser.Parse("", bytes.NewReader(text), reporter.NewHandler(nil))
	if err != nil {
		return nil, positioned(err)
	}
	prefix, err := packagePrefix(file)
	if err != nil {
		return nil, err
	}
	routes := []Route{}
	places := map[string]string{} // of names and of paths
	for _, declaration := range file.Decls {
		service, ok := declaration.(*ast.ServiceNode)
		if !ok {
			continue
		}
		for _, element := range service.Decls {
			method, ok := element.(*ast.RPCNode)
			if !ok {
				continue
			}
			route, full := routeOf(prefix, service, method)
			here := place(file, method)
			if at, double := places["/"+full]; double {
				return nil, fmt.Errorf("%s: method %s was already declared at %s", here, full, at)
			}
			places["/"+full] = here
			if names == FullNames {
				route.Name = full
			}
			if at, double := places[route.Name]; double && names == MethodNames {
				return nil, fmt.Errorf("%s: method %s has the bare name of that at %s, so that the metrics of their routes could not be told apart; give routes their full names", here, full, at)
			}
			places[route.Name] = here
			if len(routes) == maxEntries {
				return nil, fmt.Errorf("there are more than %d methods, and a ServiceProfile of so many is too large for Kubernetes", maxEntries)
			}
			if route.IsRetryable, err = idempotent(file, method); err != nil {
				return nil, err
			}
			routes = append(routes, route)
		}
	}
	return routes, nil
}

// routeOf is the route of a method by its bare name, and its full one.
func routeOf(prefix string, service *ast.ServiceNode, method *ast.RPCNode) (route Route, full string) {
	full = prefix + service.Name.Val + "/" + method.Name.Val
	return Route{
		Name:      method.Name.Val,
		Condition: RequestMatch{Method: http.MethodPost, PathRegex: regexp.QuoteMeta("/" + full)},
	}, full
}

// packagePrefix is what the package puts before the names of services.
func packagePrefix(file *ast.FileNode) (string, error) {
	prefix := ""
	for _, declaration := range file.Decls {
		if p, ok := declaration.(*ast.PackageNode); ok {
			if prefix != "" {
				return "", fmt.Errorf("%s: there is more than one package", place(file, p))
			}
			prefix = string(p.Name.AsIdentifier()) + "."
		}
	}
	return prefix, nil
}

// idempotent reports whether a method says that it may be called again.
func idempotent(file *ast.FileNode, method *ast.RPCNode) (bool, error) {
	for _, element := range method.Decls {
		option, ok := element.(*ast.OptionNode)
		if !ok || len(option.Name.Parts) != 1 || option.Name.Parts[0].IsExtension() || option.Name.Parts[0].Value() != "idempotency_level" {
			continue
		}
		switch level, _ := option.Val.Value().(ast.Identifier); level {
		case "IDEMPOTENT", "NO_SIDE_EFFECTS":
			return true, nil
		case "IDEMPOTENCY_UNKNOWN":
			return false, nil
		default:
			return false, fmt.Errorf("%s: the idempotency_level is none of IDEMPOTENT, NO_SIDE_EFFECTS and IDEMPOTENCY_UNKNOWN", place(file, option))
		}
	}
	return false, nil
}

// place is where a node begins.
func place(file *ast.FileNode, node ast.Node) string {
	start := file.NodeInfo(node).Start()
	return fmt.Sprintf("line %d, column %d", start.Line, start.Col)
}

// positioned names the place of a syntax error in the words of the others.
func positioned(err error) error {
	if at, ok := err.(reporter.ErrorWithPos); ok { //nolint:errorlint // What it wraps has no position.
		return fmt.Errorf("line %d, column %d: %w", at.GetPosition().Line, at.GetPosition().Col, at.Unwrap())
	}
	return err
}

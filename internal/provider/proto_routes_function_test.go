package provider

import "testing"

func TestProtoRoutesFunction(t *testing.T) {
	t.Parallel()
	const (
		single = "package a;\nservice S {\n  rpc M (X) returns (stream Y) { option idempotency_level = IDEMPOTENT; }\n}"
		double = "package a;\nservice S {\n  rpc M (X) returns (Y);\n}\nservice T {\n  rpc M (X) returns (Y);\n}"
	)
	route := func(name, path, retryable string) string {
		return `{"condition_json":null,"method":"POST","name":"` + name + `","path_regex":"` + path + `","response_classes":null,"retryable":` + retryable + `,"timeout":null}`
	}
	derives(t, "proto_routes", map[string]struct{ text, options, want string }{
		"plain":            {single, "", "[" + route("M", `/a\\.S/M`, "true") + "]"},
		"full names":       {double, ", { full_names = true }", "[" + route("a.S/M", `/a\\.S/M`, "false") + "," + route("a.T/M", `/a\\.T/M`, "false") + "]"},
		"same names twice": {double, ", { full_names = false }", "[" + route("M", `/a\\.S/M`, "false") + "," + route("M", `/a\\.T/M`, "false") + "]"},
		"no service":       {"package a;", ", { full_names = null }", "[]"},
	})
	refusesToDerive(t, "proto_routes", map[string]struct{ text, options, parameter, want string }{
		"no protobuf":    {"openapi: 3.0.0", "", "proto", "Line 1, column 1: syntax error"},
		"same names":     {double, "", "proto", "Line 6, column 3: method a.T/M has the bare name of that at line 3, column 3"},
		"another option": {double, ", { names = true }", "options", `attribute "full_names" is required`},
		"no boolean":     {double, `, { full_names = "perhaps" }`, "options", "a bool is required"},
	})
}

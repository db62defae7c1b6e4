package profile

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
)

// call is the expected route of a method.
func call(name, regex string, retryable bool) Route {
	return Route{Name: name, Condition: RequestMatch{Method: http.MethodPost, PathRegex: regex}, IsRetryable: retryable}
}

// The voting service of Emojivoto with what definitions may hold besides.
const voting = `// Who votes for what.
syntax = "proto3";
package emojivoto.v1;

import "google/api/annotations.proto";
import public "never/read.proto";
option go_package = "github.com/buoyantio/emojivoto/proto";

message VoteRequest { string choice = 1; }
message VotingResult { string shortcode = 1; int32 votes = 2; }

service VotingService {
  option deprecated = false;
  rpc VotePoop (VoteRequest) returns (VoteResponse);
  rpc VoteJoy (.emojivoto.v1.VoteRequest) returns (other.v2.VoteResponse) {
    option (google.api.http) = { post: "/v1/joy" body: "*" };
    option idempotency_level = IDEMPOTENT;
  }
  /* rpc Commented (A) returns (B); */
  rpc Results (ResultsRequest) returns (ResultsResponse) { option idempotency_level = NO_SIDE_EFFECTS; };
  rpc Watch (stream ResultsRequest) returns (stream ResultsResponse) { option idempotency_level = IDEMPOTENCY_UNKNOWN; }
  rpc rpc (rpc) returns (returns) { option (my.idempotency_level) = IDEMPOTENT; }
}
service Admin { rpc Reset (A) returns (B) {} }
`

func TestFromProto(t *testing.T) {
	t.Parallel()
	twice := `syntax = "proto2"; service A { rpc List (X) returns (Y); } service B { rpc List (X) returns (Y); }`
	for name, c := range map[string]struct {
		text  string
		names ProtoNames
		want  []Route
	}{
		"emojivoto": {voting, MethodNames, []Route{
			call("VotePoop", `/emojivoto\.v1\.VotingService/VotePoop`, false),
			call("VoteJoy", `/emojivoto\.v1\.VotingService/VoteJoy`, true),
			call("Results", `/emojivoto\.v1\.VotingService/Results`, true),
			call("Watch", `/emojivoto\.v1\.VotingService/Watch`, false),
			call("rpc", `/emojivoto\.v1\.VotingService/rpc`, false),
			call("Reset", `/emojivoto\.v1\.Admin/Reset`, false),
		}},
		"without package": {`service S { rpc M (A) returns (B); }`, MethodNames, []Route{call("M", "/S/M", false)}},
		"package after":   {`syntax = "proto3"; service S { rpc M (A) returns (B); } package late;`, MethodNames, []Route{call("M", `/late\.S/M`, false)}},
		"editions":        {`edition = "2023"; package e; option features.field_presence = IMPLICIT; service S { rpc M (A) returns (B); }`, MethodNames, []Route{call("M", `/e\.S/M`, false)}},
		"newer edition":   {`edition = "2024"; package e; service S { rpc M (A) returns (B); }`, MethodNames, []Route{call("M", `/e\.S/M`, false)}},
		"same names":      {twice, AmbiguousNames, []Route{call("List", "/A/List", false), call("List", "/B/List", false)}},
		"full names":      {twice, FullNames, []Route{call("A/List", "/A/List", false), call("B/List", "/B/List", false)}},
		"with package":    {"package a.b;" + twice[len(`syntax = "proto2";`):], FullNames, []Route{call("a.b.A/List", `/a\.b\.A/List`, false), call("a.b.B/List", `/a\.b\.B/List`, false)}},
		"no service":      {`syntax = "proto3"; message M {}`, MethodNames, []Route{}},
		"nothing":         {"", MethodNames, []Route{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := FromProto([]byte(c.text), c.names)
			if err != nil {
				t.Fatal(err)
			}
			same(t, got, c.want)
			if err := (Spec{Routes: got}).Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFromProtoRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"no protobuf":  {"openapi: 3.0.0\n", "line 1, column 1: syntax error"},
		"unclosed":     {"service S {\n  rpc M (A) returns (B);\n", "line 3, column 1: syntax error"},
		"same names":   {"service A { rpc M (X) returns (Y); }\nservice B { rpc M (X) returns (Y); }", "line 2, column 13: method B/M has the bare name of that at line 1, column 13"},
		"method twice": {"service A {\n rpc M (X) returns (Y);\n rpc M (X) returns (Y); }", "line 3, column 2: method A/M was already declared at line 2, column 2"},
		"two packages": {"package a;\npackage b;", "line 2, column 1: there is more than one package"},
		"no level":     {"service A {\n rpc M (X) returns (Y) { option idempotency_level = 1; }\n}", "line 2, column 26: the idempotency_level is none"},
		"other level":  {"service A { rpc M (X) returns (Y) { option idempotency_level = SOMETIMES; } }", "none of IDEMPOTENT"},
		"too large":    {strings.Repeat(" ", maxProto+1), "are read at most"},
		"too many":     {"service A {" + strings.Repeat("rpc M (X) returns (Y);", maxEntries+1) + "}", "already declared"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			routes, err := FromProto([]byte(c.text), MethodNames)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%d routes, error %v; want %q", len(routes), err, c.want)
			}
		})
	}
}

// TestFromProtoNested reads what is nested as deep as nobody writes it.
func TestFromProtoNested(t *testing.T) {
	t.Parallel()
	const depth = 20_000
	for name, text := range map[string]string{
		"messages": strings.Repeat("message M {", depth) + strings.Repeat("}", depth),
		"unclosed": strings.Repeat("message M {", depth),
		"options":  "service S { rpc M (A) returns (B) { option (o) = {" + strings.Repeat("a {", depth) + strings.Repeat("}", depth) + "}; } }",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			routes, err := FromProto([]byte(text), MethodNames)
			if (err != nil) != (name == "unclosed") {
				t.Errorf("%v, %v", routes, err)
			}
		})
	}
}

func FuzzFromProto(f *testing.F) {
	for _, seed := range []string{voting, `edition = "2023"; service S { rpc M (stream A) returns (B); }`, "service A { rpc M (X) returns (Y); } service B { rpc M (X) returns (Y); }"} {
		for names := range int(FullNames) + 1 {
			f.Add(seed, names)
		}
	}
	f.Fuzz(func(t *testing.T, text string, names int) {
		text = strings.ToValidUTF8(text, "?") // As all strings of Terraform are.
		routes, err := FromProto([]byte(text), ProtoNames(names))
		again, err2 := FromProto([]byte(text), ProtoNames(names))
		if !reflect.DeepEqual(routes, again) || (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() {
			t.Fatalf("%v, %v\nand then %v, %v", routes, err, again, err2)
		}
		if err != nil {
			return
		}
		if err := (Spec{Routes: routes}).Check(); err != nil {
			t.Fatal(err)
		}
		for _, r := range routes {
			path := strings.ReplaceAll(r.Condition.PathRegex, `\`, "")
			if !matches(t, r, path) || strings.Count(path, "/") != 2 || !strings.HasSuffix(path, r.Name) {
				t.Fatalf("route %q of %q", r.Name, r.Condition.PathRegex)
			}
		}
	})
}

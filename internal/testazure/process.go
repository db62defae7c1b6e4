package testazure

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// Main is for TestMain of packages that run clients in their own process: it
// starts an Azure for all their tests, puts it where azure points, lets this process
// find it, runs the tests and ends it. Processes that tests start do not find it
// unless they are given Azure.Environ. It returns the exit code.
func Main(ctx context.Context, run func() int, azure **Azure) int {
	a, err := Start(ctx)
	if err == nil {
		err = a.adopt()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	*azure = a
	code := run()
	if err := a.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// adopt lets this process find Azure: Go reads the environment for it once, and
// after that it may be as it was.
func (a *Azure) adopt() error {
	restore, err := setenv(a.Environ())
	defer restore()
	if err != nil {
		return err
	}
	if _, err := x509.SystemCertPool(); err != nil {
		return err
	}
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: managementHosts()[0]}})
	if err == nil && (proxy == nil || proxy.String() != a.proxy.URL) {
		err = fmt.Errorf("this process has read its environment before it could find the proxy %s", a.proxy.URL)
	}
	return err
}

// setenv sets variables of the form `NAME=value`, and returns what sets them back.
func setenv(variables []string) (restore func(), err error) {
	before := map[string]*string{}
	restore = func() {
		for name, value := range before {
			// It was possible before.
			if value == nil {
				_ = os.Unsetenv(name)
			} else {
				_ = os.Setenv(name, *value)
			}
		}
	}
	for _, variable := range variables {
		name, value, _ := strings.Cut(variable, "=")
		if old, ok := os.LookupEnv(name); ok {
			before[name] = &old
		} else {
			before[name] = nil
		}
		if err := os.Setenv(name, value); err != nil {
			return restore, err
		}
	}
	return restore, nil
}

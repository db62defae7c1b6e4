package testazure

import "net/http"

type grant struct{ Type, Name string }
type Registry struct{ resource }
func (r *Registry) manage(w http.ResponseWriter, q *http.Request, who caller, operation string) {}
func (r *Registry) serve(w http.ResponseWriter, q *http.Request) {}
type Source struct{}
func (r *Source) serve(w http.ResponseWriter, q *http.Request) {}
type operation struct{}
func (a *Azure) operate(w http.ResponseWriter, r *http.Request) bool { return false }
func (a *Azure) registryHost(id string) string { return "" }

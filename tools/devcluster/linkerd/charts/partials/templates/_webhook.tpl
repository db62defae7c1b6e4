{{- /* Stands in for how Linkerd's control plane makes its webhook certificates and configurations. */ -}}

{{- /*
The certificate of a webhook, as YAML {secret: bool, crt, key, ca}, base64. Takes root, config (its values) and service.
Made anew on every render unless the values hold one: this is how the real chart does it, and why its renders differ.
*/ -}}
{{- define "linkerd.webhookTLS" -}}
{{- $config := .config -}}
{{- if and $config.injectCaFrom $config.injectCaFromSecret -}}
{{- fail "injectCaFrom and injectCaFromSecret cannot both be set" -}}
{{- end -}}
{{- $injected := or $config.injectCaFrom $config.injectCaFromSecret -}}
{{- if and $injected $config.caBundle -}}
{{- fail "injectCaFrom or injectCaFromSecret cannot be set if providing a caBundle" -}}
{{- end -}}
{{- if and $config.externalSecret (empty $config.caBundle) (empty $injected) -}}
{{- fail "if externalSecret is set, then caBundle, injectCaFrom, or injectCaFromSecret must be set" -}}
{{- end -}}
{{- $host := printf "%s.%s.svc" .service .root.Release.Namespace -}}
{{- $generated := dict "Cert" "" "Key" "" -}}
{{- if not (and (or $config.externalSecret $config.crtPEM) (or $config.caBundle $injected)) -}}
{{- $pair := genSelfSignedCert $host (list) (list $host) 365 -}}
{{- $generated = dict "Cert" $pair.Cert "Key" $pair.Key -}}
{{- end -}}
secret: {{ not $config.externalSecret }}
crt: {{ $config.crtPEM | default $generated.Cert | trim | b64enc | quote }}
key: {{ $config.keyPEM | default $generated.Key | trim | b64enc | quote }}
ca: {{ if not $injected }}{{ $config.caBundle | default $generated.Cert | trim | b64enc }}{{ end }}
{{- end -}}

{{- /* The Secret of a webhook. Takes root, component, service, tls (of linkerd.webhookTLS). */ -}}
{{- define "linkerd.webhookSecret" -}}
{{- if .tls.secret }}
apiVersion: v1
kind: Secret
metadata:
  {{- include "linkerd.metadata" (merge (dict "name" (printf "%s-k8s-tls" .service)) .) | nindent 2 }}
  annotations:
    {{- include "linkerd.createdBy" .root | nindent 4 }}
type: kubernetes.io/tls
data:
  tls.crt: {{ .tls.crt }}
  tls.key: {{ .tls.key }}
{{- end }}
{{- end -}}

{{- /* The configuration of a webhook. Takes root, component, service, tls, config, kind and rest (YAML: rules and what else the webhook has). */ -}}
{{- define "linkerd.webhookConfiguration" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: {{ .kind }}
metadata:
  name: {{ .service }}-webhook-config
  labels:
    {{- include "linkerd.labels" . | nindent 4 }}
  {{- if or .config.injectCaFrom .config.injectCaFromSecret }}
  annotations:
    {{- with .config.injectCaFrom }}
    cert-manager.io/inject-ca-from: {{ . }}
    {{- end }}
    {{- with .config.injectCaFromSecret }}
    cert-manager.io/inject-ca-from-secret: {{ . }}
    {{- end }}
  {{- end }}
webhooks:
- name: {{ .service }}.linkerd.io
  {{- with .config.namespaceSelector }}
  namespaceSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .config.objectSelector }}
  objectSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  clientConfig:
    service:
      name: {{ .service }}
      namespace: {{ .root.Release.Namespace }}
      path: "/"
    {{- with .tls.ca }}
    caBundle: {{ . }}
    {{- end }}
  failurePolicy: {{ .root.Values.webhookFailurePolicy }}
  admissionReviewVersions: ["v1", "v1beta1"]
  sideEffects: None
  {{- .rest | trim | nindent 2 }}
{{- end -}}

{{- /* Stands in for what the policies of Linkerd's chart linkerd-viz have in common. */ -}}

{{- /* A Server. Takes root, component, name, port, protocol. */ -}}
{{- define "viz.server" -}}
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata:
  {{- include "extension.metadata" . | nindent 2 }}
  annotations:
    {{- include "linkerd.createdBy" .root | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      linkerd.io/extension: viz
      component: {{ .component }}
  port: {{ .port }}
  proxyProtocol: {{ .protocol }}
{{- end -}}

{{- /* An AuthorizationPolicy. Takes root, component, name, server and by, a reference to who is let in. */ -}}
{{- define "viz.authorization" -}}
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata:
  {{- include "extension.metadata" . | nindent 2 }}
  annotations:
    {{- include "linkerd.createdBy" .root | nindent 4 }}
spec:
  targetRef:
    group: policy.linkerd.io
    kind: Server
    name: {{ .server }}
  requiredAuthenticationRefs:
  - {{- toYaml .by | nindent 4 }}
{{- end -}}

{{- /* A NetworkAuthentication for every address. Takes root, name. */ -}}
{{- define "viz.anywhere" -}}
apiVersion: policy.linkerd.io/v1alpha1
kind: NetworkAuthentication
metadata:
  {{- include "extension.metadata" . | nindent 2 }}
  annotations:
    {{- include "linkerd.createdBy" .root | nindent 4 }}
spec:
  networks:
  - cidr: 0.0.0.0/0
  - cidr: "::/0"
{{- end -}}

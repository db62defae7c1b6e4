{{- /* Stands in for the access objects of Linkerd's control plane: accounts, roles and bindings. */ -}}

{{- /* Takes root, component. */ -}}
{{- define "linkerd.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "linkerd.metadata" (merge (dict "name" (printf "linkerd-%s" .component)) .) | nindent 2 }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* A ClusterRole and its binding to the component's ServiceAccount. Takes root, component, label, role, binding, rules (YAML), labels. */ -}}
{{- define "linkerd.clusterAccess" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ .role }}
  labels:
    {{- include "linkerd.labels" (dict "root" .root "component" .label) | nindent 4 }}
    {{- with .labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
rules:
{{ .rules | trim }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ .binding | default .role }}
  labels:
    {{- include "linkerd.labels" (dict "root" .root "component" .label) | nindent 4 }}
    {{- with .labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ .role }}
subjects:
- kind: ServiceAccount
  name: linkerd-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
{{- end -}}

{{- /* A Role of the control plane's namespace and its binding. Takes what linkerd.clusterAccess takes. */ -}}
{{- define "linkerd.namespaceAccess" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- include "linkerd.metadata" (dict "root" .root "component" .label "name" .role) | nindent 2 }}
    {{- with .labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
rules:
{{ .rules | trim }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  {{- include "linkerd.metadata" (dict "root" .root "component" .label "name" (.binding | default .role)) | nindent 2 }}
    {{- with .labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ .role }}
subjects:
- kind: ServiceAccount
  name: linkerd-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
{{- end -}}

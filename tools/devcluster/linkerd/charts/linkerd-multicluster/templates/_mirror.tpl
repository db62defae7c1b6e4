{{- /* Stands in for what the Deployments of Linkerd's chart linkerd-multicluster have in common. */ -}}

{{- /* A Deployment of one container with an account of its own. Takes root, name, component, replicas, container (YAML), annotations, podLabels. */ -}}
{{- define "multicluster.deployment" -}}
{{- $values := .root.Values -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "extension.metadata" . | nindent 2 }}
    app.kubernetes.io/name: {{ .component }}
    app.kubernetes.io/part-of: Linkerd
    app.kubernetes.io/version: {{ $values.linkerdVersion }}
  annotations:
    {{- include "linkerd.createdBy" .root | nindent 4 }}
    {{- with .annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  replicas: {{ int .replicas }}
  revisionHistoryLimit: {{ int $values.revisionHistoryLimit }}
  selector:
    matchLabels:
      {{- toYaml .podLabels | nindent 6 }}
  template:
    metadata:
      annotations:
        {{- include "linkerd.createdBy" .root | nindent 8 }}
        linkerd.io/inject: enabled
        cluster-autoscaler.kubernetes.io/safe-to-evict: "true"
      labels:
        linkerd.io/extension: multicluster
        {{- toYaml .podLabels | nindent 8 }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if $values.enablePodAntiAffinity }}
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - labelSelector:
              matchLabels:
                {{- toYaml .podLabels | nindent 16 }}
            topologyKey: kubernetes.io/hostname
      {{- end }}
      serviceAccountName: {{ .name }}
      securityContext:
        seccompProfile:
          type: RuntimeDefault
      containers:
      - {{- .container | trim | nindent 8 }}
---
{{ include "extension.serviceAccount" . }}
{{- if and $values.enablePodDisruptionBudget (gt (int .replicas) 1) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "extension.metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- toYaml .podLabels | nindent 6 }}
{{- end }}
{{- end -}}

{{- /* A container that mirrors Services. Takes root, of (its values) and args. */ -}}
{{- define "multicluster.mirror" -}}
name: service-mirror
image: {{ .of.image.name }}:{{ .of.image.version }}
imagePullPolicy: {{ .of.image.pullPolicy | default .root.Values.imagePullPolicy }}
args:
- service-mirror
- -log-level={{ .of.logLevel }}
- -log-format={{ .of.logFormat }}
- -namespace={{ .root.Release.Namespace }}
- -enable-pprof={{ .of.enablePprof }}
{{- range .args }}
- {{ . }}
{{- end }}
ports:
- containerPort: 9999
  name: admin
{{ include "extension.securityContext" (dict "user" .of.UID "group" .of.GID) }}
{{- end -}}

{{- define "multicluster.mirror.rules" -}}
- apiGroups: [""]
  resources: [endpoints, services]
  verbs: [list, get, watch, create, delete, update]
- apiGroups: [""]
  resources: [namespaces]
  verbs: [list, get, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list, get, watch]
{{- end -}}

{{- /* What a controller may do in the namespace. Takes root, name, component. */ -}}
{{- define "multicluster.links" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  {{- include "extension.metadata" . | nindent 2 }}
rules:
- apiGroups: [""]
  resources: [secrets]
  verbs: [list, get, watch]
- apiGroups: [multicluster.linkerd.io]
  resources: [links, links/status]
  verbs: [list, get, watch, update, patch]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create, get, update, patch]
---
{{ include "extension.binding" (merge (dict "kind" "RoleBinding" "role" .name "account" .name) .) }}
{{- end -}}

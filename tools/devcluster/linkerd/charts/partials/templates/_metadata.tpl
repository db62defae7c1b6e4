{{- /* Stands in for the metadata partials of Linkerd's charts: labels, annotations, images, resources, scheduling. */ -}}

{{- /* Labels of an object. Takes root and, unless the object belongs to no component, component. */ -}}
{{- define "linkerd.labels" -}}
{{- with .component -}}
linkerd.io/control-plane-component: {{ . }}
{{ end -}}
linkerd.io/control-plane-ns: {{ .root.Release.Namespace }}
{{- with .root.Values.commonLabels }}
{{ toYaml . | trim }}
{{- end }}
{{- end -}}

{{- /* Metadata of a namespaced object. Takes root, name, component. */ -}}
{{- define "linkerd.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "linkerd.labels" . | nindent 2 }}
{{- end -}}

{{- define "linkerd.createdBy" -}}
linkerd.io/created-by: linkerd/helm {{ .Values.linkerdVersion }}
{{- end -}}

{{- define "linkerd.part.of" -}}
app.kubernetes.io/name: {{ .component }}
app.kubernetes.io/part-of: Linkerd
app.kubernetes.io/version: {{ .root.Values.linkerdVersion }}
{{- end -}}

{{- define "linkerd.controllerImage" -}}
{{ .Values.controllerImage }}:{{ .Values.controllerImageVersion | default .Values.linkerdVersion }}
{{- end -}}

{{- define "linkerd.trustDomain" -}}
{{ .identityTrustDomain | default .clusterDomain }}
{{- end -}}

{{- /* A container's resources from {cpu, memory, ephemeral-storage: {limit, request}}; nothing when all are empty. */ -}}
{{- define "linkerd.resources" -}}
{{- $limits := dict -}}
{{- $requests := dict -}}
{{- range $name, $bound := . -}}
{{- if kindIs "map" $bound -}}
{{- with $bound.limit }}{{ $_ := set $limits $name (toString .) }}{{ end -}}
{{- with $bound.request }}{{ $_ := set $requests $name (toString .) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $resources := dict -}}
{{- with $limits }}{{ $_ := set $resources "limits" . }}{{ end -}}
{{- with $requests }}{{ $_ := set $resources "requests" . }}{{ end -}}
{{- with $resources -}}
resources:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{- define "linkerd.controllerSecurityContext" -}}
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop:
    - ALL
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: {{ .Values.controllerUID }}
  {{- if ge (int .Values.controllerGID) 0 }}
  runAsGroup: {{ .Values.controllerGID }}
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "linkerd.apiAccessMount" -}}
- mountPath: /var/run/secrets/kubernetes.io/serviceaccount
  name: kube-api-access
  readOnly: true
{{- end -}}

{{- define "linkerd.apiAccessVolume" -}}
- name: kube-api-access
  projected:
    defaultMode: 420
    sources:
    - serviceAccountToken:
        expirationSeconds: 3607
        path: token
    - configMap:
        items:
        - key: ca.crt
          path: ca.crt
        name: kube-root-ca.crt
    - downwardAPI:
        items:
        - fieldRef:
            apiVersion: v1
            fieldPath: metadata.namespace
          path: namespace
{{- end -}}

{{- /* What of a pod spec says where it runs. Takes root, component. */ -}}
{{- define "linkerd.scheduling" -}}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- $spread := and .spread .root.Values.enablePodAntiAffinity }}
{{- if or $spread .root.Values.nodeAffinity }}
affinity:
  {{- with .root.Values.nodeAffinity }}
  nodeAffinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $spread }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - podAffinityTerm:
        labelSelector:
          matchExpressions:
          - key: linkerd.io/control-plane-component
            operator: In
            values:
            - {{ .component }}
        topologyKey: topology.kubernetes.io/zone
      weight: 100
    requiredDuringSchedulingIgnoredDuringExecution:
    - labelSelector:
        matchExpressions:
        - key: linkerd.io/control-plane-component
          operator: In
          values:
          - {{ .component }}
      topologyKey: kubernetes.io/hostname
  {{- end }}
{{- end }}
{{- end -}}

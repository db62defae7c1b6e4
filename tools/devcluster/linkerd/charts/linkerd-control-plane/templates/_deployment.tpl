{{- /* Stands in for what the Deployments, Services and disruption budgets of Linkerd's control plane have in common. */ -}}

{{- /*
A Deployment with its own proxy. Takes:
  root           the chart's context
  component      destination, identity or proxy-injector
  containers     YAML list of the component's containers
  volumes        YAML list of its volumes, apart from those of the proxy
  inboundPorts   ports the pod listens on, comma separated
  checksum       template whose text, when it changes, restarts the pods; or empty
  annotations    further annotations of the pods
  podAnnotations what the values add for this component
  selector       whether the selector holds more than the component
*/ -}}
{{- define "linkerd.deployment" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $name := printf "linkerd-%s" .component -}}
{{- /* The proxy of identity waits for identity, so it can never come first. */ -}}
{{- $native := and $values.proxy.nativeSidecar (ne .component "identity") -}}
{{- $proxy := dict "values" $values "ns" $root.Release.Namespace "component" .component "inboundPorts" .inboundPorts "native" $native "await" (and $values.proxy.await (ne .component "identity")) -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "linkerd.metadata" (dict "root" $root "component" .component "name" $name) | nindent 2 }}
    {{- include "linkerd.part.of" . | nindent 4 }}
  annotations:
    {{- include "linkerd.createdBy" $root | nindent 4 }}
spec:
  replicas: {{ int $values.controllerReplicas }}
  revisionHistoryLimit: {{ int $values.revisionHistoryLimit }}
  selector:
    matchLabels:
      linkerd.io/control-plane-component: {{ .component }}
      {{- if .selector }}
      linkerd.io/control-plane-ns: {{ $root.Release.Namespace }}
      linkerd.io/proxy-deployment: {{ $name }}
      {{- end }}
  {{- with $values.deploymentStrategy }}
  strategy:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  template:
    metadata:
      annotations:
        {{- with .checksum }}
        checksum/config: {{ include (print $root.Template.BasePath .) $root | sha256sum }}
        {{- end }}
        {{- include "linkerd.createdBy" $root | nindent 8 }}
        linkerd.io/proxy-version: {{ $values.proxy.image.version | default $values.linkerdVersion }}
        cluster-autoscaler.kubernetes.io/safe-to-evict: "true"
        linkerd.io/trust-root-sha256: {{ $values.identityTrustAnchorsPEM | default "" | sha256sum }}
        {{- with .annotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        {{- with mergeOverwrite (deepCopy $values.podAnnotations) (.podAnnotations | default dict) }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
        config.linkerd.io/default-inbound-policy: all-unauthenticated
      labels:
        linkerd.io/control-plane-component: {{ .component }}
        linkerd.io/control-plane-ns: {{ $root.Release.Namespace }}
        linkerd.io/workload-ns: {{ $root.Release.Namespace }}
        linkerd.io/proxy-deployment: {{ $name }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- include "linkerd.scheduling" (dict "root" $root "component" .component "spread" true) | nindent 6 }}
      automountServiceAccountToken: false
      containers:
      {{- if not $native }}
      {{- if ne .component "identity" }}
      - {{- include "linkerd.proxy" $proxy | nindent 8 }}
      {{- end }}
      {{- end }}
      {{- .containers | nindent 6 }}
      {{- if eq .component "identity" }}
      - {{- include "linkerd.proxy" $proxy | nindent 8 }}
      {{- end }}
      initContainers:
      - {{- include "linkerd.redirect" $proxy | nindent 8 }}
      {{- if $native }}
      - {{- include "linkerd.proxy" $proxy | nindent 8 }}
      {{- end }}
      securityContext:
        seccompProfile:
          type: RuntimeDefault
      serviceAccountName: {{ $name }}
      volumes:
      {{- .volumes | nindent 6 }}
      {{- include "linkerd.apiAccessVolume" $root | nindent 6 }}
      {{- include "linkerd.proxyVolumes" $proxy | nindent 6 }}
{{- end -}}

{{- /* A Service of the control plane. Takes root, component, name, headless, port {name, port, targetPort} and annotations. */ -}}
{{- define "linkerd.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "linkerd.metadata" . | nindent 2 }}
  annotations:
    {{- include "linkerd.createdBy" .root | nindent 4 }}
    {{- with .annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- if .headless }}
  clusterIP: None
  {{- else }}
  type: ClusterIP
  {{- end }}
  selector:
    linkerd.io/control-plane-component: {{ .component }}
  ports:
  - {{- toYaml .port | nindent 4 }}
{{- end -}}

{{- /* A PodDisruptionBudget, where the values want one. Takes root, component, name. */ -}}
{{- define "linkerd.disruptionBudget" -}}
{{- if .root.Values.enablePodDisruptionBudget }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "linkerd.metadata" . | nindent 2 }}
  annotations:
    {{- include "linkerd.createdBy" .root | nindent 4 }}
spec:
  maxUnavailable: {{ .root.Values.controller.podDisruptionBudget.maxUnavailable }}
  selector:
    matchLabels:
      linkerd.io/control-plane-component: {{ .component }}
{{- end }}
{{- end -}}

{{- /*
What every controller container has in common. Takes:
  root, name
  admin          port of the probes
  live           path of the liveness probe
  probes         values with livenessProbe and readinessProbe
  ports          list of {containerPort, name}
  resources      values of the container, or empty for controllerResources
  image          other than that of the controllers, or empty
  mounts         YAML list of volume mounts, apart from that of API access
*/ -}}
{{- define "linkerd.controllerContainer" -}}
name: {{ .name }}
image: {{ .image | default (include "linkerd.controllerImage" .root) }}
imagePullPolicy: {{ .root.Values.imagePullPolicy }}
livenessProbe:
  httpGet:
    path: {{ .live }}
    port: {{ .admin }}
  initialDelaySeconds: 10
  {{- toYaml .probes.livenessProbe | nindent 2 }}
readinessProbe:
  failureThreshold: 7
  httpGet:
    path: /ready
    port: {{ .admin }}
  {{- toYaml .probes.readinessProbe | nindent 2 }}
ports:
{{ toYaml .ports }}
{{ include "linkerd.resources" (.resources | default .root.Values.controllerResources) }}
{{ include "linkerd.controllerSecurityContext" .root }}
volumeMounts:
{{- with .mounts }}
{{ . | trim }}
{{- end }}
{{ include "linkerd.apiAccessMount" .root }}
{{- end -}}

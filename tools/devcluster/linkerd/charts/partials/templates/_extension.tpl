{{- /* Stands in for what the objects of Linkerd's extension charts have in common. The extension is the chart's name without "linkerd-". */ -}}

{{- define "extension.name" -}}
{{ trimPrefix "linkerd-" .Chart.Name }}
{{- end -}}

{{- /* Labels of an object. Takes root and, unless the object belongs to no component, component. */ -}}
{{- define "extension.labels" -}}
linkerd.io/extension: {{ include "extension.name" .root }}
{{- with .component }}
component: {{ . }}
{{- end }}
{{- with .root.Values.commonLabels }}
{{ toYaml . | trim }}
{{- end }}
{{- end -}}

{{- /* Metadata of a namespaced object. Takes root, name, component; kubeNamespace if it is not that of the release. */ -}}
{{- define "extension.metadata" -}}
name: {{ .name }}
namespace: {{ .kubeNamespace | default .root.Release.Namespace }}
labels:
  {{- include "extension.labels" . | nindent 2 }}
{{- end -}}

{{- /* A ServiceAccount. Takes what extension.metadata takes. */ -}}
{{- define "extension.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "extension.metadata" . | nindent 2 }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* A binding of a role to ServiceAccount account. Takes root, name, component, kind, role, account; roleKind of a RoleBinding that is not to a Role. */ -}}
{{- define "extension.binding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}
metadata:
  {{- if eq .kind "RoleBinding" }}
  {{- include "extension.metadata" . | nindent 2 }}
  {{- else }}
  name: {{ .name }}
  labels:
    {{- include "extension.labels" . | nindent 4 }}
  {{- end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ eq .kind "RoleBinding" | ternary "Role" "ClusterRole" }}
  name: {{ .role }}
subjects:
- kind: ServiceAccount
  name: {{ .account }}
  namespace: {{ .root.Release.Namespace }}
{{- end -}}

{{- /* A ClusterRole and its binding. Takes root, name, component, account and rules (YAML). */ -}}
{{- define "extension.clusterAccess" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ .name }}
  labels:
    {{- include "extension.labels" . | nindent 4 }}
rules:
{{ .rules | trim }}
---
{{ include "extension.binding" (merge (dict "kind" "ClusterRoleBinding" "role" .name) .) }}
{{- end -}}

{{- /* A Service. Takes root, component and ports (list of {name, port, targetPort}). */ -}}
{{- define "extension.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "extension.metadata" (merge (dict "name" .component) .) | nindent 2 }}
  annotations:
    {{- include "linkerd.createdBy" .root | nindent 4 }}
    linkerd.io/inject: enabled
spec:
  type: ClusterIP
  selector:
    linkerd.io/extension: {{ include "extension.name" .root }}
    component: {{ .component }}
  ports:
  {{- toYaml .ports | nindent 2 }}
{{- end -}}

{{- /* An image. Takes root and image {registry, name, tag, pullPolicy}. */ -}}
{{- define "extension.image" -}}
image: {{ .image.registry | default .root.Values.defaultRegistry }}/{{ .image.name }}:{{ .image.tag | default .root.Values.linkerdVersion }}
imagePullPolicy: {{ .image.pullPolicy | default .root.Values.defaultImagePullPolicy | default "IfNotPresent" }}
{{- end -}}

{{- /* Restrictions of a container. Takes user. */ -}}
{{- define "extension.securityContext" -}}
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop:
    - ALL
  readOnlyRootFilesystem: true
  runAsGroup: {{ .group }}
  runAsNonRoot: true
  runAsUser: {{ .user }}
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- /*
A Deployment. Takes:
  root, component
  of         the component's values: replicas, image, resources, nodeSelector, tolerations
  args       list of arguments
  ports      list of {containerPort, name}
  admin      port of the probes
  live       path of the liveness probe, "/ping" by default
  ready      path of the readiness probe, "/ready" by default
  checksum   template whose text, when it changes, restarts the pods; or empty
  secret     Secret with the certificate of the pods; or empty
  mounts     YAML list of further volume mounts
  volumes    YAML list of further volumes
  user       user and group of the container
*/ -}}
{{- define "extension.deployment" -}}
{{- $values := .root.Values -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "extension.metadata" (merge (dict "name" .component) .) | nindent 2 }}
    app.kubernetes.io/name: {{ .component }}
    app.kubernetes.io/part-of: Linkerd
    app.kubernetes.io/version: {{ $values.linkerdVersion }}
  annotations:
    {{- include "linkerd.createdBy" .root | nindent 4 }}
    linkerd.io/inject: enabled
    config.linkerd.io/proxy-await: "enabled"
spec:
  replicas: {{ int (.of.replicas | default 1) }}
  revisionHistoryLimit: {{ int ($values.revisionHistoryLimit | default 10) }}
  selector:
    matchLabels:
      linkerd.io/extension: {{ include "extension.name" .root }}
      component: {{ .component }}
  template:
    metadata:
      annotations:
        {{- with .checksum }}
        checksum/config: {{ include (print $.root.Template.BasePath .) $.root | sha256sum }}
        {{- end }}
        {{- include "linkerd.createdBy" .root | nindent 8 }}
        linkerd.io/inject: enabled
        config.alpha.linkerd.io/proxy-wait-before-exit-seconds: "0"
        cluster-autoscaler.kubernetes.io/safe-to-evict: "true"
        {{- with $values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      labels:
        linkerd.io/extension: {{ include "extension.name" .root }}
        component: {{ .component }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- with .of.nodeSelector | default $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .of.tolerations | default $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if $values.enablePodAntiAffinity }}
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - labelSelector:
              matchExpressions:
              - key: component
                operator: In
                values:
                - {{ .component }}
            topologyKey: kubernetes.io/hostname
      {{- end }}
      automountServiceAccountToken: false
      serviceAccountName: {{ .component }}
      securityContext:
        fsGroup: {{ .user }}
        seccompProfile:
          type: RuntimeDefault
      containers:
      - name: {{ .component }}
        {{- include "extension.image" (dict "root" .root "image" .of.image) | nindent 8 }}
        args:
        {{- range .args }}
        - {{ . | quote }}
        {{- end }}
        ports:
        {{- toYaml .ports | nindent 8 }}
        livenessProbe:
          httpGet:
            path: {{ .live | default "/ping" }}
            port: {{ .admin }}
          initialDelaySeconds: 10
        readinessProbe:
          failureThreshold: 7
          httpGet:
            path: {{ .ready | default "/ready" }}
            port: {{ .admin }}
        {{- include "linkerd.resources" .of.resources | nindent 8 }}
        {{- include "extension.securityContext" (dict "user" .user "group" .user) | nindent 8 }}
        volumeMounts:
        {{- with .mounts }}
        {{- . | trim | nindent 8 }}
        {{- end }}
        {{- if .secret }}
        - mountPath: /var/run/linkerd/tls
          name: tls
          readOnly: true
        {{- end }}
        {{- include "linkerd.apiAccessMount" .root | nindent 8 }}
      volumes:
      {{- with .volumes }}
      {{- . | trim | nindent 6 }}
      {{- end }}
      {{- with .secret }}
      - name: tls
        secret:
          secretName: {{ . }}
      {{- end }}
      {{- include "linkerd.apiAccessVolume" .root | nindent 6 }}
{{- if and $values.enablePodDisruptionBudget (gt (int (.of.replicas | default 1)) 1) }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "extension.metadata" (merge (dict "name" .component) .) | nindent 2 }}
  annotations:
    {{- include "linkerd.createdBy" .root | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      linkerd.io/extension: {{ include "extension.name" .root }}
      component: {{ .component }}
{{- end }}
{{- end -}}

{{- /* The Secret with the certificate of a server. Takes root, component, service, tls (of linkerd.webhookTLS). */ -}}
{{- define "extension.tlsSecret" -}}
{{- if .tls.secret }}
apiVersion: v1
kind: Secret
metadata:
  {{- include "extension.metadata" (merge (dict "name" (printf "%s-k8s-tls" .service)) .) | nindent 2 }}
  annotations:
    {{- include "linkerd.createdBy" .root | nindent 4 }}
type: kubernetes.io/tls
data:
  tls.crt: {{ .tls.crt }}
  tls.key: {{ .tls.key }}
{{- end }}
{{- end -}}

{{- /* How cert-manager is told where an authority is. Takes config. */ -}}
{{- define "extension.injectedCA" -}}
{{- with .config.injectCaFrom }}
cert-manager.io/inject-ca-from: {{ . }}
{{- end }}
{{- with .config.injectCaFromSecret }}
cert-manager.io/inject-ca-from-secret: {{ . }}
{{- end }}
{{- end -}}

{{- /* A mutating webhook for the pods that are created. Takes root, component, service, name, webhook, tls, config, policy. */ -}}
{{- define "extension.podWebhook" -}}
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata:
  name: {{ .name }}
  labels:
    {{- include "extension.labels" . | nindent 4 }}
  {{- with include "extension.injectedCA" . | trim }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
webhooks:
- name: {{ .webhook }}
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
  failurePolicy: {{ .policy }}
  admissionReviewVersions: ["v1", "v1beta1"]
  reinvocationPolicy: IfNeeded
  rules:
  - operations: ["CREATE"]
    apiGroups: [""]
    apiVersions: ["v1"]
    resources: ["pods"]
    scope: Namespaced
  sideEffects: None
{{- end -}}

{{- /* The Job that labels the namespace after the first installation, with its access. Takes root. */ -}}
{{- define "extension.namespaceMetadata" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $name := include "extension.name" $root -}}
{{- if $values.createNamespaceMetadataJob }}
{{- range $object := list
  (dict "kind" "ServiceAccount" "name" "namespace-metadata")
  (dict "kind" "Role" "name" "namespace-metadata")
  (dict "kind" "RoleBinding" "name" "namespace-metadata" "role" "namespace-metadata")
  (dict "kind" "RoleBinding" "name" (printf "%s-namespace-metadata-linkerd-config" $name) "role" "ext-namespace-metadata-linkerd-config" "kubeNamespace" $values.linkerdNamespace) }}
---
apiVersion: {{ eq $object.kind "ServiceAccount" | ternary "v1" "rbac.authorization.k8s.io/v1" }}
kind: {{ $object.kind }}
metadata:
  {{- include "extension.metadata" (merge (dict "root" $root) $object) | nindent 2 }}
  annotations:
    {{- include "linkerd.createdBy" $root | nindent 4 }}
    helm.sh/hook: post-install
    helm.sh/hook-weight: "0"
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- if eq $object.kind "ServiceAccount" }}
{{- with $values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- else if eq $object.kind "Role" }}
rules:
- apiGroups: [""]
  resources: [namespaces]
  verbs: [get, patch]
  resourceNames: [{{ $root.Release.Namespace }}]
{{- else }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $object.role }}
subjects:
- kind: ServiceAccount
  name: namespace-metadata
  namespace: {{ $root.Release.Namespace }}
{{- end }}
{{- end }}
---
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "extension.metadata" (dict "root" $root "name" "namespace-metadata") | nindent 2 }}
    app.kubernetes.io/name: namespace-metadata
    app.kubernetes.io/part-of: Linkerd
    app.kubernetes.io/version: {{ $values.linkerdVersion }}
  annotations:
    {{- include "linkerd.createdBy" $root | nindent 4 }}
    helm.sh/hook: post-install
    helm.sh/hook-weight: "1"
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
spec:
  template:
    metadata:
      annotations:
        {{- include "linkerd.createdBy" $root | nindent 8 }}
        linkerd.io/inject: disabled
      labels:
        linkerd.io/extension: {{ $name }}
        app.kubernetes.io/name: namespace-metadata
        app.kubernetes.io/part-of: Linkerd
        app.kubernetes.io/version: {{ $values.linkerdVersion }}
        {{- with $values.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- with $values.namespaceMetadata.nodeSelector | default $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.namespaceMetadata.tolerations | default $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      restartPolicy: Never
      securityContext:
        seccompProfile:
          type: RuntimeDefault
      serviceAccountName: namespace-metadata
      automountServiceAccountToken: false
      containers:
      - name: namespace-metadata
        {{- include "extension.image" (dict "root" $root "image" $values.namespaceMetadata.image) | nindent 8 }}
        {{- include "extension.securityContext" (dict "user" 2103 "group" 2103) | nindent 8 }}
        volumeMounts:
        {{- include "linkerd.apiAccessMount" $root | nindent 8 }}
        args:
        - --log-format
        - plain
        - --log-level
        - info
        - --extension
        - {{ $name }}
        - --namespace
        - {{ $root.Release.Namespace }}
        - --linkerd-namespace
        - {{ $values.linkerdNamespace }}
        {{- with $values.prometheusUrl }}
        - --prometheus-url
        - {{ . }}
        {{- end }}
      volumes:
      {{- include "linkerd.apiAccessVolume" $root | nindent 6 }}
{{- end }}
{{- end -}}

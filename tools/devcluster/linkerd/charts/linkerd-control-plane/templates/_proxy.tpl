{{- /* Stands in for the proxy, proxy-init, network-validator and volume partials of Linkerd's charts. The injector of the embedded cluster renders them too. */ -}}

{{- /*
Every partial of this file takes one dict:
  values         the chart's values, changed by the annotations of the pod if it is injected
  ns             namespace of the control plane
  component      destination, identity or proxy-injector; empty for an injected pod
  inboundPorts   ports the pod listens on, comma separated
  anchors        PEM trust anchors; empty to take them from the ConfigMap
  native         whether the proxy is a native sidecar
  await          whether the application's containers start after the proxy
*/ -}}

{{- define "linkerd.proxyImage" -}}
{{ .values.proxy.image.name }}:{{ .values.proxy.image.version | default .values.linkerdVersion }}
{{- end -}}

{{- define "linkerd.proxyPullPolicy" -}}
{{ .values.proxy.image.pullPolicy | default .values.imagePullPolicy }}
{{- end -}}

{{- define "linkerd.fieldEnv" -}}
{{- range $name, $path := . }}
- name: {{ $name }}
  valueFrom:
    fieldRef:
      fieldPath: {{ $path }}
{{- end }}
{{- end -}}

{{- define "linkerd.stringEnv" -}}
{{- range . }}
- name: {{ first . }}
  value: {{ last . | toString | quote }}
{{- end }}
{{- end -}}

{{- define "linkerd.proxy" -}}
{{- $proxy := .values.proxy -}}
{{- $ports := $proxy.ports -}}
{{- $trustDomain := include "linkerd.trustDomain" .values -}}
{{- $identity := printf "serviceaccount.identity.%s.%s" .ns $trustDomain -}}
{{- $controllers := printf "%s.%s" .ns $identity -}}
{{- $suffix := printf "%s.svc.%s." .ns .values.clusterDomain -}}
{{- $headers := eq "insecure" ($proxy.logHTTPHeaders | default "off") | ternary "debug" "off" -}}
{{- $workers := dict -}}
{{- with $proxy.runtime }}{{ $workers = .workers | default dict }}{{ end -}}
name: linkerd-proxy
image: {{ include "linkerd.proxyImage" . }}
imagePullPolicy: {{ include "linkerd.proxyPullPolicy" . }}
env:
{{- include "linkerd.fieldEnv" (dict
  "_pod_name" "metadata.name"
  "_pod_ns" "metadata.namespace"
  "_pod_uid" "metadata.uid"
  "_pod_ip" "status.podIP"
  "_pod_nodeName" "spec.nodeName"
  "_pod_sa" "spec.serviceAccountName"
  "LINKERD2_PROXY_INBOUND_IPS" "status.podIPs") }}
{{- include "linkerd.stringEnv" (list
  (list "_pod_containerName" "linkerd-proxy")
  (list "LINKERD2_PROXY_CORES" ($proxy.cores | default ($workers.minimum | default 1)))
  (list "LINKERD2_PROXY_CORES_MIN" ($workers.minimum | default 1))) }}
{{- with $workers.maximumCPURatio }}
{{- include "linkerd.stringEnv" (list (list "LINKERD2_PROXY_CORES_MAX_RATIO" .)) }}
{{- end }}
{{- $requireTLS := eq .component "identity" | ternary "8080" ($proxy.requireIdentityOnInboundPorts | default "") }}
{{- with $requireTLS }}
{{- include "linkerd.stringEnv" (list (list "LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_TLS" .)) }}
{{- end }}
{{- include "linkerd.stringEnv" (list
  (list "LINKERD2_PROXY_SHUTDOWN_ENDPOINT_ENABLED" ($proxy.enableShutdownEndpoint | default false))
  (list "LINKERD2_PROXY_LOG" (printf "%s,[{headers}]=%s,[{request}]=%s" $proxy.logLevel $headers $headers))
  (list "LINKERD2_PROXY_LOG_FORMAT" $proxy.logFormat)
  (list "LINKERD2_PROXY_DESTINATION_SVC_ADDR" (eq .component "destination" | ternary "localhost.:8086" (printf "linkerd-dst-headless.%s:8086" $suffix)))
  (list "LINKERD2_PROXY_DESTINATION_PROFILE_NETWORKS" .values.clusterNetworks)
  (list "LINKERD2_PROXY_POLICY_SVC_ADDR" (eq .component "destination" | ternary "localhost.:8090" (printf "linkerd-policy.%s:8090" $suffix)))
  (list "LINKERD2_PROXY_POLICY_WORKLOAD" "{\"ns\":\"$(_pod_ns)\", \"pod\":\"$(_pod_name)\"}\n")
  (list "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY" (empty .component | ternary $proxy.defaultInboundPolicy "all-unauthenticated"))
  (list "LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS" .values.clusterNetworks)) }}
{{- with $proxy.control }}
{{- include "linkerd.stringEnv" (list
  (list "LINKERD2_PROXY_CONTROL_STREAM_INITIAL_TIMEOUT" .streams.initialTimeout)
  (list "LINKERD2_PROXY_CONTROL_STREAM_IDLE_TIMEOUT" .streams.idleTimeout)
  (list "LINKERD2_PROXY_CONTROL_STREAM_LIFETIME" .streams.lifetime)) }}
{{- end }}
{{- include "linkerd.stringEnv" (list
  (list "LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT" $proxy.inboundConnectTimeout)
  (list "LINKERD2_PROXY_OUTBOUND_CONNECT_TIMEOUT" $proxy.outboundConnectTimeout)
  (list "LINKERD2_PROXY_OUTBOUND_DISCOVERY_IDLE_TIMEOUT" $proxy.outboundDiscoveryCacheUnusedTimeout)
  (list "LINKERD2_PROXY_INBOUND_DISCOVERY_IDLE_TIMEOUT" $proxy.inboundDiscoveryCacheUnusedTimeout)) }}
{{- if $proxy.disableOutboundProtocolDetectTimeout }}
{{- include "linkerd.stringEnv" (list (list "LINKERD2_PROXY_OUTBOUND_DETECT_TIMEOUT" "365d")) }}
{{- end }}
{{- if $proxy.disableInboundProtocolDetectTimeout }}
{{- include "linkerd.stringEnv" (list (list "LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT" "365d")) }}
{{- end }}
{{- include "linkerd.stringEnv" (list
  (list "LINKERD2_PROXY_CONTROL_LISTEN_ADDR" (printf "0.0.0.0:%v" $ports.control))
  (list "LINKERD2_PROXY_ADMIN_LISTEN_ADDR" (printf "0.0.0.0:%v" $ports.admin))
  (list "LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR" (printf "127.0.0.1:%v" $ports.outbound))
  (list "LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS" (printf "127.0.0.1:%v" $ports.outbound))
  (list "LINKERD2_PROXY_INBOUND_LISTEN_ADDR" (printf "0.0.0.0:%v" $ports.inbound))
  (list "LINKERD2_PROXY_INBOUND_PORTS" .inboundPorts)
  (list "LINKERD2_PROXY_DESTINATION_PROFILE_SUFFIXES" ($proxy.enableExternalProfiles | ternary "." (printf "svc.%s." .values.clusterDomain)))
  (list "LINKERD2_PROXY_INBOUND_ACCEPT_KEEPALIVE" "10000ms")
  (list "LINKERD2_PROXY_OUTBOUND_CONNECT_KEEPALIVE" "10000ms")
  (list "LINKERD2_PROXY_INBOUND_ACCEPT_USER_TIMEOUT" "30s")
  (list "LINKERD2_PROXY_OUTBOUND_CONNECT_USER_TIMEOUT" "30s")) }}
{{- with $proxy.metrics }}
{{- include "linkerd.stringEnv" (list (list "LINKERD2_PROXY_OUTBOUND_METRICS_HOSTNAME_LABELS" .hostnameLabels)) }}
{{- end }}
{{- range $side := list "inbound" "outbound" }}
{{- with index $proxy $side }}
{{- $prefix := printf "LINKERD2_PROXY_%s_SERVER_HTTP2_KEEP_ALIVE" (upper $side) }}
{{- include "linkerd.stringEnv" (list
  (list (printf "%s_INTERVAL" $prefix) .server.http2.keepAliveInterval)
  (list (printf "%s_TIMEOUT" $prefix) .server.http2.keepAliveTimeout)) }}
{{- end }}
{{- end }}
{{- if $proxy.isIngress }}
{{- include "linkerd.stringEnv" (list (list "LINKERD2_PROXY_INGRESS_MODE" true)) }}
{{- end }}
{{- if $proxy.isGateway }}
{{- include "linkerd.stringEnv" (list (list "LINKERD2_PROXY_INBOUND_GATEWAY_SUFFIXES" (printf "svc.%s." .values.clusterDomain))) }}
{{- end }}
{{- with $proxy.accessLog }}
{{- include "linkerd.stringEnv" (list (list "LINKERD2_PROXY_ACCESS_LOG" .)) }}
{{- end }}
{{- with $proxy.shutdownGracePeriod }}
{{- include "linkerd.stringEnv" (list (list "LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD" .)) }}
{{- end }}
{{- include "linkerd.stringEnv" (list
  (list "LINKERD2_PROXY_INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION" $proxy.opaquePorts)
  (list "LINKERD2_PROXY_DESTINATION_CONTEXT" "{\"ns\":\"$(_pod_ns)\", \"nodeName\":\"$(_pod_nodeName)\", \"pod\":\"$(_pod_name)\"}\n")
  (list "_l5d_ns" .ns)
  (list "_l5d_trustdomain" $trustDomain)
  (list "LINKERD2_PROXY_IDENTITY_DIR" "/var/run/linkerd/identity/end-entity")) }}
- name: LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS
  {{- with .anchors }}
  value: {{ . | quote }}
  {{- else }}
  valueFrom:
    configMapKeyRef:
      name: linkerd-identity-trust-roots
      key: ca-bundle.crt
  {{- end }}
{{- include "linkerd.stringEnv" (list
  (list "LINKERD2_PROXY_IDENTITY_TOKEN_FILE" (.values.identity.serviceAccountTokenProjection | ternary "/var/run/secrets/tokens/linkerd-identity-token" "/var/run/secrets/kubernetes.io/serviceaccount/token"))
  (list "LINKERD2_PROXY_IDENTITY_SVC_ADDR" (eq .component "identity" | ternary "localhost.:8080" (printf "linkerd-identity-headless.%s:8080" $suffix)))
  (list "LINKERD2_PROXY_IDENTITY_LOCAL_NAME" (printf "$(_pod_sa).$(_pod_ns).%s" $identity))
  (list "LINKERD2_PROXY_IDENTITY_SVC_NAME" (printf "linkerd-identity.%s" $controllers))
  (list "LINKERD2_PROXY_DESTINATION_SVC_NAME" (printf "linkerd-destination.%s" $controllers))
  (list "LINKERD2_PROXY_POLICY_SVC_NAME" (printf "linkerd-destination.%s" $controllers))) }}
{{- if ($proxy.tracing).enabled }}
{{- $collector := $proxy.tracing.collector -}}
{{- $account := required "Please provide the service account of the trace collector" $collector.meshIdentity.serviceAccountName -}}
{{- $labels := list -}}
{{- range $key, $value := $proxy.tracing.labels }}{{ $labels = append $labels (printf "%s=%s" $key $value) }}{{ end -}}
{{- include "linkerd.stringEnv" (list
  (list "LINKERD2_PROXY_TRACE_ATTRIBUTES_PATH" "/var/run/linkerd/podinfo/labels")
  (list "LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR" (required "Please provide the endpoint of the trace collector" $collector.endpoint))
  (list "LINKERD2_PROXY_TRACE_PROTOCOL" "opentelemetry")
  (list "LINKERD2_PROXY_TRACE_SERVICE_NAME" $proxy.tracing.traceServiceName)
  (list "LINKERD2_PROXY_TRACE_COLLECTOR_SVC_NAME" (printf "%s.%s.%s" $account (required "Please provide the namespace of the trace collector" $collector.meshIdentity.namespace) $identity))
  (list "LINKERD2_PROXY_TRACE_EXTRA_ATTRIBUTES" (join "\n" $labels))) }}
{{- end }}
{{- with $proxy.additionalEnv }}
{{ toYaml . }}
{{- end }}
{{- if .native }}
restartPolicy: Always
{{- if .await }}
startupProbe:
  httpGet:
    path: /ready
    port: {{ $ports.admin }}
  {{- with $proxy.startupProbe }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- else if or .await $proxy.waitBeforeExitSeconds }}
lifecycle:
  {{- if .await }}
  postStart:
    exec:
      command:
      - /usr/lib/linkerd/linkerd-await
      - --timeout=2m
      - --port={{ $ports.admin }}
  {{- end }}
  {{- with $proxy.waitBeforeExitSeconds }}
  preStop:
    exec:
      command:
      - /bin/sleep
      - {{ . | toString | quote }}
  {{- end }}
{{- end }}
livenessProbe:
  httpGet:
    path: /live
    port: {{ $ports.admin }}
  {{- with $proxy.livenessProbe }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
readinessProbe:
  httpGet:
    path: /ready
    port: {{ $ports.admin }}
  {{- with $proxy.readinessProbe }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
- containerPort: {{ $ports.inbound }}
  name: linkerd-proxy
- containerPort: {{ $ports.admin }}
  name: linkerd-admin
{{ include "linkerd.resources" $proxy.resources }}
securityContext:
  allowPrivilegeEscalation: false
  capabilities:
    drop:
    - ALL
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: {{ int $proxy.uid }}
  {{- if ge (int $proxy.gid) 0 }}
  runAsGroup: {{ int $proxy.gid }}
  {{- end }}
  seccompProfile:
    type: RuntimeDefault
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
- mountPath: /var/run/linkerd/identity/end-entity
  name: linkerd-identity-end-entity
{{- if .values.identity.serviceAccountTokenProjection }}
- mountPath: /var/run/secrets/tokens
  name: linkerd-identity-token
{{- end }}
{{- if ($proxy.tracing).enabled }}
- mountPath: /var/run/linkerd/podinfo
  name: linkerd-podinfo
{{- end }}
{{- end -}}

{{- /* The init container that redirects the pod's traffic to the proxy. */ -}}
{{- define "linkerd.proxyInit" -}}
{{- $init := .values.proxyInit -}}
{{- $ports := .values.proxy.ports -}}
{{- $bin := printf "iptables-%s" $init.iptablesMode -}}
{{- $skipInbound := compact (list (printf "%v,%v" $ports.control $ports.admin) $init.ignoreInboundPorts) -}}
{{- $skipOutbound := empty .component | ternary $init.ignoreOutboundPorts $init.kubeAPIServerPorts -}}
name: linkerd-init
{{- with $init.image }}
image: {{ .name }}:{{ .version }}
imagePullPolicy: {{ .pullPolicy | default $.values.imagePullPolicy }}
{{- else }}
image: {{ include "linkerd.proxyImage" . }}
imagePullPolicy: {{ include "linkerd.proxyPullPolicy" . }}
command:
- /usr/lib/linkerd/linkerd2-proxy-init
{{- end }}
args:
- --firewall-bin-path
- {{ $bin | quote }}
- --firewall-save-bin-path
- {{ printf "%s-save" $bin | quote }}
- --ipv6={{ not .values.disableIPv6 }}
- --incoming-proxy-port
- {{ $ports.inbound | toString | quote }}
- --outgoing-proxy-port
- {{ $ports.outbound | toString | quote }}
- --proxy-uid
- {{ .values.proxy.uid | int | toString | quote }}
{{- if ge (int .values.proxy.gid) 0 }}
- --proxy-gid
- {{ .values.proxy.gid | int | toString | quote }}
{{- end }}
- --inbound-ports-to-ignore
- {{ join "," $skipInbound | quote }}
{{- with $skipOutbound }}
- --outbound-ports-to-ignore
- {{ . | quote }}
{{- end }}
{{- with $init.closeWaitTimeoutSecs }}
- --timeout-close-wait-secs
- {{ . | toString | quote }}
{{- end }}
{{- with $init.logFormat }}
- --log-format
- {{ . | quote }}
{{- end }}
{{- with $init.logLevel }}
- --log-level
- {{ . | quote }}
{{- end }}
{{- with $init.skipSubnets }}
- --subnets-to-ignore
- {{ . | quote }}
{{- end }}
securityContext:
  allowPrivilegeEscalation: {{ or $init.closeWaitTimeoutSecs $init.privileged | empty | not }}
  capabilities:
    add:
    - NET_ADMIN
    - NET_RAW
  privileged: {{ or $init.closeWaitTimeoutSecs $init.privileged | empty | not }}
  {{- if or $init.closeWaitTimeoutSecs $init.runAsRoot }}
  runAsNonRoot: false
  runAsUser: 0
  {{- else }}
  runAsNonRoot: true
  runAsUser: {{ int $init.runAsUser }}
  runAsGroup: {{ int $init.runAsGroup }}
  {{- end }}
  readOnlyRootFilesystem: true
  seccompProfile:
    type: RuntimeDefault
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
- mountPath: {{ $init.xtMountPath.mountPath }}
  name: {{ $init.xtMountPath.name }}
{{- end -}}

{{- /* The init container that, where a CNI plugin redirects, checks that it did. */ -}}
{{- define "linkerd.networkValidator" -}}
{{- $validator := .values.networkValidator -}}
name: linkerd-network-validator
image: {{ include "linkerd.proxyImage" . }}
imagePullPolicy: {{ include "linkerd.proxyPullPolicy" . }}
command:
- /usr/lib/linkerd/linkerd2-network-validator
args:
- --log-format
- {{ $validator.logFormat }}
- --log-level
- {{ $validator.logLevel }}
- --connect-addr
- {{ $validator.connectAddr | default "1.1.1.1:20001" | quote }}
- --listen-addr
- {{ $validator.listenAddr | default (printf "0.0.0.0:%v" .values.proxy.ports.outbound) | quote }}
- --timeout
- {{ $validator.timeout | quote }}
{{- with $validator.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* The first init container of a meshed pod, whichever redirects. */ -}}
{{- define "linkerd.redirect" -}}
{{- if .values.cniEnabled }}{{ include "linkerd.networkValidator" . }}{{ else }}{{ include "linkerd.proxyInit" . }}{{ end }}
{{- end -}}

{{- define "linkerd.debug" -}}
{{- $image := .values.debugContainer.image -}}
name: linkerd-debug
image: {{ $image.name }}:{{ $image.version | default .values.linkerdVersion }}
imagePullPolicy: {{ $image.pullPolicy | default .values.imagePullPolicy }}
terminationMessagePolicy: FallbackToLogsOnError
{{- end -}}

{{- define "linkerd.proxyVolumes" -}}
{{- if not .values.cniEnabled -}}
- emptyDir: {}
  name: {{ .values.proxyInit.xtMountPath.name }}
{{ end -}}
{{ if .values.identity.serviceAccountTokenProjection -}}
- name: linkerd-identity-token
  projected:
    sources:
    - serviceAccountToken:
        path: linkerd-identity-token
        expirationSeconds: 86400
        audience: identity.l5d.io
{{ end -}}
{{ if (.values.proxy.tracing).enabled -}}
- name: linkerd-podinfo
  downwardAPI:
    items:
    - fieldRef:
        fieldPath: metadata.labels
      path: labels
{{ end -}}
- emptyDir:
    medium: Memory
  name: linkerd-identity-end-entity
{{- end -}}

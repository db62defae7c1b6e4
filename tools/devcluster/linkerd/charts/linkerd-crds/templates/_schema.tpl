{{- /* Stands in for the schema parts that the resource types of Linkerd's chart linkerd-crds share. */ -}}

{{- /*
Metadata of a CRD. Takes root, name, keep (to survive an uninstall) and gateway
(of the Gateway API: no type may live in a *.k8s.io group without a note of approval).
The odd creator is the real chart's: it has no appVersion.
*/ -}}
{{- define "crds.metadata" -}}
name: {{ .name }}
annotations:
  linkerd.io/created-by: {{ printf "linkerd/helm %s" .root.Values.cliVersion | quote }}
  {{- if .keep }}
  helm.sh/resource-policy: keep
  {{- end }}
  {{- if .gateway }}
  api-approved.kubernetes.io: https://github.com/kubernetes-sigs/gateway-api
  {{- end }}
labels:
  helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name (replace "+" "_" .root.Chart.Version) }}
  linkerd.io/control-plane-ns: {{ .root.Release.Namespace }}
{{- end -}}

{{- define "crds.group" -}}
type: string
maxLength: 253
pattern: ^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$
{{- end -}}

{{- define "crds.kind" -}}
type: string
minLength: 1
maxLength: 63
pattern: ^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$
{{- end -}}

{{- define "crds.name" -}}
type: string
minLength: 1
maxLength: 253
{{- end -}}

{{- define "crds.namespace" -}}
type: string
minLength: 1
maxLength: 63
pattern: ^[a-z0-9]([-a-z0-9]*[a-z0-9])?$
{{- end -}}

{{- define "crds.hostname" -}}
type: string
minLength: 1
maxLength: 253
pattern: ^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$
{{- end -}}

{{- define "crds.port" -}}
type: integer
format: int32
minimum: 1
maximum: 65535
{{- end -}}

{{- /* A reference to an object of the same namespace. */ -}}
{{- define "crds.localRef" -}}
type: object
required: [kind, name]
properties:
  group:
    {{- include "crds.group" . | nindent 4 }}
  kind:
    {{- include "crds.kind" . | nindent 4 }}
  name:
    {{- include "crds.name" . | nindent 4 }}
{{- end -}}

{{- define "crds.networks" -}}
type: array
items:
  type: object
  required: [cidr]
  properties:
    cidr:
      type: string
    except:
      type: array
      items:
        type: string
{{- end -}}

{{- define "crds.selector" -}}
type: object
properties:
  matchLabels:
    type: object
    x-kubernetes-preserve-unknown-fields: true
  matchExpressions:
    type: array
    items:
      type: object
      required: [key, operator]
      properties:
        key:
          type: string
        operator:
          type: string
          enum: [In, NotIn, Exists, DoesNotExist]
        values:
          type: array
          items:
            type: string
{{- end -}}

{{- define "crds.condition.properties" -}}
lastTransitionTime:
  type: string
  format: date-time
message:
  type: string
  maxLength: 32768
reason:
  type: string
  minLength: 1
  maxLength: 1024
  pattern: ^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$
status:
  type: string
  enum: ["True", "False", Unknown]
type:
  type: string
  maxLength: 316
  pattern: ^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$
{{- end -}}

{{- /* What conditions require is asked of their list, where it binds nothing: the real chart's slip. */ -}}
{{- define "crds.conditions" -}}
type: array
required: [status, type]
items:
  type: object
  properties:
    {{- include "crds.condition.properties" . | nindent 4 }}
{{- end -}}

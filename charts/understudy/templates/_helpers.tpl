{{/* What the release's objects are called. Names are rendered by toYaml, which quotes those that are none for YAML: a
namespace may be called 123 or on. */}}
{{- define "understudy.name" -}}
{{- $name := .Values.nameOverride | default "understudy-operator" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if and (not .Values.nameOverride) (contains "understudy" .Release.Name) -}}
{{- printf "%s-operator" .Release.Name -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name -}}
{{- else -}}
{{- $release := trunc (int (sub 62 (len $name))) .Release.Name | trimSuffix "-" -}}
{{- printf "%s-%s" (regexReplaceAll "[-.]*[.][-.]*$" $release "") $name -}}
{{- end -}}
{{- end -}}

{{/* A Service is a single label of DNS that begins with a letter; a release may have dots and begin with a digit. */}}
{{- define "understudy.metricsService" -}}
{{- $name := include "understudy.name" . | replace "." "-" -}}
{{- if regexMatch "^[0-9]" $name -}}
{{- $name = printf "understudy-%s" $name -}}
{{- end -}}
{{- printf "%s-metrics" (regexReplaceAll "-+$" (trunc 55 $name) "") -}}
{{- end -}}

{{- define "understudy.serviceAccount" -}}
{{- if .Values.serviceAccount.name -}}
{{- .Values.serviceAccount.name -}}
{{- else if .Values.serviceAccount.create -}}
{{- include "understudy.name" . -}}
{{- else -}}
{{- fail "serviceAccount.name is needed where serviceAccount.create is false: name one that exists" -}}
{{- end -}}
{{- end -}}

{{/* The instances' NetworkPolicy lets in pods with this first label (operator/src/render/access.rs). */}}
{{- define "understudy.selector" -}}
app.kubernetes.io/name: understudy-operator
app.kubernetes.io/instance: {{ .Release.Name | toYaml }}
{{- end -}}

{{- define "understudy.labels" -}}
{{ include "understudy.selector" . }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: understudy
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | toYaml }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | toYaml }}
{{- end -}}

{{- define "understudy.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* What the operator may do in the namespaces that it looks after. */}}
{{- define "understudy.rules" -}}
# The clusters. Their status is written by compare-and-swap, their annotations are taken off when they are done.
- apiGroups: [understudy.dev]
  resources: [replicatedclusters]
  verbs: [get, list, watch, patch]
- apiGroups: [understudy.dev]
  resources: [replicatedclusters/status]
  verbs: [get, update]
# What is made for a cluster may block its deletion.
- apiGroups: [understudy.dev]
  resources: [replicatedclusters/finalizers]
  verbs: [update]
# What each cluster is made of (operator/src/render).
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [""]
  resources: [services, secrets, serviceaccounts]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch, create, update, patch, delete]
# Slices of a Service without selector, whose addresses only who may do this sets.
- apiGroups: [""]
  resources: [endpoints/restricted]
  verbs: [create]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, update, patch, delete]
# Pods and claims are made by the StatefulSets. The operator labels a pod with its role and deletes what is replaced.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, watch, patch, delete]
# An event that comes again is counted in the one that is there.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# Why a pod is not made or does not begin: where nothing else tells, they are asked for.
- apiGroups: [""]
  resources: [events]
  verbs: [list]
{{- end -}}

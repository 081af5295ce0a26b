{{/* Names of Services have no dots, and a pod's has at most 63 characters with a hash behind it. Never cut: two releases
could get one name. */}}
{{- define "oxkeeper.fullname" -}}
{{- $name := default .Release.Name .Values.fullnameOverride -}}
{{- if or (gt (len $name) 52) (not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name)) -}}
{{- fail (printf "%q cannot name an ensemble: at most 52 small letters, digits and '-', a letter first; set fullnameOverride" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* What the schema cannot say. */}}
{{- define "oxkeeper.check" -}}
{{- $taken := dict -}}
{{- range $name, $port := .Values.ports -}}
{{- $key := toString (int $port) -}}
{{- if and (ne $key "0") (hasKey $taken $key) -}}
{{- fail (printf "ports.%s and ports.%s are both %s" (get $taken $key) $name $key) -}}
{{- end -}}
{{- $_ := set $taken $key $name -}}
{{- end -}}
{{- with .Values.server -}}
{{- if gt (int64 .minSessionTimeout) (int64 .maxSessionTimeout) -}}
{{- fail (printf "server.minSessionTimeout (%d) is more than server.maxSessionTimeout (%d)" (int64 .minSessionTimeout) (int64 .maxSessionTimeout)) -}}
{{- end -}}
{{- end -}}
{{- if .Values.server.properties -}}
{{- range .Values.extraEnv -}}
{{- if eq .name "SERVER_JVMFLAGS" -}}
{{- fail "extraEnv: server.properties are in SERVER_JVMFLAGS already; write all of them there" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.podMonitor.enabled .Values.serviceMonitor.enabled -}}
{{- fail "podMonitor and serviceMonitor would both scrape each member, and the alerts would count it twice: enable one" -}}
{{- end -}}
{{- if and .Values.prometheusRule.enabled (not .Values.podMonitor.enabled) (not .Values.serviceMonitor.enabled) -}}
{{- fail "prometheusRule: the alerts look for the job of podMonitor or serviceMonitor: enable one" -}}
{{- end -}}
{{- if le (int .Values.terminationGracePeriodSeconds) (int .Values.preStopSleepSeconds) -}}
{{- fail "terminationGracePeriodSeconds must be more than preStopSleepSeconds, which is a part of it" -}}
{{- end -}}
{{- /* Empty when no cluster is asked. A set of no pods is one that was stopped for the change. */ -}}
{{- $found := lookup "apps/v1" "StatefulSet" .Release.Namespace (include "oxkeeper.fullname" .) -}}
{{- if $found -}}
{{- $now := int $found.spec.replicas -}}
{{- if and (ne $now 0) (ne $now (int .Values.replicas)) -}}
{{- fail (printf "replicas: the ensemble has %d members; %d rolled out one by one could make two majorities. Stop it first (docs/kubernetes/production.md, \"Changing the number of members\")" $now (int .Values.replicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What selects the pods. Never more than this: selectors cannot be changed. */}}
{{- define "oxkeeper.selector" -}}
app: {{ include "oxkeeper.fullname" . }}
{{- end -}}

{{- define "oxkeeper.labels" -}}
{{ include "oxkeeper.selector" . }}
app.kubernetes.io/name: oxkeeper
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "oxkeeper.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "oxkeeper.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "oxkeeper.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{- define "oxkeeper.claim" -}}
- metadata:
    name: {{ .name }}
  spec:
    accessModes: [{{ .volume.accessMode }}]
    {{- with .volume.storageClass }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ .volume.size }}
{{- end -}}

{{- define "oxkeeper.fullname" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
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

{{- define "bridge.name" -}}
{{- if contains "bridge" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-bridge" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "bridge.selector" -}}
app.kubernetes.io/name: bridge
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "bridge.labels" -}}
{{ include "bridge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "bridge.secret" -}}
{{ .Values.existingSecret | default (include "bridge.name" .) }}
{{- end }}

{{- define "bridge.account" -}}
{{ if .Values.serviceAccount.create }}{{ include "bridge.name" . }}{{ else }}default{{ end }}
{{- end }}

{{- define "bridge.isNodePort" -}}
{{ if eq .Values.network.mode "nodePort" }}true{{ end }}
{{- end }}

{{- define "netk8s.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{/* Not empty where a node's iptables may be of the legacy backend: k3s and microk8s bring their own. */}}
{{- define "netk8s.legacy" -}}
{{- if has .Values.overlay (list "legacy-iptables" "k3s" "microk8s") }}true{{ end -}}
{{- end -}}

{{/* Not empty for trace --enter-pods. With it an agent that was taken over has the node. */}}
{{- define "netk8s.pods" -}}
{{- if eq .Values.overlay "pod-namespaces" }}true{{ end -}}
{{- end -}}

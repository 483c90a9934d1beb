{{- define "mergenode.servicePorts" -}}
- name: http
  port: {{ .Values.http.port }}
  targetPort: http
  protocol: TCP
{{- if .Values.peers.enabled }}
- name: grpc
  port: {{ .Values.peers.port }}
  targetPort: grpc
  protocol: TCP
{{- if .Values.peers.tokens.enabled }}
- name: grpc-tokens
  port: {{ .Values.peers.tokens.port }}
  targetPort: grpc-tokens
  protocol: TCP
{{- end }}
{{- end }}
{{- end -}}

{{/* Only what never changes: these templates are immutable, so no label with a version in it. */}}
{{- define "mergenode.claimTemplate" -}}
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata:
    name: {{ .name }}
    labels:
      {{- include "mergenode.selector" .root | nindent 6 }}
      {{- with .volume.labels }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- with .volume.annotations }}
    annotations: {{- toYaml . | nindent 6 }}
    {{- end }}
  spec:
    accessModes: {{- toYaml .volume.accessModes | nindent 6 }}
    {{- with .volume.storageClass }}
    storageClassName: {{ . }}
    {{- end }}
    resources:
      requests:
        storage: {{ .volume.size }}
{{- end -}}

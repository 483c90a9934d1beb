{{- define "mergenode.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 letters: pods, claims and Services append to it, and names of hosts end at 63. */}}
{{- define "mergenode.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "mergenode.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "mergenode.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "mergenode.headless" -}}
{{- include "mergenode.fullname" . }}-headless
{{- end -}}

{{/* What never changes in a release: selectors of a StatefulSet are immutable. */}}
{{- define "mergenode.selector" -}}
app.kubernetes.io/name: {{ include "mergenode.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: node
{{- end -}}

{{- define "mergenode.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "mergenode.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: mergenode
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "mergenode.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "mergenode.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "mergenode.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "mergenode.tlsSecret" -}}
{{- if .Values.peers.tls.certManager.enabled -}}
{{- include "mergenode.fullname" . }}-tls
{{- else -}}
{{- .Values.peers.tls.secret -}}
{{- end -}}
{{- end -}}

{{- define "mergenode.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The volume source of {claim, volume}. */}}
{{- define "mergenode.volumeSource" -}}
{{- if .volume -}}
{{- toYaml .volume -}}
{{- else -}}
persistentVolumeClaim:
  claimName: {{ .claim | quote }}
{{- end -}}
{{- end -}}

{{/* Number of seconds between SIGTERM and SIGKILL; fits above the time that the node drains for. */}}
{{- define "mergenode.gracePeriod" -}}
{{- $drain := 100.0 -}}
{{- $given := dig "shutdown" "drain_seconds" nil (.Values.config | default dict) -}}
{{- $grace := .Values.terminationGracePeriodSeconds -}}
{{- if kindIs "string" $given -}}
  {{- if kindIs "invalid" $grace -}}
    {{- fail "terminationGracePeriodSeconds must be given when config.shutdown.drain_seconds is a variable" -}}
  {{- end -}}
  {{- $drain = 0.0 -}}
{{- else if not (kindIs "invalid" $given) -}}
  {{- $drain = float64 $given -}}
{{- end -}}
{{- $least := int (ceil (addf $drain 20.0)) -}}
{{- if kindIs "invalid" $grace -}}
  {{- $least -}}
{{- else if lt (int $grace) $least -}}
  {{- fail (printf "terminationGracePeriodSeconds is %d, less than config.shutdown.drain_seconds and 20 more: at least %d" (int $grace) $least) -}}
{{- else -}}
  {{- int $grace -}}
{{- end -}}
{{- end -}}

{{/* host:port; an IPv6 host gets its brackets. */}}
{{- define "mergenode.listen" -}}
{{- if contains ":" .host -}}[{{ .host }}]{{- else -}}{{ .host }}{{- end -}}:{{ int .port }}
{{- end -}}

{{- define "mergenode.publishPath" -}}
{{- if not .Values.persistence.published.enabled -}}
/data/state/versions
{{- else if .Values.persistence.published.claim -}}
/data/published/${POD_NAME}/versions
{{- else -}}
/data/published/versions
{{- end -}}
{{- end -}}

{{/* node.yaml: the value `config`, and what depends on mounts and names. */}}
{{- define "mergenode.config" -}}
{{- $config := deepCopy (.Values.config | default dict) -}}
{{- $_ := set $config "node" (dict "name" "${POD_NAME}" "state" "/data/state/node") -}}
{{- $_ := set $config "base" "/models/base" -}}
{{- $registries := list -}}
{{- range .Values.registries -}}
  {{- $entry := merge (dict "name" .name "url" (printf "/registries/%s" .name)) (deepCopy (.settings | default dict)) -}}
  {{- $registries = append $registries $entry -}}
{{- end -}}
{{- $_ := set $config "registries" $registries -}}
{{- $publish := merge (dict "path" (include "mergenode.publishPath" .)) (get $config "publish" | default dict) -}}
{{- $_ := set $config "publish" $publish -}}
{{- $_ := set $config "http" (dict "listen" (include "mergenode.listen" (dict "host" .Values.listenHost "port" .Values.http.port))) -}}
{{- if dig "requests" "cpu" "" .Values.resources -}}
  {{- $engine := merge (get $config "engine" | default dict) (dict "threads" "${CPU_REQUEST}") -}}
  {{- $_ := set $config "engine" $engine -}}
{{- end -}}
{{- if .Values.peers.enabled -}}
  {{- $_ := set $config "peers" (include "mergenode.peers" . | fromYaml) -}}
{{- else if get $config "peers" -}}
  {{- fail "config.peers has an effect with peers.enabled: true only" -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* node.yaml without what a running node takes over by itself: see mergenode/settings/reloading.py. */}}
{{- define "mergenode.restartConfig" -}}
{{- $config := omit (include "mergenode.config" . | fromYaml) "log" "gates" -}}
{{- $_ := set $config "publish" (omit $config.publish "keep" "every" "hold_seconds") -}}
{{- $validation := omit (get $config "validation" | default dict) "max_relative_norm" -}}
{{- $_ := set $config "validation" $validation -}}
{{- $registries := list -}}
{{- range $config.registries -}}
  {{- $registries = append $registries (omit . "poll_seconds") -}}
{{- end -}}
{{- $_ := set $config "registries" $registries -}}
{{- toYaml $config -}}
{{- end -}}

{{/* Neighbours are all pods behind the headless Service, however many: certificates there are for its name. */}}
{{- define "mergenode.peers" -}}
{{- $peers := deepCopy (get (.Values.config | default dict) "peers" | default dict) -}}
{{- $domain := printf "%s.${POD_NAMESPACE}.svc" (include "mergenode.headless" .) -}}
{{- $port := int .Values.peers.port -}}
{{- $neighbours := list (printf "dns:%s:%d" $domain $port) -}}
{{- $_ := set $peers "listen" (include "mergenode.listen" (dict "host" .Values.listenHost "port" .Values.peers.port)) -}}
{{- $_ := set $peers "advertise" (printf "${POD_NAME}.%s:%d" $domain $port) -}}
{{- $_ := set $peers "neighbours" (concat $neighbours .Values.peers.neighbours) -}}
{{- if include "mergenode.tlsSecret" . -}}
  {{- $_ := set $peers "tls" (dict "certificate" "/etc/mergenode-tls/tls.crt" "key" "/etc/mergenode-tls/tls.key" "authority" "/etc/mergenode-tls/ca.crt") -}}
{{- else if .Values.peers.insecure -}}
  {{- $_ := set $peers "insecure" true -}}
{{- else -}}
  {{- fail "peers.enabled needs peers.tls.secret or peers.tls.certManager.enabled, or peers.insecure: true where the network is all yours" -}}
{{- end -}}
{{- if .Values.peers.tokens.enabled -}}
  {{- $_ := required "peers.tokens.enabled needs peers.tokens.secret" .Values.peers.tokens.secret -}}
  {{- $own := dict "keys" "/etc/mergenode-tokens/tokens.json" "listen" (include "mergenode.listen" (dict "host" .Values.listenHost "port" .Values.peers.tokens.port)) -}}
  {{- $_ := set $peers "tokens" (merge $own (get $peers "tokens" | default dict)) -}}
{{- end -}}
{{- toYaml $peers -}}
{{- end -}}

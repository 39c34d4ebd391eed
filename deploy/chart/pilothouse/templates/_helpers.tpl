{{- define "pilothouse.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end -}}
{{- end -}}

{{- define "pilothouse.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "pilothouse.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "pilothouse.labels" -}}
{{ include "pilothouse.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "pilothouse.keys" -}}
{{ .Values.masterKeys.existingSecret | default (printf "%s-master-keys" (include "pilothouse.name" .)) }}
{{- end -}}

{{/* The port that the API answers on, and its scheme. */}}
{{- define "pilothouse.scheme" -}}{{ ternary "https" "http" (ne .Values.tls.existingSecret "") }}{{- end -}}
{{- define "pilothouse.port" -}}{{ ternary 8443 8440 (ne .Values.tls.existingSecret "") }}{{- end -}}

{{- define "pilothouse.environment" -}}
- {name: PILOTHOUSE_DATA_DIR, value: /data}
- {name: PILOTHOUSE_HOST, value: 0.0.0.0}
- {name: PILOTHOUSE_LOG_FORMAT, value: json}
- {name: PILOTHOUSE_MONITORING__HOST, value: 0.0.0.0}
- {name: PILOTHOUSE_MONITORING__PORT, value: "9464"}
{{- if .Values.tls.existingSecret }}
- {name: PILOTHOUSE_PORT, value: "0"}
- {name: PILOTHOUSE_TLS__PORT, value: "8443"}
- {name: PILOTHOUSE_TLS__CERTIFICATE, value: /tls/tls.crt}
- {name: PILOTHOUSE_TLS__KEY, value: /tls/tls.key}
{{- else }}
- {name: PILOTHOUSE_PORT, value: "8440"}
- {name: PILOTHOUSE_TLS__PORT, value: "0"}
- {name: PILOTHOUSE_TLS__PLAIN_HTTP, value: "true"}
{{- end }}
{{- if eq .Values.mode "external" }}
- name: PILOTHOUSE_DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ required "database.existingSecret: name a Secret with the URL of your PostgreSQL (key url), or set mode: embedded" .Values.database.existingSecret }}, key: {{ .Values.database.key }}}
{{- end }}
{{- range $name, $value := .Values.settings }}
- {name: PILOTHOUSE_{{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end -}}

{{- define "pilothouse.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "pilothouse.mounts" -}}
- {name: data, mountPath: /data}
- {name: tmp, mountPath: /tmp}
{{- if .Values.tls.existingSecret }}
- {name: tls, mountPath: /tls, readOnly: true}
{{- end }}
{{- end -}}

{{/* Single sign-on: only the API has it, and reads the secrets. */}}
{{- define "pilothouse.oidc.environment" -}}
- {name: PILOTHOUSE_OIDC__FILE, value: /oidc/providers.yaml}
{{- with .Values.oidc.publicUrl }}
- {name: PILOTHOUSE_OIDC__PUBLIC_URL, value: {{ . | quote }}}
{{- end }}
{{- with .Values.oidc.allowed }}
- {name: PILOTHOUSE_OIDC__ALLOWED, value: {{ . | quote }}}
{{- end }}
{{- if .Values.oidc.ca.existingSecret }}
- {name: PILOTHOUSE_OIDC__CA, value: /oidc/ca.crt}
{{- end }}
{{- end -}}

{{- define "pilothouse.oidc.volume" -}}
- name: oidc
  projected:
    sources:
      - configMap: {name: {{ include "pilothouse.name" . }}-oidc}
      {{- if .Values.oidc.ca.existingSecret }}
      - secret:
          name: {{ .Values.oidc.ca.existingSecret }}
          items: [{key: {{ .Values.oidc.ca.key }}, path: ca.crt}]
      {{- end }}
      {{- range .Values.oidc.providers }}
      {{- if .clientSecret }}
      - secret:
          name: {{ .clientSecret.existingSecret }}
          items: [{key: {{ .clientSecret.key | default "client-secret" }}, path: secrets/{{ .name }}}]
      {{- end }}
      {{- end }}
{{- end -}}

{{/* The file that describes the providers, as docs/single-sign-on.md has it. */}}
{{- define "pilothouse.oidc.providers" -}}
{{- $providers := list -}}
{{- $names := list -}}
{{- range .Values.oidc.providers -}}
{{- if and .clientId (not $.Values.oidc.publicUrl) -}}
{{- fail (printf "oidc.publicUrl: say what address browsers reach this server at; provider %s sends people back there" .name) -}}
{{- end -}}
{{- if and .deviceClientId .clientSecret (eq .deviceClientId (.clientId | default "")) -}}
{{- fail (printf "oidc.providers: provider %s: deviceClientId must be another client than clientId, which has a secret" .name) -}}
{{- end -}}
{{- if and .deviceClientId (eq .deviceClientId (.audience | default "")) -}}
{{- fail (printf "oidc.providers: provider %s: deviceClientId must not be the audience, which is for tokens of programs" .name) -}}
{{- end -}}
{{- if has .name $names -}}
{{- fail (printf "oidc.providers: two providers are called %s" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- $provider := dict -}}
{{- range $key, $value := omit . "clientSecret" -}}
{{- $_ := set $provider (snakecase $key) $value -}}
{{- end -}}
{{- if .clientSecret -}}
{{- $_ := set $provider "client_secret_file" (printf "/oidc/secrets/%s" .name) -}}
{{- end -}}
{{- $providers = append $providers $provider -}}
{{- end -}}
{{- range $name, $_ := .Values.settings -}}
{{- if has $name (list "OIDC__FILE" "OIDC__PUBLIC_URL" "OIDC__ALLOWED" "OIDC__CA") -}}
{{- fail (printf "settings.%s: the values of oidc say that too; say it there" $name) -}}
{{- end -}}
{{- end -}}
{{- toYaml (dict "providers" $providers) -}}
{{- end -}}

{{/* Keystone: only the API asks it, and reads the password. */}}
{{- define "pilothouse.keystone.environment" -}}
{{- $texts := dict "url" "URL" "name" "NAME" "title" "TITLE" "account" "ACCOUNT" "user" "USER" "userDomain" "USER_DOMAIN" "project" "PROJECT" "projectDomain" "PROJECT_DOMAIN" "allowed" "ALLOWED" -}}
{{- $ours := concat (values $texts) (list "PASSWORD_FILE" "CA") -}}
{{- range $name, $_ := .Values.settings -}}
{{- if and (hasPrefix "KEYSTONE__" $name) (has (trimPrefix "KEYSTONE__" $name) $ours) -}}
{{- fail (printf "settings.%s: the values of keystone say that too; say it there" $name) -}}
{{- end -}}
{{- end -}}
{{- range .Values.oidc.enabled | ternary .Values.oidc.providers list -}}
{{- if eq .name ($.Values.keystone.name | default "keystone") -}}
{{- fail (printf "keystone.name: a provider of oidc is called %s already; give Keystone another name" .name) -}}
{{- end -}}
{{- end -}}
- {name: PILOTHOUSE_KEYSTONE__PASSWORD_FILE, value: /keystone/password}
{{- range $value, $setting := $texts }}
{{- with get $.Values.keystone $value }}
- {name: PILOTHOUSE_KEYSTONE__{{ $setting }}, value: {{ . | quote }}}
{{- end }}
{{- end }}
{{- if .Values.keystone.ca.existingSecret }}
- {name: PILOTHOUSE_KEYSTONE__CA, value: /keystone/ca.crt}
{{- end }}
{{- end -}}

{{- define "pilothouse.keystone.volume" -}}
- name: keystone
  projected:
    sources:
      - secret:
          name: {{ .Values.keystone.password.existingSecret }}
          items: [{key: {{ .Values.keystone.password.key }}, path: password}]
      {{- if .Values.keystone.ca.existingSecret }}
      - secret:
          name: {{ .Values.keystone.ca.existingSecret }}
          items: [{key: {{ .Values.keystone.ca.key }}, path: ca.crt}]
      {{- end }}
{{- end -}}

{{- define "pilothouse.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 2
  failureThreshold: 90
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  timeoutSeconds: 6
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  timeoutSeconds: 6
{{- end -}}

{{/* What every pod has, around its containers. */}}
{{- define "pilothouse.pod" -}}
serviceAccountName: {{ include "pilothouse.name" . }}
automountServiceAccountToken: false
{{- /* The links of a Service called pilothouse would set PILOTHOUSE_PORT to a URL. */}}
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A new file of master keys with one key, as docs/operations.md describes it. */}}
{{- define "pilothouse.newKey" -}}
{{- $id := randAlphaNum 40 | sha256sum | trunc 8 -}}
{"version": 1, "sealing": "{{ $id }}", "keys": [{"id": "{{ $id }}", "key": "{{ randBytes 32 }}"}]}
{{- end -}}

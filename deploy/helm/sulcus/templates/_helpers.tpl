{{- define "sulcus.name" -}}
{{- if contains "sulcus" .Release.Name -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{- else -}}{{ printf "%s-sulcus" .Release.Name | trunc 40 | trimSuffix "-" }}{{- end -}}
{{- end }}

{{/* Labels by which pods are found; the component is the second element of the list. */}}
{{- define "sulcus.selector" -}}
app.kubernetes.io/name: sulcus
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "sulcus.labels" -}}
{{ include "sulcus.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end }}

{{- define "sulcus.image" -}}
{{- $root := index . 0 -}}
{{ index $root.Values.image (index . 1) }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{/* What every pod's spec begins with. */}}
{{- define "sulcus.pod" -}}
serviceAccountName: {{ include "sulcus.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "sulcus.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "sulcus.env" -}}
{{- $secret := .Values.secretName }}
{{- range $variable, $key := dict "SULCUS_SECRET_KEY" "secret-key" "SULCUS_PSEUDONYM_KEY" "pseudonym-key" "SULCUS_MODEL_KEY" "model-key" "SULCUS_SNAPSHOT_KEY" "snapshot-key" "SULCUS_DATABASE_URL" "database-url" "SULCUS_BROKER_URL" "broker-url" }}
- name: {{ $variable }}
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ $key }}}}
{{- end }}
- {name: SULCUS_PUBLIC_URL, value: {{ .Values.publicUrl | quote }}}
- {name: SULCUS_TRUSTED_PROXIES, value: {{ .Values.trustedProxies | quote }}}
- {name: SULCUS_TRUSTED_HOSTS, value: {{ .Values.trustedHosts | default (urlParse .Values.publicUrl).host | quote }}}
{{- range $variable, $value := .Values.settings }}
- {name: {{ $variable }}, value: {{ $value | quote }}}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "sulcus.envFrom" -}}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "sulcus.mounts" -}}
- {name: data, mountPath: /var/lib/sulcus}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "sulcus.volumes" -}}
- name: data
  {{- if .Values.storage.enabled }}
  persistentVolumeClaim:
    claimName: {{ .Values.storage.existingClaim | default (include "sulcus.name" .) }}
  {{- else }}
  emptyDir: {sizeLimit: {{ .Values.storage.scratch }}}
  {{- end }}
- name: tmp
  emptyDir: {sizeLimit: 2Gi}
{{- end }}

{{- define "sulcus.placing" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* An image: include "meerkat.image" (list . "agent"). */}}
{{- define "meerkat.image" -}}
{{- $root := index . 0 -}}
{{- printf "%s/%s:%s" $root.Values.images.registry (index . 1) ($root.Values.images.tag | default $root.Chart.AppVersion) -}}
{{- end }}

{{- define "meerkat.labels" -}}
app.kubernetes.io/name: meerkat
app.kubernetes.io/component: manager
{{- end }}

{{- /* A quantity of memory in bytes: include "meerkat.bytes" "512Mi". */}}
{{- define "meerkat.bytes" -}}
{{- $text := toString . -}}
{{- $units := dict "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 -}}
{{- $number := regexFind "^[0-9]+" $text -}}
{{- $unit := trimPrefix $number $text -}}
{{- if eq $unit "" -}}
{{- $number -}}
{{- else if hasKey $units $unit -}}
{{- mul (int64 $number) (get $units $unit) -}}
{{- else -}}
{{- fail (printf "manager.resources.limits.memory is %q; write a whole number with Ki, Mi, Gi, Ti, k, M, G, T or nothing" $text) -}}
{{- end -}}
{{- end }}

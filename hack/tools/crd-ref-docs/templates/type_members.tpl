{{- define "type_members" -}}
{{- $field := . -}}
{{- if eq $field.Name "metadata" -}}
Name, namespace, labels and the like.
{{- else -}}
{{ $field.Doc | replace "\nExample" "\x00Example" | replace "\n" " " | replace "\x00" "\n" | markdownRenderFieldDoc }}
{{- end -}}
{{- end -}}

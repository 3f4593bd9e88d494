{{- define "text" -}}
{{ . | replace "\nExample" "\x00Example" | replace "\n\n" "\x01" | replace "\n" " " | replace "\x01" "\n\n" | replace "\x00" "\n" }}
{{- end -}}

{{- define "type" -}}
{{- $type := . -}}
{{- if markdownShouldRenderType $type -}}

### {{ $type.Name }}

{{ template "text" $type.Doc }}

{{ if $type.IsAlias }}A {{ markdownRenderTypeLink $type.UnderlyingType }}.{{ end }}

{{ if $type.References -}}
Stands in:{{ range $i, $reference := $type.SortedReferences }}{{ if $i }},{{ end }} {{ markdownRenderTypeLink $reference }}{{ end }}.
{{- end }}

{{ if $type.Members -}}
| Field | Description | Default | Limits |
| --- | --- | --- | --- |
{{ if $type.GVK -}}
| `apiVersion` _string_ | `{{ $type.GVK.Group }}/{{ $type.GVK.Version }}` | | |
| `kind` _string_ | `{{ $type.GVK.Kind }}` | | |
{{ end -}}

{{ range $type.Members -}}
| `{{ .Name  }}` _{{ markdownRenderType .Type }}_ | {{ template "type_members" . }} | {{ markdownRenderDefault .Default }} | {{ range .Validation }}{{ if not (or (hasPrefix "Optional" .) (contains "XValidation" .)) }}{{ markdownRenderFieldDoc (. | replace ": {}" "") }}<br />{{ end }}{{ end }} |
{{ end -}}

{{ end -}}

{{ if $type.EnumValues -}}
| Value | Meaning |
| --- | --- |
{{ range $type.EnumValues -}}
| `{{ .Name }}` | {{ markdownRenderFieldDoc .Doc | trimSuffix "<br />" }} |
{{ end -}}
{{ end -}}

{{- end -}}
{{- end -}}

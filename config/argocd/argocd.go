// Package argocd holds the scripts that teach Argo CD the health of Meerkat's kinds, and runs them as Argo CD does, for tests.
// People take the scripts from argocd-cm.yaml, or from resource_customizations, which has Argo CD's own layout.
package argocd

import (
	"context"
	"embed"
	"fmt"
	"path"
	"time"

	lua "github.com/yuin/gopher-lua"

	"github.com/meerkat-dev/meerkat/api/v1alpha1"
)

//go:embed resource_customizations/*/*/health.lua
var scripts embed.FS

// Health is what a script says of an object.
type Health struct {
	// Status is Healthy, Progressing or Degraded.
	Status string `json:"status"`
	// Message is for people.
	Message string `json:"message"`
}

// ScriptPath is where a kind's script is, from this directory.
func ScriptPath(kind string) string {
	return path.Join("resource_customizations", v1alpha1.GroupVersion.Group, kind, "health.lua")
}

// Script returns a kind's script.
func Script(kind string) (string, error) {
	data, err := scripts.ReadFile(ScriptPath(kind))
	return string(data), err
}

// HealthOf runs the script of a kind on an object, which is JSON as encoding/json decodes it, but with integers as int64: with the
// libraries that Argo CD opens, and a second's time.
func HealthOf(ctx context.Context, kind string, object map[string]any) (Health, error) {
	script, err := Script(kind)
	if err != nil {
		return Health{}, err
	}
	l := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer l.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage, lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable,
	} {
		if err := l.CallByParam(lua.P{Fn: l.NewFunction(open), NRet: 0, Protect: true}, lua.LString(name)); err != nil {
			return Health{}, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	l.SetContext(ctx)
	l.SetGlobal("obj", luaValue(l, object))
	if err := l.DoString(script); err != nil {
		return Health{}, err
	}
	result, ok := l.Get(-1).(*lua.LTable)
	if !ok {
		return Health{}, fmt.Errorf("the script of %s returns a %s, not a table", kind, l.Get(-1).Type())
	}
	return Health{lua.LVAsString(result.RawGetString("status")), lua.LVAsString(result.RawGetString("message"))}, nil
}

// luaValue is a JSON value in Lua.
func luaValue(l *lua.LState, value any) lua.LValue {
	switch v := value.(type) {
	case bool:
		return lua.LBool(v)
	case string:
		return lua.LString(v)
	case int64:
		return lua.LNumber(v)
	case float64:
		return lua.LNumber(v)
	case []any:
		table := l.CreateTable(len(v), 0)
		for _, item := range v {
			table.Append(luaValue(l, item))
		}
		return table
	case map[string]any:
		table := l.CreateTable(0, len(v))
		for key, item := range v {
			table.RawSetString(key, luaValue(l, item))
		}
		return table
	default:
		return lua.LNil
	}
}

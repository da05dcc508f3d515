package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
)

// Own tells whether a secret that a policy names is one of the process's own,
// which no policy may send anywhere: those who push policies need not be those
// who run the gateway.
func (c *Config) Own(s Secret) error {
	own := ownSecrets{env: map[string]bool{}, files: map[string]bool{}}
	settings := reflect.ValueOf(*c)
	for i := range settings.NumField() {
		if settings.Field(i).Type() != reflect.TypeFor[Policy]() {
			own.collect(settings.Type().Field(i), settings.Field(i))
		}
	}
	if own.env[s.Env] {
		return fmt.Errorf("environment variable %s is a secret of the gateway's own, not of a service; give the service's credential another name", s.Env)
	}
	if s.File == "" {
		return nil
	}
	file := place(s.File)
	state, err := filepath.Rel(place(c.StateDir), file)
	if own.files[file] || err == nil && state != ".." && !strings.HasPrefix(state, ".."+string(filepath.Separator)) {
		return fmt.Errorf("file %s is the gateway's own, not a service's credential; keep that elsewhere", s.File)
	}
	return nil
}

// ownSecrets are the names of what the settings keep secret.
type ownSecrets struct{ env, files map[string]bool }

// collect takes what a setting names: secrets, and files (keys and certificates).
func (o *ownSecrets) collect(field reflect.StructField, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if s, ok := v.Interface().(Secret); ok {
			if s.Env != "" {
				o.env[s.Env] = true
			}
			if s.File != "" {
				o.files[place(s.File)] = true
			}
			return
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				o.collect(f, v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			o.collect(field, v.Index(i))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			o.collect(field, v.Elem())
		}
	case reflect.String:
		if name := field.Tag.Get("yaml"); v.Len() > 0 && (strings.HasSuffix(name, "_file") || name == "store") {
			o.files[place(v.String())] = true
		}
	}
}

// place is where a file lies, links followed as far as there are any.
func place(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if found, err := filepath.EvalSymlinks(path); err == nil {
		return found
	}
	return filepath.Clean(path)
}

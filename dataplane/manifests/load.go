package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"unicode/utf8"
)

// maxFileBytes bounds one file, and also one document with its anchors written out.
const maxFileBytes = 10 << 20

// Load reads files of YAML or JSON documents. A directory stands for the .yaml, .yml and .json files that lie right in it, "-"
// for the standard input. The error, if any, is Faults with everything that is wrong in all of the files, or that of a file
// that cannot be read.
func Load(paths ...string) (*Objects, error) {
	files, err := expand(paths)
	if err != nil {
		return nil, err
	}
	r := newReader()
	var unreadable []error
	for _, file := range files {
		if err := r.readFile(file); err != nil {
			unreadable = append(unreadable, err)
		}
	}
	objects, err := r.result()
	if len(unreadable) > 0 {
		return nil, errors.Join(append(unreadable, err)...)
	}
	return objects, err
}

// Read reads the documents of one stream; name stands for the file's in faults. Its error is as that of Load.
func Read(name string, in io.Reader) (*Objects, error) {
	r := newReader()
	if err := r.readStream(name, in); err != nil {
		return nil, err
	}
	return r.result()
}

// expand replaces directories by their files, in the order of their names.
func expand(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		if path == "-" {
			files = append(files, path)
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, fmt.Errorf("cannot read manifests: %w", err)
		}
		if !info.IsDir() {
			files = append(files, path)
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, fmt.Errorf("cannot read manifests: %w", err)
		}
		found := false
		for _, entry := range entries {
			if slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(entry.Name())) && !entry.IsDir() {
				files = append(files, filepath.Join(path, entry.Name()))
				found = true
			}
		}
		if !found {
			return nil, fmt.Errorf("%s: the directory has no .yaml, .yml or .json file; name the files, or a directory that has some", path)
		}
	}
	return files, nil
}

func (r *reader) readFile(path string) error {
	if path == "-" {
		return r.readStream("standard input", os.Stdin)
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("cannot read manifests: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	return r.readStream(path, file)
}

// readStream reads one file. Its error is the stream's; what is wrong with the text becomes faults.
func (r *reader) readStream(name string, in io.Reader) error {
	data, err := io.ReadAll(io.LimitReader(in, maxFileBytes+1))
	if err != nil {
		return fmt.Errorf("cannot read manifests from %s: %w", name, err)
	}
	before := len(r.faults)
	r.readText(name, data)
	fresh := slices.Clone(r.faults[before:]).sorted()
	r.faults = append(r.faults[:before], fresh...)
	return nil
}

func (r *reader) readText(name string, data []byte) {
	whole := Origin{File: name}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if len(data) > maxFileBytes {
		r.fault(Fault{Origin: whole, Why: fmt.Sprintf("is larger than %d MiB; split it into several files", maxFileBytes>>20)})
		return
	}
	if line, why := notText(data); why != "" {
		r.fault(Fault{Origin: Origin{File: name, Line: line}, Why: why})
		return
	}
	for i, doc := range splitDocuments(data) {
		r.readDocument(Origin{File: name, Document: i + 1, Line: doc.line}, doc.text)
	}
}

// notText returns the first line with something that cannot stand in YAML, and what that is.
func notText(data []byte) (line int, why string) {
	line = 1
	for i := 0; i < len(data); {
		char, size := utf8.DecodeRune(data[i:])
		switch {
		case char == utf8.RuneError && size == 1:
			return line, fmt.Sprintf("is not UTF-8 text (byte %#02x); save the file as UTF-8", data[i])
		case char == '\n':
			line++
		case char < ' ' && char != '\t' && char != '\r', char == 0x7f:
			return line, fmt.Sprintf(`has the control character %#02x, which YAML does not allow; remove it, or write it as an escape in double quotes ("\x%02x")`, char, char)
		}
		i += size
	}
	return 0, ""
}

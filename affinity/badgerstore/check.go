package badgerstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"github.com/dgraph-io/ristretto/v2/z"
	"google.golang.org/protobuf/proto"
)

// checkFiles looks for damage before badger does: badger opens tables in goroutines of its own, where damage ends the
// process.
func checkFiles(ctx context.Context, dir string) error {
	f, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		return checkNoTables(dir)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	manifest, _, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions(dir).WithLogger(nil))
	if err != nil {
		return damaged(badger.ManifestFilename, err)
	}
	for id := range manifest.Tables {
		if err := ctx.Err(); err != nil {
			return err
		}
		path := table.NewFilename(id, dir)
		if err := checkTable(path); err != nil {
			return damaged(filepath.Base(path), err)
		}
	}
	return nil
}

// checkNoTables refuses tables without a manifest: badger would delete them.
func checkNoTables(dir string) error {
	l, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err == nil && len(l) > 0 {
		err = damaged(badger.ManifestFilename, fmt.Errorf("missing, but there are %d tables", len(l)))
	}
	return err
}

// checkTable verifies all checksums of a table.
func checkTable(path string) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%.60v", p)
		}
	}()
	m, err := z.OpenMmapFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := checkFooter(m.Data); err != nil {
		return errors.Join(err, m.Close(-1))
	}
	t, err := table.OpenTable(m, table.Options{ChkMode: options.OnTableRead, Compression: options.None})
	if err != nil {
		return err
	}
	return t.Close(-1)
}

// checkFooter verifies what badger trusts blindly: a table ends in its index, the index's length (4 bytes), a
// checksum message over the index, and that message's length (4 bytes).
func checkFooter(b []byte) error {
	sum, b, err := cutTail(b)
	if err != nil {
		return err
	}
	index, _, err := cutTail(b)
	if err != nil {
		return err
	}
	var c pb.Checksum
	if err := proto.Unmarshal(sum, &c); err != nil {
		return fmt.Errorf("checksum of the index: %w", err)
	}
	if c.Algo != pb.Checksum_CRC32C && c.Algo != pb.Checksum_XXHash64 {
		return fmt.Errorf("checksum of the index: unknown kind %d", c.Algo)
	}
	return y.VerifyChecksum(index, &c)
}

// cutTail cuts a piece and its length off the end of b.
func cutTail(b []byte) (piece, rest []byte, err error) {
	n := len(b) - 4
	if n < 0 {
		return nil, nil, errors.New("cut short")
	}
	size := int64(binary.BigEndian.Uint32(b[n:]))
	if size == 0 || size > int64(n) {
		return nil, nil, fmt.Errorf("a piece of %d bytes does not fit", size)
	}
	return b[n-int(size) : n], b[:n-int(size)], nil
}

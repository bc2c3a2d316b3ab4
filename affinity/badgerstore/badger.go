package badgerstore

import (
	"fmt"
	"log/slog"
	"math"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// memTable is the size of badger's write buffer. A log of the same size is on disk for each of up to memTables of them.
const (
	memTable  = 16 << 20
	memTables = 2
	maxKey    = 1 << 10
	maxValue  = 256 << 10
)

func badgerOptions(dir string, log *slog.Logger, compact bool) badger.Options {
	o := badger.DefaultOptions(dir).
		WithLogger(badgerLog{log}).
		WithBypassLockGuard(true). // the Store holds the same lock, and earlier
		WithSyncWrites(true).
		WithDetectConflicts(false). // one writer
		WithMetricsEnabled(false).
		WithMemTableSize(memTable).
		WithNumMemtables(memTables).
		WithNumCompactors(2).
		WithBaseTableSize(8 << 20).
		WithValueThreshold(1 << 20). // above maxValue: the value log stays empty
		WithValueLogFileSize(1 << 20).
		WithCompression(options.None). // blocks are read in place from the map: no block cache
		WithBlockCacheSize(0).
		WithBloomFalsePositive(0). // nothing is ever looked up by key
		WithChecksumVerificationMode(options.OnBlockRead)
	if !compact {
		o = o.WithNumCompactors(0).WithNumLevelZeroTablesStall(math.MaxInt)
	}
	return o
}

// openBadger opens badger; a panic of it is taken for damage.
func openBadger(dir string, log *slog.Logger, compact bool) (db *badger.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, damaged("badger", fmt.Errorf("%.200v", p))
		}
	}()
	db, err = badger.Open(badgerOptions(dir, log, compact))
	if err != nil {
		return nil, damaged("badger", err)
	}
	return db, nil
}

// badgerLog hands badger's chatter on. What badger calls information is a debugger's.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) Errorf(format string, a ...any)   { l.log.Warn("badger", "text", text(format, a)) }
func (l badgerLog) Warningf(format string, a ...any) { l.log.Warn("badger", "text", text(format, a)) }
func (l badgerLog) Infof(format string, a ...any)    { l.log.Debug("badger", "text", text(format, a)) }
func (l badgerLog) Debugf(string, ...any)            {}

func text(format string, a []any) string { return strings.TrimSpace(fmt.Sprintf(format, a...)) }

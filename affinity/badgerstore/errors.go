package badgerstore

import (
	"errors"
	"fmt"
)

// The errors of a store that a caller may want to tell apart. All come wrapped.
var (
	ErrFull        = errors.New("not enough room")
	ErrInUse       = errors.New("in use by another process")
	ErrNewerFormat = errors.New("made by a newer version")
	ErrForeign     = errors.New("holds files that are not a store's")
	ErrDamaged     = errors.New("damaged; move the directory aside and let the director refill the store from its peers or the NMS")
)

func damaged(what string, err error) error {
	if errors.Is(err, ErrDamaged) {
		return err
	}
	return fmt.Errorf("%s: %w: %w", what, err, ErrDamaged)
}

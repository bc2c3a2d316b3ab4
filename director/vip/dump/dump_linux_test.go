package dump

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestWhole(t *testing.T) {
	other := errors.New("no such device")
	for _, c := range []struct {
		name  string
		fails []error // of the first readings; then all is well
		want  error
		reads int
	}{
		{"at once", nil, nil, 1},
		{"changed twice", []error{netlink.ErrDumpInterrupted, fmt.Errorf("list: %w", netlink.ErrDumpInterrupted)}, nil, 3},
		{"another fault", []error{other}, other, 1},
		{"never still", make([]error, 100), netlink.ErrDumpInterrupted, readings},
	} {
		n := 0
		list, err := Whole(func() ([]int, error) {
			n++
			if n > len(c.fails) {
				return []int{n}, nil
			}
			if c.fails[n-1] == nil {
				return []int{7}, netlink.ErrDumpInterrupted
			}
			return []int{7}, c.fails[n-1]
		})
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || n != c.reads {
			t.Errorf("%s: %v after %d readings", c.name, err, n)
		}
		if err == nil && list[0] != n {
			t.Errorf("%s: the list of reading %d", c.name, list[0])
		}
	}
}

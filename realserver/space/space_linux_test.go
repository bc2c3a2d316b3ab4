package space

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"tunneldirector/integration/spaces"
)

// namespace makes one, and its path.
func namespace(t *testing.T) Space {
	t.Helper()
	spaces.Root(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	name := "td-space-" + t.Name()
	made, err := netns.NewNamed(name)
	if err := errors.Join(err, netns.Set(own)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		made.Close()
		if err := netns.DeleteNamed(name); err != nil {
			t.Error(err)
		}
	})
	return Space(name)
}

func links(t *testing.T, s Space) int {
	t.Helper()
	n := -1
	if err := s.Do(func() error {
		list, err := netlink.LinkList()
		n = len(list)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDo(t *testing.T) {
	s := namespace(t)
	own := links(t, "")
	if err := s.Do(func() error { return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "there"}}) }); err != nil {
		t.Fatal(err)
	}
	if there, by := links(t, s), links(t, Space("/run/netns/"+string(s))); there < 2 || there != by {
		t.Errorf("%d links by name, %d by path; want lo and the new one", there, by)
	}
	if now := links(t, ""); now != own {
		t.Errorf("%d links here, %d before", now, own)
	}
	if err := s.Do(func() error { return os.ErrExist }); !errors.Is(err, os.ErrExist) {
		t.Errorf("got %v", err)
	}
}

// What ends its goroutine, as t.Fatal does, is an error and not a wait for ever.
func TestDoEnds(t *testing.T) {
	if err := namespace(t).Do(func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("no error")
	}
}

func TestDoNowhere(t *testing.T) {
	if err := Space("td-space-none").Do(func() error { return nil }); err == nil {
		t.Error("no error of a namespace that is not there")
	}
}

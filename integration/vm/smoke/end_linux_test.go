package smoke

import (
	"os"
	"testing"
	"time"
)

// TestEnd ends the guest in the way that END names, so that the host can be seen to notice.
func TestEnd(t *testing.T) {
	inGuest(t)
	switch end := os.Getenv("END"); end {
	case "panic":
		if err := os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0); err != nil {
			t.Fatal(err)
		}
		t.Error("the kernel did not panic")
	case "memory":
		var held [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += os.Getpagesize() {
				b[i] = 1
			}
			held = append(held, b)
			if len(held) > 1<<20 {
				t.Fatal("there is no end to the memory")
			}
		}
	case "hang":
		time.Sleep(time.Hour)
	default:
		t.Skip("END names no way to end the guest")
	}
}

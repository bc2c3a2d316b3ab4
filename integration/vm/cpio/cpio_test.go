package cpio

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBytes holds the writer against an archive written by hand from the format's description.
func TestBytes(t *testing.T) {
	const zero = "00000000"
	field := func(values ...string) string { return "070701" + strings.Join(values, "") }
	want := field("00000001", "000041ed", zero, zero, "00000002", zero, zero, zero, zero, zero, zero, "00000002", zero) + "a\x00" + // 110+2: no padding
		field("00000002", "000089ed", zero, zero, "00000001", zero, "00000005", zero, zero, zero, zero, "00000004", zero) + "a/b\x00\x00\x00" + "five!\x00\x00\x00" +
		field("00000003", "0000a1ff", zero, zero, "00000001", zero, "00000004", zero, zero, zero, zero, "00000004", zero) + "a/l\x00\x00\x00" + "../x" +
		field("00000004", zero, zero, zero, "00000001", zero, zero, zero, zero, zero, zero, "0000000b", zero) + "TRAILER!!!\x00\x00\x00\x00"

	var got bytes.Buffer
	w := NewWriter(&got)
	if err := errors.Join(
		w.File("/a/b", 0o4755, 5, strings.NewReader("five!")), // the directory comes by itself
		w.Dir("a"),
		w.Link("a//l", "../x"),
		w.Close(),
	); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
}

func TestErrors(t *testing.T) {
	t.Run("content is short, and it stays an error", func(t *testing.T) {
		w := NewWriter(io.Discard)
		if err := w.File("a", 0o644, 3, strings.NewReader("ab")); !errors.Is(err, io.EOF) {
			t.Errorf("got %v", err)
		}
		if err := w.Close(); err == nil {
			t.Error("the archive could be closed")
		}
	})
	t.Run("larger than the format can say", func(t *testing.T) {
		if err := NewWriter(io.Discard).File("a", 0o644, 1<<32, nil); err == nil {
			t.Error("no error")
		}
	})
}

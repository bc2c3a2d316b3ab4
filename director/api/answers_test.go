package api

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// hungUp is a client that has hung up.
type hungUp struct{ http.ResponseWriter }

func (hungUp) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// What is applied as a whole goes on when its client has gone, and says at the end that nobody read; all else stops.
func TestAnswersToNobody(t *testing.T) {
	for _, whole := range []bool{true, false} {
		out := newAnswers(hungUp{httptest.NewRecorder()}, httptest.NewRequest("PUT", "/v1/tunnels", nil))
		out.whole = whole
		line := StreamLine{ID: strings.Repeat("x", 40<<10)}
		var err error
		for range 2 * answerBlocks {
			if err = out.add(line); err != nil {
				break
			}
			if len(out.buf) > 0 {
				t.Fatalf("%d bytes are kept", len(out.buf))
			}
		}
		if (err == nil) != whole || err != nil && !errors.Is(err, errUnread) {
			t.Errorf("whole %t: %v", whole, err)
		}
		if err := out.close(); whole && !errors.Is(err, errUnread) {
			t.Errorf("closed: %v", err)
		}
	}
}

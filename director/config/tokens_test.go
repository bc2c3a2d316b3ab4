package config

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

func TestFind(t *testing.T) {
	tokens, err := ParseTokens([]byte("- {name: nms1, role: nms, sha256: " + hash("old") + "}\n- {name: nms1, role: nms, sha256: " + hash("new") +
		"}\n- {name: ann, role: operator, sha256: \"" + strings.ToUpper(hash("ann's")) + "\"}\n- {name: rehearse, role: drill, sha256: " + hash("oops") + "}\n- {name: wall, role: read, sha256: " + hash("") + "}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if tokens.Len() != 5 {
		t.Errorf("%d tokens", tokens.Len())
	}
	tests := []struct {
		secret, name, role string
		ok                 bool
	}{
		{"old", "nms1", "nms", true}, {"new", "nms1", "nms", true}, {"ann's", "ann", "operator", true}, {"oops", "rehearse", "drill", true},
		{"", "wall", "read", true}, {"Old", "", "", false}, {hash("old"), "", "", false},
	}
	for _, tt := range tests {
		name, role, ok := tokens.Find(tt.secret)
		if name != tt.name || role != tt.role || ok != tt.ok {
			t.Errorf("Find(%q) = %q, %q, %v", tt.secret, name, role, ok)
		}
	}
	if _, _, ok := (Tokens{}).Find("old"); ok {
		t.Error("no tokens, but one was found")
	}
}

// Hashes that look like numbers are text all the same.
func TestHashesLikeNumbers(t *testing.T) {
	for _, sum := range []string{strings.Repeat("1", 64), strings.Repeat("0", 63) + "7", "1e" + strings.Repeat("5", 62), "0e" + strings.Repeat("0", 62)} {
		tokens, err := ParseTokens([]byte("- {name: a, role: read, sha256: " + sum + "}"))
		if err != nil {
			t.Errorf("%s: %v", sum, err)
			continue
		}
		if got := hex.EncodeToString(tokens.list[0].sum[:]); got != sum {
			t.Errorf("%s was read as %s", sum, got)
		}
	}
}

func TestTokenFaults(t *testing.T) {
	a, b := hash("a"), hash("b")
	tests := []struct {
		name, text string
		want       []string
	}{
		{"empty", "", []string{"holds no token; add one (name, role, sha256), or leave api.tokens_file out"}},
		{"no list", "name: a\n", []string{"is a mapping, not a list ([a, b]) (line 1)"}},
		{"lacks", "- {role: nms, sha256: " + a + "}\n- {name: x, sha256: " + a + "}\n- {name: x, role: nms}\n", []string{
			"[0]: lacks name (line 1)", "[1]: lacks role: nms, operator, drill or read (line 2)", "[2]: lacks sha256: of the secret, in hex (line 3)"}},
		{"the secret itself", "- {name: x, role: nms, sha256: hunter2}\n", []string{"[0].sha256: is not a SHA-256 in hex (64 digits); make it by: printf %s SECRET | sha256sum (line 1)"}},
		{"too long", "- {name: x, role: nms, sha256: " + a + a + "}\n", []string{"[0].sha256: is not a SHA-256 in hex (64 digits); make it by: printf %s SECRET | sha256sum (line 1)"}},
		{"role", "- {name: x, role: root, sha256: " + a + "}\n", []string{`[0].role: "root" is not one of nms, operator, drill, read (line 1)`}},
		{"a secret key", "- {name: x, role: nms, secret: s}\n", []string{"[0].secret: unknown key; known here are name, role, sha256 (line 1, column 24)"}},
		{"twice", "- {name: x, role: nms, sha256: " + a + "}\n- {name: y, role: read, sha256: " + a + "}\n- {name: x, role: operator, sha256: " + b + "}\n", []string{
			`[1]: has the same secret as another token, "x"; each needs its own (line 2)`, `[2]: "x" has the role nms above, operator here; one name has one role (line 3)`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseTokens([]byte(tt.text))
			if diff := cmp.Diff(tt.want, words(t, err)); diff != "" {
				t.Error(diff)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Error("the secret is in the error")
			}
		})
	}
}

func TestReadTokensRefusesOpenFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	if err := os.WriteFile(path, []byte("- {name: x, role: nms, sha256: "+hash("x")+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o640: true, 0o400: true, 0o644: false, 0o660: false, 0o602: false, 0o601: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if tokens, err := ReadTokens(path); (err == nil) != ok || ok && tokens.Len() != 1 {
			t.Errorf("mode %o: %v", mode, err)
		} else if !ok && !strings.Contains(err.Error(), "chmod 640") {
			t.Errorf("mode %o: no remedy in %v", mode, err)
		}
	}
	if _, err := ReadTokens(filepath.Dir(path)); err == nil {
		t.Error("a directory was read")
	}
}

package config

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
)

// The roles of tokens.
const (
	TokenRead     = "read"
	TokenNMS      = "nms"
	TokenOperator = "operator"
	TokenDrill    = "drill"
)

// Tokens are who may call the API. The file holds only hashes of the secrets, which are random and long, so that a fast
// hash is enough. It is a list:
//
//   - name: nms1      # owns the tunnels it pushes
//     role: nms       # nms, operator, drill or read
//     sha256: 9f86... # of the secret, in hex
//
// A name may stand twice, with one role, while its secret is being changed.
type Tokens struct{ list []token }

type token struct {
	name, role string
	sum        [sha256.Size]byte
}

// Find tells whose secret this is. It takes as long for a wrong one as for a right one.
func (t Tokens) Find(secret string) (name, role string, ok bool) {
	sum := sha256.Sum256([]byte(secret))
	found := -1
	for i := range t.list {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(sum[:], t.list[i].sum[:]), i, found)
	}
	if found < 0 {
		return "", "", false
	}
	return t.list[found].name, t.list[found].role, true
}

// Len is how many there are.
func (t Tokens) Len() int { return len(t.list) }

// ReadTokens reads the file of tokens, which strangers must not be able to read or write.
func ReadTokens(path string) (Tokens, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Tokens{}, fmt.Errorf("read tokens: %w", err)
	}
	if mode := info.Mode(); !mode.IsRegular() || mode&0o027 != 0 {
		return Tokens{}, fmt.Errorf("read tokens %s: mode %s is open to others than its owner and group, or not a file; chmod 640", path, fs.FileMode(mode))
	}
	data, err := readFile(path)
	if err != nil {
		return Tokens{}, fmt.Errorf("read tokens: %w", err)
	}
	t, err := ParseTokens(data)
	if err != nil {
		return Tokens{}, fmt.Errorf("tokens %s:\n%w", path, err)
	}
	return t, nil
}

// ParseTokens reads the text of a file of tokens. The error is Faults.
func ParseTokens(data []byte) (Tokens, error) {
	var r reader
	var t Tokens
	docs := r.documents(data)
	for _, d := range docs {
		d.list(func(v value) {
			before := len(r.Faults)
			x, hash := v.token()
			if len(r.Faults) == before && x.name == "" {
				v.fault("lacks name")
			}
			if len(r.Faults) == before && x.role == "" {
				v.fault("lacks role: nms, operator, drill or read")
			}
			if len(r.Faults) == before && !hash {
				v.fault("lacks sha256: of the secret, in hex")
			}
			if len(r.Faults) == before {
				v.addToken(&t, x)
			}
		})
	}
	if len(t.list) == 0 && len(r.Faults) == 0 {
		r.Fault("", nil, "holds no token; add one (name, role, sha256), or leave api.tokens_file out")
	}
	if err := r.Err(); err != nil {
		return Tokens{}, err
	}
	return t, nil
}

func (v value) token() (x token, hash bool) {
	v.fields(
		field{"name", func(v value) { v.name(&x.name) }},
		field{"role", func(v value) { v.oneOf(&x.role, TokenNMS, TokenOperator, TokenDrill, TokenRead) }},
		field{"sha256", func(v value) {
			s, ok := v.hexText()
			if !ok {
				return
			}
			// The text is not repeated in the fault: it may be the secret itself, put here by mistake.
			sum, err := hex.DecodeString(s)
			if err != nil || len(sum) != len(x.sum) {
				v.fault("is not a SHA-256 in hex (64 digits); make it by: printf %%s SECRET | sha256sum")
				return
			}
			x.sum, hash = [sha256.Size]byte(sum), true
		}},
	)
	return x, hash
}

// addToken adds x unless it contradicts another.
func (v value) addToken(t *Tokens, x token) {
	for _, o := range t.list {
		if o.sum == x.sum {
			v.fault("has the same secret as another token, %q; each needs its own", o.name)
			return
		}
		if o.name == x.name && o.role != x.role {
			v.fault("%q has the role %s above, %s here; one name has one role", x.name, o.role, x.role)
			return
		}
	}
	t.list = append(t.list, x)
}

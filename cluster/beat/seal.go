package beat

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"slices"
)

// purpose is authenticated with each heartbeat, so that nothing else that is sealed by the same key passes for one.
const purpose = "tunneldirector-beat/1"

// errKey says that no key opens a datagram: it is of another cluster, or of a director whose keyring differs, or garbage.
var errKey = errors.New("no key of the keyring opens it")

// A Ring has the keys that all directors share.
type Ring interface {
	Keys() [][]byte // AES keys; the first seals, all open
}

// A sealer seals and opens with the keys of a ring as they are at the time. It is for one goroutine.
type sealer struct {
	ring  Ring
	keys  [][]byte
	aeads []cipher.AEAD
}

// fresh takes over the keys of the ring if they have changed.
func (s *sealer) fresh() error {
	keys := s.ring.Keys()
	if len(s.aeads) > 0 && slices.EqualFunc(keys, s.keys, bytes.Equal) {
		return nil
	}
	if len(keys) == 0 {
		return errors.New("the keyring is empty")
	}
	var aeads []cipher.AEAD
	for i, key := range keys {
		block, err := aes.NewCipher(key)
		if err != nil {
			return fmt.Errorf("key %d of the keyring: %w", i+1, err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return fmt.Errorf("key %d of the keyring: %w", i+1, err)
		}
		aeads = append(aeads, aead)
	}
	s.keys, s.aeads = slices.Clone(keys), aeads
	return nil
}

// seal makes a datagram.
func (s *sealer) seal(plain []byte) ([]byte, error) {
	if err := s.fresh(); err != nil {
		return nil, fmt.Errorf("seal heartbeat: %w", err)
	}
	return s.aeads[0].Seal(nil, nil, plain, []byte(purpose)), nil
}

// open is what a datagram says; errKey if it is none of ours.
func (s *sealer) open(datagram []byte) ([]byte, error) {
	if err := s.fresh(); err != nil {
		return nil, fmt.Errorf("open heartbeat: %w", err)
	}
	for _, aead := range s.aeads {
		if plain, err := aead.Open(nil, nil, datagram, []byte(purpose)); err == nil {
			return plain, nil
		}
	}
	return nil, errKey
}

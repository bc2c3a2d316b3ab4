package strongswan

import (
	"strconv"
	"strings"
)

// suite is what an IKE SA was negotiated to, in charon's words.
type suite struct{ cipher, bits, integrity, prf, group string }

// read reads one of its parts. Most SAs have the same ones: texts of another's are used again.
func (s *suite) read(key string, value []byte, like suite) {
	switch key {
	case "encr-alg":
		s.cipher = sameText(value, like.cipher)
	case "encr-keysize":
		s.bits = sameText(value, like.bits)
	case "integ-alg":
		s.integrity = sameText(value, like.integrity)
	case "prf-alg":
		s.prf = sameText(value, like.prf)
	case "dh-group":
		s.group = sameText(value, like.group)
	}
}

// sameText is a text; the one that is there if that is the same.
func sameText(value []byte, there string) string {
	if string(value) == there {
		return there
	}
	return string(value)
}

// proposal is a suite in the words of a configuration; "" if some of it has none here.
func (s suite) proposal() string {
	var parts []string
	switch mode, aead := strings.CutPrefix(s.cipher, "AES_"); {
	case s.cipher == "CHACHA20_POLY1305":
		parts = append(parts, "chacha20poly1305")
	case s.cipher == "3DES_CBC":
		parts = append(parts, "3des")
	case s.cipher == "AES_CBC":
		parts = append(parts, "aes"+s.bits)
	case aead: // GCM_16, CCM_8, CTR
		parts = append(parts, "aes"+s.bits+strings.ReplaceAll(strings.ToLower(mode), "_", ""))
	default:
		return ""
	}
	hashes := map[string]string{"SHA1": "sha1", "SHA2_256": "sha256", "SHA2_384": "sha384", "SHA2_512": "sha512"}
	if s.integrity != "" {
		name, _ := strings.CutPrefix(s.integrity, "HMAC_") // HMAC_SHA2_256_128: the last number is the cut
		hash := hashes[name[:max(0, strings.LastIndexByte(name, '_'))]]
		if hash == "" {
			return ""
		}
		parts = append(parts, hash)
	}
	prf, ok := strings.CutPrefix(s.prf, "PRF_HMAC_")
	if !ok || hashes[prf] == "" {
		return ""
	}
	parts = append(parts, "prf"+hashes[prf])
	kind, size, _ := strings.Cut(s.group, "_")
	kind = map[string]string{"MODP": "modp", "ECP": "ecp", "CURVE": "x"}[kind]
	if _, err := strconv.Atoi(size); err != nil || kind == "" { // MODP_2048_256, ECP_256_BP
		return ""
	}
	parts = append(parts, kind+size)
	return strings.Join(parts, "-")
}

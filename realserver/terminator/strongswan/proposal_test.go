package strongswan

import "testing"

func TestProposal(t *testing.T) {
	for _, tt := range []struct {
		suite suite
		want  string
	}{
		{suite{"AES_GCM_16", "128", "", "PRF_HMAC_SHA2_256", "ECP_256"}, "aes128gcm16-prfsha256-ecp256"},
		{suite{"AES_CBC", "256", "HMAC_SHA2_384_192", "PRF_HMAC_SHA2_384", "MODP_3072"}, "aes256-sha384-prfsha384-modp3072"},
		{suite{"AES_CTR", "192", "HMAC_SHA1_96", "PRF_HMAC_SHA1", "CURVE_25519"}, "aes192ctr-sha1-prfsha1-x25519"},
		{suite{"CHACHA20_POLY1305", "256", "", "PRF_HMAC_SHA2_512", "CURVE_448"}, "chacha20poly1305-prfsha512-x448"},
		{suite{"3DES_CBC", "", "HMAC_SHA1_96", "PRF_HMAC_SHA1", "MODP_1024"}, "3des-sha1-prfsha1-modp1024"},
		{suite{"CAMELLIA_CBC", "128", "HMAC_SHA1_96", "PRF_HMAC_SHA1", "MODP_1024"}, ""},
		{suite{"AES_CBC", "128", "AES_XCBC_96", "PRF_AES128_XCBC", "MODP_2048"}, ""},
		{suite{"AES_GCM_16", "128", "", "PRF_HMAC_SHA2_256", "ECP_256_BP"}, ""},
		{},
	} {
		if got := tt.suite.proposal(); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.suite, got, tt.want)
		}
	}
}

// TestProposalsLikeOthers: what other tunnels have comes first.
func TestProposalsLikeOthers(t *testing.T) {
	f := startFake(t)
	one := known("sites", "1", "site-1", "203.0.113.11 500", installed("net", "c0000001", false, "100.64.1.0/28"))
	for key, value := range map[string]string{"encr-alg": "AES_GCM_16", "encr-keysize": "256", "prf-alg": "PRF_HMAC_SHA2_384", "dh-group": "ECP_384"} {
		one = one.with(key, value)
	}
	f.sas = []fakeSA{one}
	d := f.driver(Options{})
	if got := d.proposals("sites"); len(got) != 1 || got[0] != "default" {
		t.Errorf("with nothing known: %q", got)
	}
	if _, err := d.Tunnels(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.sas = nil
	if _, err := d.Tunnels(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, connection := range []string{"sites", "others"} {
		if got := d.proposals(connection); len(got) != 2 || got[0] != "aes256gcm16-prfsha384-ecp384" {
			t.Errorf("of %s: %q", connection, got)
		}
	}
}

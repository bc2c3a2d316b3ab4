package config

import (
	"os"
	"testing"
)

func TestExampleTokens(t *testing.T) {
	data, err := os.ReadFile("../../examples/tokens.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := ParseTokens(data)
	if err != nil {
		t.Fatal(err)
	}
	if tokens.Len() != 4 {
		t.Errorf("%d tokens, want 4", tokens.Len())
	}
}

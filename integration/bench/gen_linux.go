package main

//go:generate go tool bpf2go -target bpfel -tags linux -type hop -type sums wire bpf/wire.c -- -O2 -g -Wall -Wextra -Wno-unused-parameter -Wno-address-of-packed-member -Werror -I../../director/plane/xdp/bpf

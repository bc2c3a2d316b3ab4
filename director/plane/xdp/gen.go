package xdp

//go:generate go tool bpf2go -target bpfel -tags linux -type addr -type rule forward bpf/forward.c -- -O2 -g -Wall -Wextra -Wno-address-of-packed-member -Werror -Ibpf

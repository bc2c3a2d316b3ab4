// Package space runs code in another network namespace, for real servers that live in one of their own.
package space

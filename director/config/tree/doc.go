// Package tree is what the readers of files that people write have in common: YAML becomes a tree, each key of it stands once, and all
// that is wrong is gathered, with its path and its line, and told at once. Which keys there are, and what their values mean, is the
// readers' to know, and so are the words for it.
package tree

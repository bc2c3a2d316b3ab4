package tree

import "github.com/goccy/go-yaml/ast"

// A Pair is a key of a mapping and what stands under it.
type Pair struct {
	Name  string   // the key
	Plain bool     // it is text, or a number where that is a key, too
	Key   ast.Node // where it stands
	First int      // the line in which it stood before; 0: nowhere
	Path  string   // of Value
	Value ast.Node // nil: none
}

// Pairs are those of the mapping at a path, of which whole numbers may be keys as they are written; ok tells whether it is one.
func Pairs(n ast.Node, path string, numbers bool) (list []Pair, ok bool) {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		return nil, false
	}
	first := map[string]int{}
	for _, v := range values {
		p := Pair{Key: v.Key}
		p.Name, p.Plain = Text(v.Key)
		if n, number := v.Key.(*ast.IntegerNode); number && numbers {
			p.Name, p.Plain = n.Token.Value, true
		}
		if p.Path = p.Name; path != "" {
			p.Path = path + "." + p.Name
		}
		if !Absent(v.Value) {
			p.Value = v.Value
		}
		if p.First = first[p.Name]; p.First == 0 && p.Plain {
			first[p.Name] = Line(v.Key)
		}
		list = append(list, p)
	}
	return list, true
}

// Absent tells whether there is nothing: a key without a value, or a document of comments.
func Absent(n ast.Node) bool {
	return n == nil || n.Type() == ast.NullType || n.Type() == ast.CommentType
}

// Text is what a node of text says.
func Text(n ast.Node) (s string, ok bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}

// Line is where a node stands, from 1; 0 of none.
func Line(n ast.Node) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 0
	}
	return n.GetToken().Position.Line
}

// Kind says in words what a node is.
func Kind(n ast.Node) string {
	if n == nil {
		return "empty"
	}
	switch n.Type() {
	case ast.MappingType, ast.MappingValueType:
		return "a mapping"
	case ast.SequenceType:
		return "a list"
	case ast.StringType, ast.LiteralType:
		return "text"
	case ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType:
		return "a number"
	case ast.BoolType:
		return "true or false"
	case ast.AliasType, ast.AnchorType, ast.MergeKeyType:
		return "an anchor or alias (not read here: write it out)"
	case ast.TagType:
		return "tagged (not read here: leave the tag out)"
	}
	return "something else"
}

package drill

import "github.com/go-json-experiment/json"

// Durations are text (612ms), whoever encodes: the tags that say so are an option of the JSON package, which these methods set.

func marshal(v any) ([]byte, error) { return json.Marshal(v, json.ExperimentalSupportFormatTag(true)) }

func unmarshal(data []byte, v any) error {
	return json.Unmarshal(data, v, json.ExperimentalSupportFormatTag(true))
}

// MarshalJSON writes durations as text.
func (d Drill) MarshalJSON() ([]byte, error) {
	type plain Drill
	return marshal(plain(d))
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (d *Drill) UnmarshalJSON(data []byte) error {
	type plain Drill
	return unmarshal(data, (*plain)(d))
}

// MarshalJSON writes durations as text.
func (r Result) MarshalJSON() ([]byte, error) {
	type plain Result
	return marshal(plain(r))
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *Result) UnmarshalJSON(data []byte) error {
	type plain Result
	return unmarshal(data, (*plain)(r))
}

// MarshalJSON writes durations as text.
func (s Summary) MarshalJSON() ([]byte, error) {
	type plain Summary
	return marshal(plain(s))
}

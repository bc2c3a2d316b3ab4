package affinity

import "unique"

// intern makes equal strings share memory: director names stand in every record.
func intern(s string) string { return unique.Make(s).Value() }

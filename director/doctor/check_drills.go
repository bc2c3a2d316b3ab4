package doctor

import (
	"context"
	"fmt"
	"time"

	"tunneldirector/director/api"
)

// drills looks for failures that somebody makes on purpose: what else is found may come of them.
func (e *exam) drills(context.Context) error {
	if e.Faults == nil {
		return nil
	}
	for _, f := range e.Faults() {
		severity, mend := api.Notes, "it is undone at "+f.Until.UTC().Format(time.RFC3339)+"; at once by director drill undo"
		if f.Error != "" {
			severity, mend = api.Risks, "director drill undo; it could not be undone by itself: "+f.Error
		}
		what := fmt.Sprintf("%s made %s at %s on purpose, for a drill", f.By, f.Kind, f.Target)
		e.find(severity, f.Target, f.At, what, "what the failure itself does: other findings may come of it", mend)
	}
	return nil
}

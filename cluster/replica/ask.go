package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// answerWithin is how long a question may take.
const answerWithin = 30 * time.Second

// errNotConnected is wrapped by the error of a question to a director that there is no connection to.
var errNotConnected = errors.New("not connected")

// Ask puts a question of at most 1 MiB to another director, and waits for the answer or the end of ctx.
func (r *Replica) Ask(ctx context.Context, name string, body []byte) ([]byte, error) {
	if len(body) > maxQuestion-16 {
		return nil, fmt.Errorf("ask %s: a question of %d bytes, the limit is %d", name, len(body), maxQuestion-16)
	}
	var l *link
	reply := make(chan answer, 1)
	q := question{body: body}
	err := r.until(ctx, func() bool {
		if p := r.peers[name]; p == nil {
			l = nil
		} else if l = p.dialled.link; l == nil {
			l = p.accepted.link
		}
		if l == nil || len(l.answers) < inQuestions {
			r.asked++
			q.id = r.asked
			if l != nil {
				l.answers[q.id] = reply
				l.questions <- q // it has room for as many as may be open
			}
			return true
		}
		return false
	})
	if err == nil && l == nil {
		err = errNotConnected
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", name, err)
	}
	select {
	case a := <-reply:
		if a.failed {
			return nil, fmt.Errorf("ask %s: it says: %s", name, a.body)
		}
		return a.body, nil
	case <-l.gone:
		return nil, fmt.Errorf("ask %s: %w any more", name, errNotConnected)
	case <-ctx.Done():
		return nil, fmt.Errorf("ask %s: %w", name, context.Cause(ctx))
	}
}

// ask sends questions.
func (l *link) ask(ctx context.Context) error {
	for {
		select {
		case q := <-l.questions:
			if err := l.write(ctx, q); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// answer answers a question.
func (l *link) answer(ctx context.Context, q question) error {
	soon, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	body, err := l.r.o.Local.Answer(soon, l.p.name, q.body)
	if err == nil && len(body) > maxQuestion-16 {
		err = fmt.Errorf("an answer of %d bytes, the limit is %d", len(body), maxQuestion-16)
	}
	a := answer{id: q.id, body: body}
	if err != nil {
		why := []byte(err.Error())
		a.failed, a.body = true, bytes.ToValidUTF8(why[:min(len(why), maxOrigin)], nil)
	}
	<-l.asked // before the answer: the peer may ask on as soon as it has it
	return l.write(ctx, a)
}

// answered hands an answer to who waits for it, if it still does. A question that is given up counts until it is answered.
func (l *link) answered(a answer) error {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	reply, ok := l.answers[a.id]
	if !ok {
		return errors.New("an answer to no question")
	}
	delete(l.answers, a.id)
	reply <- a
	l.r.poke()
	return nil
}

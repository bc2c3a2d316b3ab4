// Package monitoring holds alert rules and a dashboard for a director's metrics, and the tests that they are right.
package monitoring

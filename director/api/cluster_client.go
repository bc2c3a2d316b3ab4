package api

import (
	"context"
	"net/http"
	"net/url"
)

// Cluster reads how the directors stand, as the one that is asked sees them.
func (c *Client) Cluster(ctx context.Context) (ClusterStatus, error) {
	return call[ClusterStatus](ctx, c, http.MethodGet, "/v1/cluster", nil, nil)
}

// LeaveCluster has the director say that it goes, and tells whether it had done so before.
func (c *Client) LeaveCluster(ctx context.Context) (already bool, err error) {
	d, err := call[Done](ctx, c, http.MethodPost, "/v1/cluster/leave", nil, nil)
	return d.Already, err
}

// ForgetDirector has all directors forget one that is dead.
func (c *Client) ForgetDirector(ctx context.Context, name string) error {
	_, err := call[Done](ctx, c, http.MethodPost, "/v1/cluster/forget/"+url.PathEscape(name), nil, nil)
	return err
}

// Keyring reads the keys, as fingerprints.
func (c *Client) Keyring(ctx context.Context) ([]KeyInfo, error) {
	l, err := call[KeyList](ctx, c, http.MethodGet, "/v1/cluster/keyring", nil, nil)
	return l.Keys, err
}

// ChangeKeyring changes the ring of all directors; it answers the fingerprint of the key.
func (c *Client) ChangeKeyring(ctx context.Context, k KeyringRequest) (string, error) {
	a, err := call[KeyringChanged](ctx, c, http.MethodPost, "/v1/cluster/keyring", nil, k)
	return a.Fingerprint, err
}
